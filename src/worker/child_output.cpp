// Two pipes and a deadline.

#include "saturn/worker/child_output.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>

#include "saturn/base/clock.h"
#include "saturn/base/units.h"
#include "worker/processes.h"

namespace saturn::worker {
namespace {

constexpr std::size_t kMaxOutputBytes = std::size_t{4} << 20;

struct Pipe {
  FileDescriptor read_end;
  FileDescriptor write_end;
};

Result<Pipe> make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) return system_fault("", "make a pipe", errno);
  return Pipe{FileDescriptor(ends[0]), FileDescriptor(ends[1])};
}

// Takes what is there; closes the pipe at its end.
void take(FileDescriptor& pipe, std::string& into) {
  std::array<char, 1 << 14> bytes;
  const ssize_t n = ::read(pipe.get(), bytes.data(), bytes.size());
  if (n < 0 && errno == EINTR) return;
  if (n <= 0) {
    pipe.reset();
  } else {
    into.append(bytes.data(), static_cast<std::size_t>(n));
  }
}

}  // namespace

Result<ChildOutput> run_child(const ChildCommand& command) {
  SATURN_TRY(Pipe out, make_pipe());
  SATURN_TRY(Pipe error, make_pipe());
  Spawn request{.executable = command.executable,
                .arguments = {"saturn"},
                .stdout_fd = out.write_end.get(),
                .stderr_fd = error.write_end.get()};
  request.arguments.insert(request.arguments.end(), command.arguments.begin(), command.arguments.end());
  SATURN_TRY(const pid_t pid, spawn(request));
  out.write_end.reset();
  error.write_end.reset();

  const SystemClock clock;
  const double deadline_s = clock.now_s() + command.deadline_s;
  ChildOutput output;
  std::string trouble;
  while ((out.read_end.valid() || error.read_end.valid()) && trouble.empty()) {
    std::array<pollfd, 2> watched = {{{out.read_end.get(), POLLIN, 0}, {error.read_end.get(), POLLIN, 0}}};
    const double left_s = std::max(deadline_s - clock.now_s(), 0.0);
    ::poll(watched.data(), watched.size(), static_cast<int>(std::ceil(left_s * 1e3)));
    if (watched[0].revents != 0) take(out.read_end, output.stdout_text);
    if (watched[1].revents != 0) take(error.read_end, output.stderr_text);
    if (output.stdout_text.size() + output.stderr_text.size() > kMaxOutputBytes) trouble = "printed too much";
    if (clock.now_s() >= deadline_s) trouble = "did not end within " + format_duration(command.deadline_s);
  }
  // Whatever still holds the pipes, or runs on without them, has had its time.
  siginfo_t how{};
  if (trouble.empty()) {
    while (clock.now_s() < deadline_s &&
           ::waitid(P_PID, static_cast<id_t>(pid), &how, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           how.si_pid == 0) {
      ::usleep(1000);
    }
    if (how.si_pid == 0) trouble = "did not end within " + format_duration(command.deadline_s);
  }
  ::kill(-pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!trouble.empty()) {
    std::string shown = "saturn";
    for (const std::string& argument : command.arguments) shown += " " + argument;
    return Diagnostic{
        .kind = Kind::machine, .what = "`" + shown + "` " + trouble, .expected = "a short answer"};
  }
  if (WIFEXITED(status)) output.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) output.signal = WTERMSIG(status);
  return output;
}

}  // namespace saturn::worker

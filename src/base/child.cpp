// Fork, pipe, and an end whatever happens.

#include "saturn/base/child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace saturn {
namespace {

void write_everything(int fd, const std::string& text) {
  for (std::size_t written = 0; written < text.size();) {
    const ssize_t n = ::write(fd, text.data() + written, text.size() - written);
    if (n < 0 && errno != EINTR) return;  // nobody reads any more
    if (n > 0) written += static_cast<std::size_t>(n);
  }
}

[[noreturn]] void work_and_exit(const std::function<void(const Child::Say&)>& work, int niceness, int fd,
                                pid_t parent) {
  ::setpgid(0, 0);
  for (const int signal_number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::signal(signal_number, SIG_DFL);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
  if (niceness > 0) ::setpriority(PRIO_PROCESS, 0, niceness);
  work([fd](const std::string& text) { write_everything(fd, text); });
  ::_exit(0);
}

}  // namespace

Result<Child> Child::start(const std::string& what, int niceness,
                           const std::function<void(const Say&)>& work) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return system_fault(what, "open a pipe", errno);
  Child child;
  child.read_end_.reset(ends[0]);
  const FileDescriptor write_end(ends[1]);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) return system_fault(what, "start a process", errno);
  if (pid == 0) work_and_exit(work, niceness, write_end.get(), parent);
  ::setpgid(pid, pid);  // both sides set it: whoever comes first
  ::fcntl(child.read_end_.get(), F_SETFL, O_NONBLOCK);
  child.pid_ = pid;
  return child;
}

Child& Child::operator=(Child&& other) noexcept {
  if (this == &other) return *this;
  end();
  pid_ = std::exchange(other.pid_, 0);
  read_end_ = std::move(other.read_end_);
  return *this;
}

bool Child::receive(std::string& text) {
  while (lives()) {
    char bytes[1 << 14];
    const ssize_t n = ::read(read_end_.get(), bytes, sizeof bytes);
    if (n > 0) {
      text.append(bytes, static_cast<std::size_t>(n));
    } else if (n == 0) {
      return false;
    } else if (errno != EINTR) {
      return true;  // EAGAIN: still at work
    }
  }
  return false;
}

std::optional<std::string> Child::wait() {
  if (!lives()) return std::nullopt;
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
  read_end_.reset();
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return std::nullopt;
  return WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                             : "exit code " + std::to_string(WEXITSTATUS(status));
}

void Child::end() {
  if (!lives()) return;
  ::kill(-pid_, SIGKILL);
  wait();
}

}  // namespace saturn

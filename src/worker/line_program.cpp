// A socket pair that is the program's stdin and stdout.

#include "saturn/worker/line_program.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "worker/processes.h"

namespace saturn::worker {
namespace {

constexpr std::size_t kLongestLineBytes = std::size_t{1} << 20;
constexpr std::size_t kShownBytes = 300;  // of what it last wrote to stderr

// What stands last in a file, as one line.
std::string last_line_of(const std::string& path) {
  const Result<std::string> text = read_whole(path, std::uint64_t{16} << 20);
  if (!text.ok()) return "";
  const std::size_t end = text->find_last_not_of('\n');
  if (end == std::string::npos) return "";
  const std::size_t begin = text->rfind('\n', end);
  const std::string line = text->substr(begin == std::string::npos ? 0 : begin + 1, end - begin);
  return line.substr(0, std::min(kShownBytes, line.find_last_not_of('\n') + 1));
}

class SpawnedProgram final : public LineProgram {
 public:
  SpawnedProgram(std::string name, std::string log_path, pid_t pid, FileDescriptor stream)
      : name_(std::move(name)), log_path_(std::move(log_path)), pid_(pid), stream_(std::move(stream)) {}
  ~SpawnedProgram() override { end(); }

  void send(const std::string& line) override {
    unsent_ += line + "\n";
    flush();
  }

  std::optional<Result<std::string>> take() override {
    if (!stream_.valid()) return std::nullopt;
    flush();
    receive();
    const std::size_t end_of_line = received_.find('\n');
    if (end_of_line != std::string::npos) {
      std::string line = received_.substr(0, end_of_line);
      received_.erase(0, end_of_line + 1);
      return Result<std::string>(std::move(line));
    }
    if (received_.size() > kLongestLineBytes) return fault("wrote a line of more than a megabyte");
    if (!closed_) return std::nullopt;
    return fault("ended with " + how_it_ended());
  }

  int fd() const override { return stream_.get(); }

 private:
  void flush() {
    while (!unsent_.empty() && stream_.valid()) {
      const ssize_t n = ::send(stream_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return;  // full, or gone: reading tells which
      unsent_.erase(0, static_cast<std::size_t>(n));
    }
  }

  void receive() {
    std::array<char, 1 << 14> bytes;
    while (received_.size() <= kLongestLineBytes) {
      const ssize_t n = ::recv(stream_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
      if (n <= 0) {
        closed_ = true;
        return;
      }
      received_.append(bytes.data(), static_cast<std::size_t>(n));
    }
  }

  std::optional<Result<std::string>> fault(const std::string& what) {
    end();
    const std::string said = last_line_of(log_path_);
    return Result<std::string>(
        Diagnostic{.kind = Kind::job_failed,
                   .where = log_path_,
                   .what = in_quotes(name_) + " " + what + (said.empty() ? "" : "; it last said: " + said),
                   .expected = "a program that answers every line with one"});
  }

  // It has closed its output: whatever of it still runs has had its time.
  std::string how_it_ended() {
    constexpr int kLooks = 100;
    int status = 0;
    pid_t reaped = 0;
    for (int i = 0; i < kLooks && (reaped = ::waitpid(pid_, &status, WNOHANG)) == 0; ++i) ::usleep(10'000);
    if (reaped != pid_) return "its output closed";
    ::kill(-pid_, SIGKILL);
    pid_ = 0;
    return WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                               : "exit code " + std::to_string(WEXITSTATUS(status));
  }

  void end() {
    stream_.reset();
    if (pid_ <= 0) return;
    ::kill(-pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
  }

  std::string name_;
  std::string log_path_;
  pid_t pid_;
  FileDescriptor stream_;
  std::string unsent_;
  std::string received_;
  bool closed_ = false;
};

}  // namespace

Result<std::unique_ptr<LineProgram>> start_line_program(const std::vector<std::string>& command,
                                                        const std::string& directory,
                                                        const std::string& log_path) {
  SATURN_CHECK(!command.empty(), "a command has at least its program");
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return system_fault("", "make a socket pair", errno);
  FileDescriptor ours(ends[0]);
  const FileDescriptor theirs(ends[1]);
  SATURN_TRY(const FileDescriptor log, open_log(log_path));
  // env looks the program up and changes the directory, which a forked child may not do safely itself.
  Spawn request{.executable = "/usr/bin/env",
                .arguments = {"env", "--chdir=" + directory, "--"},
                .environment = {"PYTHONUNBUFFERED=1"},
                .stdin_fd = theirs.get(),
                .stdout_fd = theirs.get(),
                .stderr_fd = log.get()};
  request.arguments.insert(request.arguments.end(), command.begin(), command.end());
  SATURN_TRY(const pid_t pid, spawn(request));
  return std::unique_ptr<LineProgram>(new SpawnedProgram(command.front(), log_path, pid, std::move(ours)));
}

}  // namespace saturn::worker

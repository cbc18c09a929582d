// Fork, a pair of pipes, and length-prefixed reports. The controller has one thread, so the child may go on
// with everything it inherited.

#include "plan/helper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>

namespace saturn::plan {
namespace {

template <class T>
void put(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
T take(const char*& at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  at += sizeof value;
  return value;
}

std::string encode(const Report& report) {
  std::string body;
  put(body, report.bound_s);
  put(body, report.iterations);
  put(body, static_cast<std::uint32_t>(report.by.size()));
  body += report.by;
  put(body, static_cast<std::uint32_t>(report.solution.size()));
  for (const Choice& choice : report.solution) put(body, choice);
  std::string whole;
  put(whole, static_cast<std::uint32_t>(body.size()));
  return whole + body;
}

Report decode_report(const char* at) {
  Report report;
  report.bound_s = take<double>(at);
  report.iterations = take<std::int64_t>(at);
  const auto by = take<std::uint32_t>(at);
  report.by.assign(at, by);
  at += by;
  report.solution.resize(take<std::uint32_t>(at));
  for (Choice& choice : report.solution) choice = take<Choice>(at);
  return report;
}

}  // namespace

bool Link::flush() {
  while (!unsent_.empty()) {
    const ssize_t wrote = ::write(write_.get(), unsent_.data(), unsent_.size());
    if (wrote >= 0) {
      unsent_.erase(0, static_cast<std::size_t>(wrote));
    } else if (errno == EAGAIN) {
      return true;
    } else if (errno != EINTR) {
      return false;
    }
  }
  return true;
}

bool Link::send(const Report& report) {
  if (!flush()) return false;
  // The parent's end does not block: a child deep in CBC reads nothing, perhaps for as long as it lives. What
  // has begun goes on when there is room; what has not is dropped, since a better one follows.
  if (!unsent_.empty()) return true;
  unsent_ = encode(report);
  return flush();
}

std::vector<Report> Link::receive(double wait_s) {
  flush();
  pollfd ready{read_.get(), POLLIN, 0};
  int timeout_ms = static_cast<int>(std::ceil(std::min(wait_s, 1e6) * 1000.0));
  while (!closed_ && ::poll(&ready, 1, timeout_ms) > 0) {
    timeout_ms = 0;
    char bytes[65536];
    const ssize_t got = ::read(read_.get(), bytes, sizeof bytes);
    if (got > 0) {
      buffer_.append(bytes, static_cast<std::size_t>(got));
    } else if (got == 0 || errno != EINTR) {
      closed_ = true;
    }
  }
  std::vector<Report> reports;
  std::size_t used = 0;
  while (buffer_.size() - used >= sizeof(std::uint32_t)) {
    const char* at = buffer_.data() + used;
    const auto size = take<std::uint32_t>(at);
    if (buffer_.size() - used - sizeof size < size) break;
    reports.push_back(decode_report(at));
    used += sizeof size + size;
  }
  buffer_.erase(0, used);
  return reports;
}

std::unique_ptr<Helper> Helper::start(const std::function<void(Link&)>& work) {
  int down[2];
  int up[2];
  if (::pipe2(down, O_CLOEXEC) != 0) return nullptr;
  if (::pipe2(up, O_CLOEXEC) != 0) {
    ::close(down[0]);
    ::close(down[1]);
    return nullptr;
  }
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) {
    for (const int fd : {down[0], down[1], up[0], up[1]}) ::close(fd);
    return nullptr;
  }
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(0);
    // Ctrl-C is for the parent, which then ends this process.
    ::signal(SIGINT, SIG_IGN);
    ::signal(SIGTERM, SIG_DFL);
    ::signal(SIGPIPE, SIG_IGN);
    // CBC prints however often it is told not to.
    const int null_fd = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null_fd >= 0) ::dup2(null_fd, STDOUT_FILENO);
    ::close(down[1]);
    ::close(up[0]);
    Link link(down[0], up[1]);
    work(link);
    ::_exit(0);
  }
  ::close(down[0]);
  ::close(up[1]);
  ::fcntl(down[1], F_SETFL, O_NONBLOCK);
  return std::unique_ptr<Helper>(new Helper(child, up[0], down[1]));
}

Helper::~Helper() {
  ::kill(child_, SIGKILL);
  while (::waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace saturn::plan

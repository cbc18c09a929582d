// Fork, a pair of sockets, and length-prefixed reports. The controller has one thread, so the child may go on
// with everything it inherited.

#include "plan/helper.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
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
    const ssize_t wrote = ::send(fd_.get(), unsent_.data(), unsent_.size(), MSG_NOSIGNAL);
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
  pollfd ready{fd_.get(), POLLIN, 0};
  int timeout_ms = static_cast<int>(std::ceil(std::min(wait_s, 1e6) * 1000.0));
  while (!closed_ && ::poll(&ready, 1, timeout_ms) > 0) {
    timeout_ms = 0;
    char bytes[65536];
    const ssize_t got = ::read(fd_.get(), bytes, sizeof bytes);
    if (got > 0) {
      buffer_.append(bytes, static_cast<std::size_t>(got));
    } else if (got == 0 || (errno != EINTR && errno != EAGAIN)) {
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
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return nullptr;
  FileDescriptor parents(ends[0]);
  FileDescriptor childs(ends[1]);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0) return nullptr;
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(0);
    // Ctrl-C is for the parent, which then ends this process.
    ::signal(SIGINT, SIG_IGN);
    ::signal(SIGTERM, SIG_DFL);
    // CBC prints however often it is told not to.
    const int null_fd = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null_fd >= 0) ::dup2(null_fd, STDOUT_FILENO);
    parents.reset();
    Link link(std::move(childs));
    work(link);
    ::_exit(0);
  }
  childs.reset();
  ::fcntl(parents.get(), F_SETFL, O_NONBLOCK);
  return std::unique_ptr<Helper>(new Helper(child, std::move(parents)));
}

Helper::~Helper() {
  ::kill(child_, SIGKILL);
  while (::waitpid(child_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

}  // namespace saturn::plan

// Finding processes by a mark in their environment.

#include "worker/processes.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>

namespace saturn::worker {
namespace {

// A sleeping program with `environment`, killed with it. It has begun: its program was executed.
class Sleeper {
 public:
  explicit Sleeper(std::vector<std::string> environment) {
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    std::vector<char*> variables;
    for (std::string& one : environment) variables.push_back(one.data());
    variables.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ == 0) {
      ::execle("/bin/sleep", "sleep", "1000", nullptr, variables.data());
      ::_exit(127);
    }
    ::close(ends[1]);
    char nothing = 0;
    CHECK(::read(ends[0], &nothing, 1) == 0);  // closed by executing
    ::close(ends[0]);
  }
  ~Sleeper() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_ = 0;
};

bool has(const std::vector<pid_t>& pids, pid_t pid) {
  return std::find(pids.begin(), pids.end(), pid) != pids.end();
}

TEST_SUITE("worker") {
  TEST_CASE("worker/processes: what has memory but no environment may carry a mark yet") {
    const std::string mark = "SATURN_TEST_MARK=" + random_key(8);
    const Sleeper marked({mark + ".1"});
    const Sleeper other({"SATURN_TEST_MARK=another"});
    const Sleeper bare({});
    while (!has(processes_marked(mark), marked.pid())) ::usleep(1000);  // its environment is laid out last
    std::vector<pid_t> unsettled;
    CHECK(processes_marked(mark, &unsettled) == std::vector<pid_t>{marked.pid()});
    CHECK(has(unsettled, bare.pid()));
    CHECK_FALSE(has(unsettled, marked.pid()));
    CHECK_FALSE(has(unsettled, ::getpid()));
    for (const pid_t pid : {marked.pid(), other.pid(), bare.pid()}) CHECK(is_descendant(pid));
    CHECK_FALSE(is_descendant(::getppid()));

    CHECK(end_marked(mark, &unsettled) == std::vector<pid_t>{marked.pid()});
    siginfo_t how{};
    CHECK(::waitid(P_PID, static_cast<id_t>(marked.pid()), &how, WEXITED | WNOWAIT) == 0);
    unsettled.clear();
    CHECK(processes_marked(mark, &unsettled).empty());  // dead, though nobody has waited for it
    CHECK_FALSE(has(unsettled, marked.pid()));
  }
}

}  // namespace
}  // namespace saturn::worker

// Ranks that outlive their controller are known by process id and start time, and by nothing less.

#include "saturn/worker/survivors.h"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "worker/processes.h"

namespace saturn::worker {
namespace {

/// A process that leads a group of its own, as a rank does, with a child in it.
struct Survivor {
  pid_t pid = 0;
  int alive = -1;  ///< readable, at its end, once nobody of the group lives

  Survivor() {
    std::array<int, 2> ends{};
    REQUIRE(::pipe(ends.data()) == 0);
    pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      ::setpgid(0, 0);
      ::close(ends[0]);
      if (::fork() >= 0 && ::write(ends[1], "x", 1) == 1)
        for (;;) ::pause();
      ::_exit(1);
    }
    ::close(ends[1]);
    alive = ends[0];
    std::array<char, 2> both{};
    for (std::size_t n = 0; n < both.size();) {
      const ssize_t got = ::read(alive, both.data(), both.size() - n);
      REQUIRE(got > 0);
      n += static_cast<std::size_t>(got);
    }
  }
  ~Survivor() {
    ::kill(-pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    ::close(alive);
  }
};

TEST_SUITE("worker") {
  TEST_CASE(
      "worker/survivors: a process of the recorded start time is ended with its group and no other is") {
    Survivor rank;
    const std::uint64_t ticks = start_ticks_of(rank.pid);
    REQUIRE(ticks > 0);
    // Another process has that number now; nothing was recorded; nobody; init.
    CHECK(end_survivors({{.pid = rank.pid, .start_ticks = ticks + 1},
                         {.pid = rank.pid, .start_ticks = 0},
                         {.pid = 0, .start_ticks = ticks},
                         {.pid = 1, .start_ticks = start_ticks_of(1)},
                         {.pid = -rank.pid, .start_ticks = ticks}}) == 0);
    CHECK(::waitpid(rank.pid, nullptr, WNOHANG) == 0);

    CHECK(end_survivors({{.pid = rank.pid, .start_ticks = ticks}}) == 1);
    int status = 0;
    REQUIRE(::waitpid(rank.pid, &status, 0) == rank.pid);
    REQUIRE(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGKILL);
    char byte = 0;
    CHECK(::read(rank.alive, &byte, 1) == 0);  // waits until its child is gone too
    CHECK(end_survivors({{.pid = rank.pid, .start_ticks = ticks}}) == 0);
  }
}

}  // namespace
}  // namespace saturn::worker

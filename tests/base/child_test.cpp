#include "saturn/base/child.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "saturn/base/statistics.h"

namespace saturn {
namespace {

std::string heard_from(Child& child) {
  std::string text;
  while (child.receive(text)) {
    pollfd waiting{child.fd(), POLLIN, 0};
    ::poll(&waiting, 1, -1);
  }
  return text;
}

TEST_SUITE("base") {
  TEST_CASE("base/child: says more than a pipe holds and ends orderly") {
    const std::string half(300'000, 'x');
    Result<Child> child = Child::start("test", 0, [&](const Child::Say& say) {
      say(half);
      say("end");
    });
    REQUIRE(child.ok());
    CHECK(child->lives());
    CHECK(heard_from(*child) == half + "end");
    CHECK_FALSE(child->wait().has_value());
    CHECK_FALSE(child->lives());
    CHECK(child->fd() == -1);
  }

  TEST_CASE("base/child: how a child died is told and one that nobody wants any more is gone") {
    Result<Child> child = Child::start("test", 0, [](const Child::Say&) { ::raise(SIGKILL); });
    REQUIRE(child.ok());
    CHECK(heard_from(*child).empty());
    CHECK(child->wait() == "signal 9");
    pid_t pid = 0;
    {
      Result<Child> endless = Child::start("test", 0, [](const Child::Say& say) {
        say(std::to_string(::getpid()));
        for (;;) ::pause();
      });
      REQUIRE(endless.ok());
      std::string text;
      pollfd waiting{endless->fd(), POLLIN, 0};
      ::poll(&waiting, 1, -1);
      Child moved = *std::move(endless);
      REQUIRE(moved.receive(text));
      pid = std::stoi(text);
      CHECK(::kill(pid, 0) == 0);
    }
    CHECK(::kill(pid, 0) != 0);
  }

  TEST_CASE("base/statistics: factors have mean one and are a function of their key") {
    double sum = 0.0;
    for (std::uint64_t key = 0; key < 4000; ++key) sum += factor_of(0.3, key);
    CHECK(sum / 4000.0 == doctest::Approx(1.0).epsilon(0.02));
    CHECK(factor_of(0.3, 7) == factor_of(0.3, 7));
    CHECK(factor_of(0.0, 7) == 1.0);
  }
}

}  // namespace
}  // namespace saturn

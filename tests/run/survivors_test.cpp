// A controller that finds ranks of a dead one still alive ends them before it goes on.

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "saturn/run/session.h"
#include "tests/support/scripted_run.h"
#include "worker/processes.h"

namespace saturn::run {
namespace {

using journal::EventKind;
using testing::ScriptedRun;

/// The scripted launcher, whose ranks are all one process that really lives.
class WithProcess final : public worker::Launcher {
 public:
  WithProcess(worker::ScriptedLauncher& scripted, pid_t pid) : scripted_(scripted), pid_(pid) {}

  Result<std::vector<worker::RankProcess>> launch(worker::LaunchRequest request) override {
    SATURN_TRY(std::vector<worker::RankProcess> ranks, scripted_.launch(std::move(request)));
    for (worker::RankProcess& rank : ranks) {
      rank.pid = pid_;
      rank.start_ticks = worker::start_ticks_of(pid_);
    }
    return ranks;
  }
  void send(const std::string& attempt, int rank, const worker::ToRank& message) override {
    scripted_.send(attempt, rank, message);
  }
  void send_all(const std::string& attempt, const worker::ToRank& message) override {
    scripted_.send_all(attempt, message);
  }
  std::vector<worker::WorkerEvent> poll(double timeout_s) override { return scripted_.poll(timeout_s); }
  void set_wake_fds(std::vector<int> fds) override { scripted_.set_wake_fds(std::move(fds)); }
  void stop(const std::string& attempt, double grace_s) override { scripted_.stop(attempt, grace_s); }
  void set_num_standby(int count) override { scripted_.set_num_standby(count); }
  int num_living() const override { return scripted_.num_living(); }

 private:
  worker::ScriptedLauncher& scripted_;
  pid_t pid_;
};

TEST_SUITE("run") {
  TEST_CASE("run/survivors: a rank that outlived its controller is ended by the next one (fault 2)") {
    struct Crash {};
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      ::setpgid(0, 0);
      for (;;) ::pause();
    }
    ::setpgid(pid, pid);
    ScriptedRun paper;
    std::unique_ptr<WithProcess> launcher;
    paper.wrap_launcher = [&](worker::ScriptedLauncher& scripted) -> worker::Launcher& {
      launcher = std::make_unique<WithProcess>(scripted, pid);
      return *launcher;
    };
    paper.observer.after_event = [&](const journal::Event& event) {
      if (event.kind == EventKind::training && event.job == "b") throw Crash{};
    };
    CHECK_THROWS_AS((void)paper.run(), Crash);
    CHECK(::waitpid(pid, nullptr, WNOHANG) == 0);

    paper.observer.after_event = nullptr;
    paper.wrap_launcher = nullptr;
    const Result<SessionResult> ran = paper.run();
    int status = 0;
    REQUIRE(::waitpid(pid, &status, 0) == pid);
    CHECK(WTERMSIG(status) == SIGKILL);
    REQUIRE(ran.ok());
    CHECK(paper.observer.has_note("that outlived the last controller"));
    CHECK(ran->summary.outcome == "done");
  }
}

}  // namespace
}  // namespace saturn::run

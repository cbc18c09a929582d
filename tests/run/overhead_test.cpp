// How often the run loop wakes while ranks train in real time; the CPU time it took is printed, not judged.

#include <doctest/doctest.h>
#include <sys/resource.h>

#include <chrono>
#include <thread>

#include "saturn/journal/control.h"
#include "saturn/run/session.h"
#include "tests/support/scripted_run.h"

namespace saturn::run {
namespace {

using journal::EventKind;
using testing::ScriptedRun;

constexpr double kWindowS = 6.0;
constexpr double kMostPollsPerS = 8.0;

double cpu_s() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

/// The scripted launcher at the pace of real time: what it plays in a virtual second takes a second.
class PacedLauncher final : public worker::Launcher {
 public:
  PacedLauncher(worker::ScriptedLauncher& scripted, const FakeClock& clock)
      : scripted_(scripted), clock_(clock) {}

  bool paced = false;
  int num_polls = 0;  ///< while paced

  Result<std::vector<worker::RankProcess>> launch(worker::LaunchRequest request) override {
    return scripted_.launch(std::move(request));
  }
  void send(const std::string& attempt, int rank, const worker::ToRank& message) override {
    scripted_.send(attempt, rank, message);
  }
  void send_all(const std::string& attempt, const worker::ToRank& message) override {
    scripted_.send_all(attempt, message);
  }
  std::vector<worker::WorkerEvent> poll(double timeout_s) override {
    const double before_s = clock_.now_s();
    std::vector<worker::WorkerEvent> events = scripted_.poll(timeout_s);
    num_polls += paced ? 1 : 0;
    if (paced) std::this_thread::sleep_for(std::chrono::duration<double>(clock_.now_s() - before_s));
    return events;
  }
  void set_wake_fds(std::vector<int> fds) override { scripted_.set_wake_fds(std::move(fds)); }
  void stop(const std::string& attempt, double grace_s) override { scripted_.stop(attempt, grace_s); }
  void set_num_standby(int count) override { scripted_.set_num_standby(count); }
  int num_living() const override { return scripted_.num_living(); }

 private:
  worker::ScriptedLauncher& scripted_;
  const FakeClock& clock_;
};

TEST_SUITE("run") {
  TEST_CASE("run/overhead: the controller wakes a few times a second with 64 jobs listed and 8 running") {
    ScriptedRun paper({{.mode = worker::Mode::train, .script = {.save_s = 0.1, .step_time_s = 0.5}}});
    paper.machine = testing::cpu_machine(8);
    std::vector<std::string> names;
    for (int i = 0; i < 64; ++i) names.push_back("job-" + std::to_string(i));
    paper.write_batch(names, "techniques = [\"single\"]\ndevices = [1]\n",
                      "checkpoint_every = 10\n[plan]\ntime_limit = 0.2\n");

    std::unique_ptr<PacedLauncher> paced;
    paper.wrap_launcher = [&](worker::ScriptedLauncher& scripted) -> worker::Launcher& {
      paced = std::make_unique<PacedLauncher>(scripted, paper.clock());
      return *paced;
    };
    int num_running = 0;
    double began_s = -1.0;
    double began_cpu_s = 0.0;
    double share = -1.0;
    paper.observer.after_event = [&](const journal::Event& event) {
      if (event.kind != EventKind::training || ++num_running < 8 || began_s >= 0.0) return;
      paced->paced = true;
      began_s = paper.clock().now_s();
      began_cpu_s = cpu_s();
    };
    paper.stop_count = [&] {
      if (began_s < 0.0 || paper.clock().now_s() - began_s < kWindowS) return 0;
      if (share < 0.0) share = (cpu_s() - began_cpu_s) / (paper.clock().now_s() - began_s);
      paced->paced = false;
      return 1;
    };
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    MESSAGE("controller: " << 100.0 * share << " % of one core");
    CHECK(share > 0.0);
    CHECK(paced->num_polls > 0);
    CHECK(paced->num_polls <= kMostPollsPerS * kWindowS);
  }
}

}  // namespace
}  // namespace saturn::run

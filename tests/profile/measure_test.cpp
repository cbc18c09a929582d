// The trial runner on a virtual clock: who runs beside whom, what each outcome is, and what is used again.

#include "saturn/profile/measure.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>

#include "tests/support/scripted_run.h"

namespace saturn::profile {
namespace {

using worker::ErrorClass;
using worker::Mode;
using worker::ScriptedFault;
using worker::ScriptRow;

const ScriptRow kLoad = {.mode = Mode::load, .script = {.step_time_s = 0.5}};
const ScriptRow kGood = {.mode = Mode::trial,
                         .script = {.start_s = 0.5,
                                    .load_s = 0.25,
                                    .save_s = 0.125,
                                    .step_time_s = 2.0,
                                    .memory_peak_bytes = 1000,
                                    .host_memory_peak_bytes = 5000}};

ScriptedFault error_of(ErrorClass error_class, const std::string& message) {
  ScriptedFault fault;
  fault.error_class = error_class;
  fault.message = message;
  return fault;
}

ScriptRow failing(const std::string& technique, ScriptedFault fault) {
  return {
      .technique = technique, .mode = Mode::trial, .script = {.step_time_s = 2.0, .fault = std::move(fault)}};
}

// Two batch sizes on as many CPU slots as a test wants; each has trials of single and ddp.
struct Bench {
  explicit Bench(int num_slots = 2) : machine(testing::cpu_machine(num_slots)) {
    REQUIRE(write_whole(folder.file("text.txt"), std::string(4000, 'a')).ok());
    write(4, "trial_steps = 3\nwarmup_steps = 1\n");
  }
  void write(int batch_size, const std::string& settings) {
    const std::string text =
        "[batch]\nname = \"paper\"\n[data.text]\nkind = \"text\"\npath = \"text.txt\"\nsequence_length = 16\n"
        "[profile]\n" +
        settings +
        "[[job]]\nname = \"j{batch_size}-{lr}\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 20\n"
        "techniques = [\"single\", \"ddp\"]\n[job.grid]\nbatch_size = [" +
        std::to_string(batch_size) + "]\nlr = [1e-3, 1e-4]\n";
    REQUIRE(write_whole(folder.file("batch.toml"), text).ok());
    Result<batch::Batch> read = batch::read_batch(folder.file("batch.toml"));
    CAPTURE((read.ok() ? "" : to_text(read.faults())));
    REQUIRE(read.ok());
    batch = *std::move(read);
  }
  Result<Profile> measure(std::vector<ScriptRow> table, const Profile* previous = nullptr) {
    launcher = std::make_unique<worker::ScriptedLauncher>(clock, std::move(table));
    SilentProfileObserver observer;
    return profile::measure({.batch = &batch,
                             .machine = &machine,
                             .trials_directory = folder.file("trials"),
                             .previous = previous,
                             .budget_s = budget_s,
                             .gap = gap,
                             .everything = everything,
                             .cache = cache,
                             .keep =
                                 [&](const Profile& profile) {
                                   kept = profile;
                                   return Result<void>();
                                 },
                             .stop = stop},
                            *launcher, clock, observer);
  }
  int count(Mode mode) const {
    int n = 0;
    for (const worker::LaunchRequest& request : launcher->launched())
      n += request.ranks.front().mode == mode ? 1 : 0;
    return n;
  }

  testing::TemporaryDirectory folder;
  FakeClock clock;
  devices::Machine machine;
  batch::Batch batch;
  std::optional<double> budget_s;
  double gap = 0.0;  // whatever could win is measured: how the rest ends is for the tests that name a gap
  bool everything = false;
  const TrialCache* cache = nullptr;
  std::function<bool()> stop;
  std::optional<Profile> kept;
  std::unique_ptr<worker::ScriptedLauncher> launcher;
};

const Trial& trial_of(const Profile& profile, const std::string& technique, int num_devices) {
  for (const Trial& trial : profile.trials) {
    if (trial.configuration.technique == technique && trial.configuration.num_devices == num_devices)
      return trial;
  }
  REQUIRE_MESSAGE(false, "no trial of " << technique);
  return profile.trials.front();
}

TEST_SUITE("profile") {
  TEST_CASE("profile/measure: every configuration is measured once for all jobs of a speed class") {
    Bench bench;
    const Result<Profile> profile = bench.measure({kGood, kLoad});
    REQUIRE(profile.ok());
    REQUIRE(profile->trials.size() == 3);
    const Trial& single = trial_of(*profile, "single", 1);
    CHECK(single.outcome == Outcome::ok);
    CHECK(single.jobs.size() == 2);
    CHECK(single.step_time_s == 2.0);
    CHECK(single.step_time_spread_s == 0.0);
    CHECK(single.samples_per_s == 2.0);
    CHECK(single.start_time_s == doctest::Approx(0.5));
    CHECK(single.save_time_s == 0.125);
    CHECK(single.load_time_s == 0.25);
    CHECK(single.memory_peak_bytes == 1000);
    CHECK(trial_of(*profile, "ddp", 2).host_memory_peak_bytes == 10000);
    CHECK(bench.launcher->num_living() == 0);
    CHECK(bench.launcher->overlaps().empty());
    CHECK(what_is_stale(*profile, bench.batch, bench.machine).empty());
    CHECK(std::filesystem::is_empty(bench.folder.file("trials")));
  }

  TEST_CASE("profile/measure: the other slots step before a trial starts and none is left idle") {
    Bench bench(3);
    const Result<Profile> profile = bench.measure({kGood, kLoad});
    REQUIRE(profile.ok());
    CHECK(trial_of(*profile, "single", 1).concurrency ==
          "2 other slots busy with single x1 of the same class");
    CHECK(trial_of(*profile, "ddp", 2).concurrency == "1 other slot busy with single x1 of the same class");
    CHECK(trial_of(*profile, "ddp", 3).concurrency == "alone");
    const auto& launched = bench.launcher->launched();
    CHECK(launched[0].ranks.front().mode == Mode::load);
    CHECK(launched[1].ranks.front().mode == Mode::load);
    CHECK(launched[2].ranks.front().mode == Mode::trial);
    CHECK(bench.launcher->overlaps().empty());
  }

  TEST_CASE("profile/measure: whole GPUs are measured side by side and alone on theirs") {
    Bench bench;
    for (devices::Device& device : bench.machine.nodes.front().devices) {
      device.kind = "gpu";
      device.device_class = "h200";
    }
    bench.machine.nodes.front().device_class = "h200";
    const Result<Profile> profile = bench.measure({kGood, kLoad});
    REQUIRE(profile.ok());
    CHECK(bench.count(Mode::load) == 0);
    for (const Trial& trial : profile->trials) CHECK(trial.concurrency == "alone");
  }

  TEST_CASE("profile/measure: each outcome is told apart and stops no other trial") {
    struct Row {
      ScriptedFault fault;
      Outcome want;
      std::string said;
    };
    std::vector<Row> rows;
    const auto add = [&](ScriptedFault fault, Outcome want, const std::string& said) {
      rows.push_back({std::move(fault), want, said});
    };
    add(error_of(ErrorClass::out_of_memory, "needs 9 GiB"), Outcome::out_of_memory, "needs 9 GiB");
    add(error_of(ErrorClass::host_out_of_memory, "no room"), Outcome::out_of_memory, "no room");
    add(error_of(ErrorClass::unsupported, "no bf16"), Outcome::unsupported, "no bf16");
    add(error_of(ErrorClass::internal, "a fault"), Outcome::failed, "internal: a fault; see ");
    ScriptedFault death;
    death.kind = ScriptedFault::Kind::death;
    death.rank = 1;
    death.signal = 11;
    add(death, Outcome::failed, "rank 1 ended with signal 11");
    ScriptedFault hang;
    hang.kind = ScriptedFault::Kind::hang;
    add(hang, Outcome::failed, "trial_timeout");
    for (const Row& row : rows) {
      CAPTURE(row.said);
      Bench bench;
      const Result<Profile> profile = bench.measure({failing("ddp", row.fault), kGood, kLoad});
      REQUIRE(profile.ok());
      const Trial& ddp = trial_of(*profile, "ddp", 2);
      CHECK(ddp.outcome == row.want);
      CHECK(ddp.reason.find(row.said) != std::string::npos);
      CHECK(ddp.step_time_s == 0.0);
      CHECK(trial_of(*profile, "single", 1).outcome == Outcome::ok);
      CHECK(trial_of(*profile, "single", 2).outcome == Outcome::ok);
      CHECK(bench.launcher->num_living() == 0);
      CHECK(std::filesystem::is_directory(bench.folder.file("trials/" + ddp.id)));
    }
  }

  TEST_CASE("profile/measure: a class that cannot load a slot is timed without load") {
    Bench bench;
    const Result<Profile> profile = bench.measure(
        {kGood, {.mode = Mode::load, .script = {.fault = error_of(ErrorClass::internal, "a fault")}}});
    REQUIRE(profile.ok());
    CHECK(trial_of(*profile, "single", 1).outcome == Outcome::ok);
    CHECK(trial_of(*profile, "single", 1).concurrency == "alone");
    CHECK(bench.count(Mode::load) == 1);
  }

  TEST_CASE("profile/measure: trials that hold are used again and failed ones are measured again") {
    Bench bench;
    const Result<Profile> first =
        bench.measure({failing("ddp", error_of(ErrorClass::internal, "a fault")), kGood, kLoad});
    REQUIRE(first.ok());
    const Result<Profile> second = bench.measure({kGood, kLoad}, &*first);
    REQUIRE(second.ok());
    CHECK(bench.count(Mode::trial) == 1);
    CHECK(trial_of(*second, "ddp", 2).outcome == Outcome::ok);
    CHECK(second->trials.size() == 3);

    bench.write(8, "trial_steps = 3\nwarmup_steps = 1\n");
    CHECK_FALSE(what_is_stale(*second, bench.batch, bench.machine).empty());
    REQUIRE(bench.measure({kGood, kLoad}, &*second).ok());
    CHECK(bench.count(Mode::trial) == 3);  // another speed class

    bench.write(4, "trial_steps = 5\nwarmup_steps = 1\n");
    const std::vector<std::string> reasons = what_is_stale(*second, bench.batch, bench.machine);
    REQUIRE(reasons.size() == 1);
    CHECK(reasons.front() == "it timed 3 steps after 1 of warm-up, the batch asks for 5 after 1");
  }

  TEST_CASE("profile/measure: no trial starts after the budget and what was left out is no longer missed") {
    Bench bench;
    bench.budget_s = 2.0;
    const Result<Profile> profile = bench.measure({kGood, kLoad});
    REQUIRE(profile.ok());
    CHECK(std::count_if(profile->trials.begin(), profile->trials.end(),
                        [](const Trial& trial) { return trial.is_measured(); }) == 1);
    // Of the two slots, three settings of single and six of ddp; of the one, recomputing was of no use
    // anyway.
    const auto num_left = [&](Untried::Why why) {
      return std::count_if(profile->untried.begin(), profile->untried.end(),
                           [&](const Untried& left) { return left.why == why; });
    };
    CHECK(num_left(Untried::Why::budget) == 9);
    CHECK(num_left(Untried::Why::slower) == 2);
    CHECK(what_is_stale(*profile, bench.batch, bench.machine).empty());
  }

  TEST_CASE("profile/measure: an interruption ends everything and keeps what was measured") {
    Bench bench;
    bench.stop = [&] { return bench.kept.has_value(); };
    const Result<Profile> profile = bench.measure({kGood, kLoad});
    REQUIRE_FALSE(profile.ok());
    CHECK(profile.faults().front().kind == Kind::interrupted);
    CHECK(bench.launcher->num_living() == 0);
    REQUIRE(bench.kept.has_value());
    CHECK(bench.kept->trials.size() == 1);
    bench.stop = nullptr;
    const Profile partial = *bench.kept;
    REQUIRE(bench.measure({kGood, kLoad}, &partial).ok());
    CHECK(bench.count(Mode::trial) == 2);
  }

  TEST_CASE("profile/measure: a trial keeps its id and holds the knobs that the technique tuned") {
    Bench bench;
    ScriptRow tuned = kGood;
    tuned.technique = "ddp";
    tuned.script.tuned_knobs["bucket_bytes"] = 1 << 20;
    const Result<Profile> profile = bench.measure({tuned, kGood, kLoad});
    REQUIRE(profile.ok());
    const Trial& ddp = trial_of(*profile, "ddp", 2);
    CHECK(to_line(ddp.configuration.knobs) == "{\"bucket_bytes\":1048576}");
    CHECK(ddp.id.ends_with("-ddp-x2"));
    CHECK(trial_of(*profile, "single", 1).configuration.knobs.empty());
    CHECK(what_is_stale(*profile, bench.batch, bench.machine).empty());
    REQUIRE(bench.measure({kGood, kLoad}, &*profile).ok());
    CHECK(bench.count(Mode::trial) == 0);
  }

  TEST_CASE("profile/measure: steps are timed for a second and no longer where they cannot win") {
    Bench bench(1);
    bench.write(64, "trial_steps = 4\nwarmup_steps = 1\n");
    struct Watch final : ProfileObserver {
      void on_note(const std::string&) override {}
      void on_begin(int, int) override {}
      void on_trial_started(const Trial&) override { steps.push_back(0); }
      void on_trial_step(const Trial&, int step, int most) override {
        steps.back() = step;
        num_steps = most;
      }
      void on_trial_ended(const Trial&, int, int, double) override {}
      void on_tick(double) override {}
      std::vector<int> steps;
      int num_steps = 0;
    };
    const auto watched = [&](double single_s, double ddp_s, int num_slots) {
      bench.machine = testing::cpu_machine(num_slots);
      bench.launcher = std::make_unique<worker::ScriptedLauncher>(
          bench.clock, std::vector<ScriptRow>{
                           {.technique = "single", .mode = Mode::trial, .script = {.step_time_s = single_s}},
                           {.technique = "ddp", .mode = Mode::trial, .script = {.step_time_s = ddp_s}},
                           kLoad});
      Watch watch;
      const Result<Profile> profile = profile::measure(
          {.batch = &bench.batch, .machine = &bench.machine, .trials_directory = bench.folder.file("trials"),
           .gap = 0.0},
          *bench.launcher, bench.clock, watch);
      REQUIRE(profile.ok());
      for (const Trial& trial : profile->trials) CHECK(trial.outcome == Outcome::ok);
      return watch;
    };
    // 0.2 s a step: a second is five of them, and one more may run until the word arrives.
    const Watch alone = watched(0.2, 0.2, 1);
    REQUIRE(alone.steps.size() == 1);
    REQUIRE(alone.num_steps > 8);
    CHECK(alone.steps[0] >= 1 + 5);
    CHECK(alone.steps[0] <= 1 + 6);
    // single x2 has been timed when ddp x2 turns out half as slow again: the four steps asked for are enough.
    const Watch beside = watched(0.06, 0.09, 2);
    REQUIRE(beside.steps.size() == 3);
    CHECK(beside.steps[1] > 8);
    CHECK(beside.steps[2] >= 1 + 4);
    CHECK(beside.steps[2] <= 1 + 5);
  }

  TEST_CASE("profile/measure: the median and its spread ignore a few slow steps") {
    Bench bench;
    bench.write(4, "trial_steps = 9\nwarmup_steps = 1\n");
    const ScriptRow uneven = {.mode = Mode::trial, .script = {.step_time_s_of = [](std::int64_t step) {
                                                     return step == 5 ? 60.0 : 2.0;
                                                   }}};
    const Result<Profile> profile = bench.measure({uneven, kLoad});
    REQUIRE(profile.ok());
    CHECK(trial_of(*profile, "single", 1).step_time_s == 2.0);
    CHECK(trial_of(*profile, "single", 1).step_time_spread_s == 0.0);
  }
}

}  // namespace
}  // namespace saturn::profile

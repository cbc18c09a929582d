// When measuring ends, and what it ends with: trials of a hidden truth on a virtual clock.

#include "profile/worth.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>

#include "saturn/base/files.h"
#include "saturn/base/random.h"
#include "saturn/plan/solve.h"
#include "saturn/profile/job_time.h"
#include "saturn/profile/measure.h"
#include "tests/support/scripted_run.h"

namespace saturn::profile {
namespace {

using worker::Mode;

const plan::SolveOptions kPlanning = {
    .time_limit_s = 60.0, .iterations = 2000, .num_threads = 1, .baselines = false};

// A batch on CPU slots, whose trials take what a test says they do.
struct Truth {
  explicit Truth(int num_slots) : machine(testing::cpu_machine(num_slots)) {
    REQUIRE(write_whole(folder.file("text.txt"), std::string(4000, 'a')).ok());
  }
  void write(const std::string& jobs) {
    const std::string text =
        "[batch]\nname = \"paper\"\nseed = 3\n[data.text]\nkind = \"text\"\npath = "
        "\"text.txt\"\nsequence_length = 16\n"
        "[profile]\ntrial_steps = 3\nwarmup_steps = 1\n" +
        jobs;
    REQUIRE(write_whole(folder.file("batch.toml"), text).ok());
    Result<batch::Batch> read = batch::read_batch(folder.file("batch.toml"));
    REQUIRE_MESSAGE(read.ok(), to_text(read.faults()));
    batch = *std::move(read);
  }
  Profile measured(const MeasureRequest& how = {}, const Profile* previous = nullptr) {
    const auto script_of = [this](const worker::LaunchRequest& request) {
      const worker::Assign& rank = request.ranks.front();
      if (rank.mode == Mode::load) return worker::Script{.step_time_s = 0.5};
      ++num_trials;
      batch::Configuration configuration{.technique = rank.configuration["technique"].get<std::string>(),
                                         .num_devices = 0,
                                         .num_ranks = static_cast<int>(request.ranks.size())};
      for (const worker::Assign& one : request.ranks)
        configuration.num_devices += static_cast<int>(one.devices.size());
      return worker::Script{
          .start_s = 0.5, .step_time_s = step_s(rank.job, configuration), .memory_peak_bytes = 1};
    };
    num_trials = 0;
    worker::ScriptedLauncher launcher(clock, script_of);
    SilentProfileObserver observer;
    MeasureRequest request = how;
    request.batch = &batch;
    request.machine = &machine;
    request.trials_directory = folder.file("trials");
    request.previous = previous;
    const double began_s = clock.now_s();
    Result<Profile> profile = measure(request, launcher, clock, observer);
    REQUIRE_MESSAGE(profile.ok(), to_text(profile.faults()));
    took_s = clock.now_s() - began_s;
    CHECK(launcher.overlaps().empty());
    return *std::move(profile);
  }
  double makespan_s(const Profile& profile) {
    const auto num_steps = num_steps_of(batch);
    REQUIRE(num_steps.ok());
    const Result<plan::PlanProblem> problem = to_plan_problem(batch, profile, *num_steps);
    REQUIRE_MESSAGE(problem.ok(), to_text(problem.faults()));
    const Result<plan::Plan> plan = plan::solve(*problem, kPlanning);
    REQUIRE(plan.ok());
    for (const plan::Assignment& one : plan->assignments) CHECK(profile.find_id(one.trial)->is_measured());
    return plan->makespan_s;
  }

  testing::TemporaryDirectory folder;
  FakeClock clock;
  devices::Machine machine;
  batch::Batch batch;
  std::function<double(const Json& job, const batch::Configuration&)> step_s;
  int num_trials = 0;
  double took_s = 0.0;
};

std::string job_text(const std::string& name, int steps, int batch_size, const std::string& more = "") {
  return "[[job]]\nname = \"" + name +
         "\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = " + std::to_string(steps) +
         "\nbatch_size = " + std::to_string(batch_size) + "\noptimizer.lr = 1e-3\n" + more;
}

std::size_t num_measured(const Profile& profile) {
  return static_cast<std::size_t>(std::count_if(profile.trials.begin(), profile.trials.end(),
                                                [](const Trial& trial) { return trial.is_measured(); }));
}

// Steps by batch size, with a loss at each doubling of the width that is a technique's own.
double usual_step_s(const Json& job, const batch::Configuration& one) {
  static const std::map<std::string, double> overhead = {
      {"single", 0.30},  {"ddp", 0.10},    {"fsdp", 0.14},  {"tensor", 0.25},
      {"pipeline", 0.2}, {"hybrid", 0.22}, {"offload", 0.6}};
  const double share = overhead.at(one.technique);
  const double base = one.technique == "offload" ? 2.0 : 1.0;
  const double batch_size = job["batch_size"].get<double>();
  return base * (0.05 + 0.01 * batch_size) / one.num_devices * (1.0 + share * std::log2(one.num_devices));
}

TEST_SUITE("profile") {
  TEST_CASE(
      "profile/worth: with many equal jobs the narrowest and the widest trial are enough and the proof is "
      "told") {
    Truth truth(2);
    std::string jobs;
    for (int i = 0; i < 8; ++i)
      jobs += job_text("j" + std::to_string(i), 100, 4, "techniques = [\"single\", \"ddp\"]\n");
    truth.write(jobs);
    truth.step_s = [](const Json&, const batch::Configuration& one) { return 1.0 / one.num_devices * 1.2; };
    const Profile profile = truth.measured();
    CHECK(num_measured(profile) == 2);
    REQUIRE(profile.decision);
    CHECK(profile.decision->why == Decision::Why::settled);
    CHECK(profile.decision->is_proved);
    CHECK(profile.decision->gap == kWorthwhileGap);
    CHECK(profile.decision->measured_s <= 1.01 * profile.decision->optimistic_s);
    CHECK(std::any_of(profile.untried.begin(), profile.untried.end(),
                      [](const Untried& one) { return one.why == Untried::Why::settled; }));
    // What was left out stands there as an estimate with its bounds, and no plan uses it.
    int num_estimated = 0;
    for (const Trial& trial : profile.trials) {
      if (trial.is_measured()) continue;
      ++num_estimated;
      CHECK(trial.outcome == Outcome::ok);
      CHECK(trial.step_time_low_s <= trial.step_time_s);
      CHECK(trial.step_time_s <= trial.step_time_high_s);
    }
    CHECK(num_estimated == 1);
    CHECK(what_is_stale(profile, truth.batch, truth.machine).empty());
    truth.makespan_s(profile);
  }

  TEST_CASE("profile/worth: one long job has its wide configurations measured") {
    Truth truth(2);
    truth.write(job_text("long", 1000, 4, "techniques = [\"single\", \"ddp\"]\n"));
    truth.step_s = usual_step_s;
    const Profile profile = truth.measured();
    CHECK(num_measured(profile) >= 2);
    CHECK(std::any_of(profile.trials.begin(), profile.trials.end(), [](const Trial& trial) {
      return trial.is_measured() && trial.configuration.technique == "ddp" &&
             trial.configuration.num_devices == 2;
    }));
    const Profile everything = truth.measured({.gap = 0.0});
    CHECK(truth.makespan_s(profile) <= 1.01 * truth.makespan_s(everything));
  }

  TEST_CASE("profile/worth: a grid of 24 jobs needs a fifth of the trials for a plan within a hundredth") {
    Truth truth(8);
    std::string jobs;
    for (const int batch_size : {4, 8, 16, 32, 48, 64}) {
      for (int lr = 0; lr < 4; ++lr)
        jobs += job_text("b" + std::to_string(batch_size) + "-" + std::to_string(lr), 300, batch_size);
    }
    truth.write(jobs);
    // Every way of every class has luck of its own beside what the technique costs.
    truth.step_s = [](const Json& job, const batch::Configuration& one) {
      const std::string key =
          one.technique + std::to_string(one.num_devices) + std::to_string(job["batch_size"].get<int>());
      Random luck(mix_text(11, key));
      return usual_step_s(job, one) * (0.95 + 0.1 * luck.uniform());
    };
    const std::size_t num_candidates = wanted_trials(truth.batch, truth.machine).size();
    const Profile cheap = truth.measured();
    const int num_cheap = truth.num_trials;
    const double cheap_s = truth.took_s;
    const Profile full = truth.measured({.gap = 0.0, .everything = true});
    CAPTURE(num_cheap);
    CAPTURE(truth.num_trials);
    CAPTURE(num_candidates);
    CHECK(5 * num_cheap <= truth.num_trials);
    CHECK(5.0 * cheap_s <= truth.took_s);
    CHECK(truth.makespan_s(cheap) <= 1.01 * truth.makespan_s(full));
  }

  TEST_CASE(
      "profile/worth: a settled profile is asked again where jobs are longer and measures only what is new") {
    Truth truth(2);
    truth.step_s = usual_step_s;
    const std::string techniques = "techniques = [\"single\", \"ddp\"]\n";
    truth.write(job_text("a", 100, 4, techniques) + job_text("b", 100, 4, techniques));
    const Profile first = truth.measured();
    CHECK(num_measured(first) == 2);
    const Profile same = truth.measured({}, &first);
    CHECK(truth.num_trials == 0);
    CHECK(same.decision->workload == first.decision->workload);
    // Twice as long, the second job alone keeps one device busy while the other idles.
    truth.write(job_text("a", 100, 4, techniques) + job_text("b", 900, 4, techniques));
    const Profile longer = truth.measured({}, &first);
    CHECK(truth.num_trials >= 1);
    CHECK(longer.decision->workload != first.decision->workload);
    CHECK(num_measured(longer) == 2 + static_cast<std::size_t>(truth.num_trials));
  }

  TEST_CASE("profile/worth: within a budget every class comes first and no trial begins that cannot end") {
    Truth truth(2);
    truth.step_s = [](const Json& job, const batch::Configuration& one) {
      return 0.5 * job["batch_size"].get<double>() / one.num_devices;
    };
    const std::string techniques = "techniques = [\"single\", \"ddp\"]\n";
    // The most work first: c, then a, then b.
    truth.write(job_text("a", 200, 4, techniques) + job_text("b", 50, 2, techniques) +
                job_text("c", 900, 4, techniques + "precision = \"bf16\"\n"));
    const Profile unlimited = truth.measured();
    REQUIRE(num_measured(unlimited) > 3);
    const double all_s = truth.took_s;
    for (const double budget_s : {3.0, 12.0, 20.0, 30.0, 60.0}) {
      CAPTURE(budget_s);
      const Profile profile = truth.measured({.budget_s = budget_s});
      // Start, warm-up and the fewest timed steps of the longest trial there is; the load before it and its
      // end.
      const double one_trial_s = 0.5 + 4 * 2.0 + 2.0;
      CHECK(truth.took_s <= budget_s + one_trial_s);
      if (budget_s < all_s - one_trial_s) CHECK(profile.decision->why == Decision::Why::budget);
      REQUIRE(num_measured(profile) >= 1);
      CHECK(profile.trials.front().jobs.front() == "c");
      // Whatever was not measured is estimated: the batch can be planned.
      const auto num_steps = num_steps_of(truth.batch);
      const Result<plan::PlanProblem> problem = to_plan_problem(truth.batch, profile, *num_steps);
      REQUIRE_MESSAGE(problem.ok(), to_text(problem.faults()));
      CHECK(problem->jobs.size() == 3);
    }
  }

  TEST_CASE("profile/worth: what clearly loses to something no wider ends after two timed steps") {
    Truth truth(2);
    truth.write(job_text("one", 1000, 4, "techniques = [\"single\", \"ddp\"]\n"));
    // Two devices are slower than one.
    truth.step_s = [](const Json&, const batch::Configuration& one) {
      return one.num_devices == 1 ? 1.0 : 2.0;
    };
    struct Watch final : ProfileObserver {
      void on_note(const std::string&) override {}
      void on_begin(int, int) override {}
      void on_trial_started(const Trial& trial) override { steps[trial.configuration.num_devices] = 0; }
      void on_trial_step(const Trial& trial, int step, int) override {
        steps[trial.configuration.num_devices] = step;
      }
      void on_trial_ended(const Trial&, int, int, double) override {}
      void on_tick(double) override {}
      std::map<int, int> steps;
    } watch;
    REQUIRE(truth.batch.profile.trial_steps == 3);
    worker::ScriptedLauncher launcher(truth.clock, [&](const worker::LaunchRequest& request) {
      return worker::Script{.step_time_s = request.ranks.front().mode == Mode::load ? 0.5
                                           : request.ranks.size() * request.ranks.front().devices.size() == 1
                                               ? 1.0
                                               : 2.0};
    });
    const Result<Profile> profile = measure({.batch = &truth.batch,
                                             .machine = &truth.machine,
                                             .trials_directory = truth.folder.file("trials"),
                                             .gap = 0.0},
                                            launcher, truth.clock, watch);
    REQUIRE(profile.ok());
    CHECK(watch.steps[1] <= 1 + 3 + 1);
    CHECK(watch.steps[2] <= 1 + 2 + 1);  // one more may run until the word arrives
  }

  TEST_CASE("profile/worth: trials of other batches are used and corrected by what runs found") {
    Truth truth(2);
    truth.step_s = usual_step_s;
    const std::string techniques = "techniques = [\"single\", \"ddp\"]\n";
    truth.write(job_text("a", 100, 4, techniques) + job_text("b", 100, 4, techniques));
    const TrialCache cache(truth.folder.file("cache"), "build", truth.clock);
    const Profile first = truth.measured({.cache = &cache});
    REQUIRE(truth.num_trials == 2);
    CHECK(first.corrections.empty());
    const Trial& trial = first.trials.front();
    REQUIRE(cache
                .add_found(first.conditions, "/runs/one", trial,
                           {.trial = trial.id, .step_factor = 4.0, .num_steps = 50})
                .ok());

    truth.write(job_text("another", 100, 4, techniques) + job_text("name", 100, 4, techniques));
    const Profile second = truth.measured({.cache = &cache});
    CHECK(truth.num_trials == 0);
    REQUIRE(num_measured(second) == 2);
    CHECK(second.trials.front().source == Source::shared);
    CHECK(second.trials.front().jobs == std::vector<std::string>{"another", "name"});
    CHECK(second.trials.front().step_time_s == trial.step_time_s);
    REQUIRE(second.corrections.size() == 1);
    CHECK(second.corrections.front().step_factor ==
          doctest::Approx(2.0));  // half of it in logarithms: one run
    CHECK(truth.makespan_s(second) > 1.5 * truth.makespan_s(first));
  }
}

}  // namespace
}  // namespace saturn::profile

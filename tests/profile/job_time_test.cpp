// The model of a job's time, number by number, and the planner's problem made with it.

#include "saturn/profile/job_time.h"

#include <doctest/doctest.h>

#include "saturn/batch/identity.h"
#include "tests/support/scripted_run.h"

namespace saturn::profile {
namespace {

const Trial kTrial = {.outcome = Outcome::ok,
                      .step_time_s = 2.0,
                      .start_time_s = 0.5,
                      .save_time_s = 0.25,
                      .load_time_s = 0.125,
                      .evaluate_time_s = 10.0,
                      .end_time_s = 1.0};

TEST_SUITE("profile") {
  TEST_CASE("profile/job_time: every part of a job is counted once") {
    struct Row {
      std::string label;
      int evaluate_every;
      int checkpoint_every;
      std::int64_t from_step;
      double want_start_s;
      double want_work_s;
    };
    const std::vector<Row> rows = {
        {"steps and one evaluation at the end", 0, 0, 0, 0.5, 200.0 + 10.0 + 1.0},
        {"evaluations that end on the last step", 50, 0, 0, 0.5, 200.0 + 20.0 + 1.0},
        {"evaluations and one more at the end", 30, 0, 0, 0.5, 200.0 + 40.0 + 1.0},
        {"checkpoints before the last step", 0, 25, 0, 0.5, 200.0 + 10.0 + 0.75 + 1.0},
        {"from a checkpoint", 30, 25, 50, 0.625, 100.0 + 30.0 + 0.25 + 1.0},
        {"nothing but the end", 50, 25, 100, 0.625, 10.0 + 1.0},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      batch::Job job;
      job.evaluate_every = row.evaluate_every;
      batch::RunSettings settings;
      settings.checkpoint_every = row.checkpoint_every;
      const JobTime time = job_time(job, settings, kTrial, row.from_step, 100);
      CHECK(time.start_s == doctest::Approx(row.want_start_s));
      CHECK(time.work_s == doctest::Approx(row.want_work_s));
    }
  }

  TEST_CASE("profile/job_time: a job that no trial fits is named at its line with what each trial said") {
    testing::ScriptedRun paper;
    const Result<batch::Batch> batch = batch::read_batch(paper.batch_path());
    REQUIRE(batch.ok());
    Profile profile{.machine = paper.machine};
    profile.trials = wanted_trials(*batch, paper.machine);
    for (Trial& trial : profile.trials) {
      trial.outcome = Outcome::out_of_memory;
      trial.reason = "needs 9 GiB";
    }
    const auto num_steps = num_steps_of(*batch);
    REQUIRE(num_steps.ok());
    CHECK(num_steps->at("a") == 20);
    const Result<plan::PlanProblem> problem = to_plan_problem(*batch, profile, *num_steps);
    REQUIRE_FALSE(problem.ok());
    REQUIRE(problem.faults().size() == 3);
    CHECK(exit_code(problem.faults()) == 3);
    const std::string text = to_text(problem.faults().front());
    CHECK(text.starts_with(paper.batch_path() + ":"));
    CHECK(text.find("no trial of job \"a\" fits on this machine") != std::string::npos);
    CHECK(text.find("single x1 ran out of memory, ") != std::string::npos);
    CHECK(text.find("lower batch_size from 4") != std::string::npos);
  }

  TEST_CASE("profile/job_time: a plan is made with the knobs that a trial was tuned to") {
    testing::ScriptedRun paper;
    const Result<batch::Batch> batch = batch::read_batch(paper.batch_path());
    REQUIRE(batch.ok());
    Profile profile{.machine = paper.machine};
    profile.trials = wanted_trials(*batch, paper.machine);
    for (Trial& trial : profile.trials) {
      trial.outcome = Outcome::ok;
      trial.step_time_s = 1.0;
      trial.configuration.knobs["cuts"] = {0, 2};
    }
    const Result<plan::PlanProblem> problem = to_plan_problem(*batch, profile, *num_steps_of(*batch));
    REQUIRE(problem.ok());
    REQUIRE_FALSE(problem->jobs.front().configurations.empty());
    for (const plan::Configuration& configuration : problem->jobs.front().configurations)
      CHECK(configuration.knobs.at("cuts") == Json({0, 2}));
  }

  TEST_CASE("profile/job_time: knobs that others beat in every respect are left out of the problem") {
    testing::ScriptedRun paper;
    const Result<batch::Batch> batch = batch::read_batch(paper.batch_path());
    REQUIRE(batch.ok());
    Profile profile{.machine = paper.machine};
    // The three trials of a job: as if they were knobs of one technique on one slot.
    const auto num_configurations = [&](double start_s, std::int64_t host_bytes, const std::string& running) {
      profile.trials = wanted_trials(*batch, paper.machine);
      std::erase_if(profile.trials, [](const Trial& trial) { return !trial.configuration.knobs.empty(); });
      REQUIRE(profile.trials.size() == 3);
      for (std::size_t i = 0; i < profile.trials.size(); ++i) {
        Trial& trial = profile.trials[i];
        trial.configuration = {.technique = "single"};
        trial.outcome = Outcome::ok;
        trial.step_time_s = 1.0 + static_cast<double>(i);
        trial.start_time_s = i == 2 ? start_s : 1.0;
        trial.host_memory_peak_bytes = i == 2 ? host_bytes : 100;
      }
      std::map<std::string, Remaining> remaining;
      if (!running.empty()) {
        remaining["a"].running = RunningNow{
            .trial = profile.trials[1].id, .devices = {{.node = "local", .index = 0}}, .remaining_s = 1.0};
      }
      const auto problem = to_plan_problem(*batch, profile, *num_steps_of(*batch), remaining);
      REQUIRE(problem.ok());
      return problem->jobs.front().configurations.size();
    };
    CHECK(num_configurations(1.0, 100, "") == 1);
    CHECK(num_configurations(1.0, 50, "") == 2);  // slower but with less host memory
    CHECK(num_configurations(0.5, 100, "") == 2);
    CHECK(num_configurations(1.0, 100, "a") == 2);  // what runs now stays
  }

  TEST_CASE("profile/job_time: struck configurations and finished jobs are left out and releases kept") {
    testing::ScriptedRun paper;
    const Result<batch::Batch> batch = batch::read_batch(paper.batch_path());
    REQUIRE(batch.ok());
    Profile profile{.machine = paper.machine};
    profile.trials = wanted_trials(*batch, paper.machine);
    for (Trial& trial : profile.trials) {
      trial.outcome = Outcome::ok;
      trial.step_time_s = 1.0;
    }
    const auto num_steps = num_steps_of(*batch);
    const std::string struck = profile.trials.front().id;
    const Result<plan::PlanProblem> problem = to_plan_problem(
        *batch, profile, *num_steps,
        {{"a", {.finished = true}}, {"b", {.from_step = 5, .struck_trials = {struck}, .release_s = 3.0}}},
        7.0);
    REQUIRE(problem.ok());
    CHECK(problem->origin_s == 7.0);
    REQUIRE(problem->jobs.size() == 2);
    CHECK(problem->jobs[0].name == "b");
    CHECK(problem->jobs[0].release_s == 3.0);
    CHECK(problem->jobs[0].first_step == 5);
    CHECK(problem->jobs[0].configurations.size() + 1 == problem->jobs[1].configurations.size());
    for (const plan::Configuration& configuration : problem->jobs[0].configurations) {
      CHECK(configuration.trial != struck);
      CHECK(configuration.time_s == doctest::Approx(15.0));
    }
    CHECK(plan::validate(*problem).empty());
  }
}

}  // namespace
}  // namespace saturn::profile

// Artefacts that hold are used; stale ones are made again, or refused where the user named them.

#include "saturn/run/artefacts.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>

#include "saturn/plan/solve.h"
#include "saturn/profile/job_time.h"
#include "tests/support/scripted_run.h"

namespace saturn::run {
namespace {

using testing::ScriptedRun;

// A plan of the whole batch, made by a first run of one job.
std::string made_plan(ScriptedRun& paper, const std::string& name) {
  paper.request.only = {"a"};
  REQUIRE(paper.run().ok());
  paper.request.only.clear();
  const Result<batch::Batch> batch = batch::read_batch(paper.batch_path());
  REQUIRE(batch.ok());
  const Result<profile::Profile> profile = profile::read_profile(paper.paths().profile());
  REQUIRE(profile.ok());
  const auto num_steps = profile::num_steps_of(*batch);
  REQUIRE(num_steps.ok());
  const auto problem = remaining_problem({.batch = &*batch, .profile = &*profile, .num_steps = &*num_steps});
  REQUIRE(problem.ok());
  const Result<plan::Plan> plan =
      plan::solve(*problem, {.time_limit_s = 5.0, .iterations = 100, .num_threads = 1});
  REQUIRE(plan.ok());
  const auto sources = plan_sources(*batch, paper.paths().profile());
  REQUIRE(sources.ok());
  const std::string path = paper.root() + "/" + name;
  REQUIRE(write_artefact(path, plan::to_json(*plan, *sources)).ok());
  return path;
}

TEST_SUITE("run") {
  TEST_CASE("run/artefacts: a plan made before the run is the one that is run") {
    ScriptedRun made;
    const std::string path = made_plan(made, "own.json");
    ScriptedRun paper;
    REQUIRE(make_directories(paper.root()).ok());
    std::filesystem::copy(made.paths().profile(), paper.paths().profile());
    // The same batch under the same name: its digest is what counts.
    std::filesystem::copy(path, paper.paths().plan(0));
    REQUIRE(paper.run().ok());
    CHECK(paper.state().plans.size() == 1);
    CHECK(paper.state().plans.front().reason == "made before");
    CHECK(paper.paths().last_plan() == 0);
    CHECK(paper.launcher->launched().size() == 3);  // nothing was measured again
  }

  TEST_CASE("run/artefacts: what trials kept on disk bounds how many such jobs run at once") {
    ScriptedRun paper;
    made_plan(paper, "plan.json");
    const Result<batch::Batch> batch = batch::read_batch(paper.batch_path());
    Result<profile::Profile> profile = profile::read_profile(paper.paths().profile());
    const auto num_steps = profile::num_steps_of(*batch);
    REQUIRE(profile.ok());
    const auto problem = [&](std::int64_t disk_bytes, std::optional<std::int64_t> free_bytes) {
      for (profile::Trial& trial : profile->trials) trial.disk_bytes = disk_bytes;
      return *remaining_problem(
          {.batch = &*batch, .profile = &*profile, .num_steps = &*num_steps, .free_disk_bytes = free_bytes});
    };
    CHECK_FALSE(problem(0, 100).nodes.front().disk_bytes.has_value());  // nobody needs any
    CHECK_FALSE(problem(60, std::nullopt).nodes.front().disk_bytes.has_value());
    const plan::PlanProblem tight = problem(60, 100);
    CHECK(tight.nodes.front().disk_bytes == 100);
    CHECK(plan::validate(tight).empty());
    const Result<plan::Plan> plan =
        plan::solve(tight, {.time_limit_s = 5.0, .iterations = 100, .num_threads = 1});
    REQUIRE(plan.ok());
    for (std::size_t i = 0; i < plan->assignments.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) {
        const auto& one = plan->assignments[i];
        const auto& other = plan->assignments[j];
        CHECK((one.start_s + one.duration_s <= other.start_s + 1e-9 ||
               other.start_s + other.duration_s <= one.start_s + 1e-9));
      }
    }
    CHECK(to_text(plan::validate(problem(101, 100))).find("101 B of disk") != std::string::npos);
  }

  TEST_CASE("run/artefacts: a named plan is followed and its origin is now") {
    ScriptedRun paper;
    paper.request.plan_path = made_plan(paper, "mine.json");
    const double before_s = paper.state().time_s;
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->summary.outcome == "done");
    CHECK(paper.state().plans.back().reason.find("mine.json") != std::string::npos);
    CHECK(paper.state().plans.back().origin_s == doctest::Approx(before_s));
    CHECK(paper.trained("a").empty());
  }

  TEST_CASE(
      "run/artefacts: a named plan of another batch or profile is refused as stale and nothing is run") {
    ScriptedRun paper;
    paper.request.plan_path = made_plan(paper, "mine.json");
    paper.write_batch({"a", "b", "c"}, "", "checkpoint_every = 5\n", "3e-4");
    const Result<SessionResult> other_batch = paper.run();
    REQUIRE_FALSE(other_batch.ok());
    CHECK(exit_code(other_batch.faults()) == 4);
    CHECK(to_text(other_batch.faults()).find("mine.json#/made_from") != std::string::npos);
    CHECK(paper.launcher->launched().empty());

    paper.write_batch({"a", "b", "c"});
    const std::string profile = *read_whole(paper.paths().profile());
    REQUIRE(write_whole(paper.paths().profile(), profile + "\n").ok());
    const Result<SessionResult> other_profile = paper.run();
    REQUIRE_FALSE(other_profile.ok());
    CHECK(exit_code(other_profile.faults()) == 4);
    CHECK(other_profile.faults().front().what.find("profile.json") != std::string::npos);
  }

  TEST_CASE("run/artefacts: what a run finds corrects the profile of the next batch on the hardware") {
    // Jobs train twice as slowly as their trials said.
    const auto twice_as_slow = [] {
      return ScriptedRun(
          {{.mode = worker::Mode::train, .script = {.start_s = 3.5, .save_s = 0.1, .step_time_s = 2.0}}});
    };
    ScriptedRun first = twice_as_slow();
    const profile::TrialCache cache(first.file("cache"), "build", first.clock());
    first.trial_cache = &cache;
    REQUIRE(first.run().ok());
    const Result<profile::Profile> measured = profile::read_profile(first.paths().profile());
    REQUIRE(measured.ok());
    CHECK(measured->corrections.empty());

    ScriptedRun next = twice_as_slow();
    next.write_batch({"other", "names", "of", "jobs"});
    next.trial_cache = &cache;
    const Result<SessionResult> ran = next.run();
    REQUIRE(ran.ok());
    CHECK(next.trained().size() == 4);
    CHECK(next.launcher->launched().size() == 4);  // nothing was measured again
    const Result<profile::Profile> known = profile::read_profile(next.paths().profile());
    REQUIRE(known.ok());
    REQUIRE_FALSE(known->corrections.empty());
    const profile::Correction& correction = known->corrections.front();
    CHECK(correction.step_factor == doctest::Approx(std::sqrt(2.0)));  // of one run half, in logarithms
    CHECK(correction.start_s == doctest::Approx(3.5));
    // The plan believes it: five steps of two thirds more, and the start that was seen.
    REQUIRE_FALSE(next.observer.plans.empty());
    const plan::Assignment* const assignment = next.observer.plans.front().find("other");
    REQUIRE(assignment != nullptr);
    CHECK(assignment->duration_s > 3.5 + 20 * 1.4);
  }

  TEST_CASE("run/artefacts: a named plan that breaks its own problem is refused") {
    ScriptedRun paper;
    const std::string path = made_plan(paper, "mine.json");
    std::string text = *read_whole(path);
    const std::size_t at = text.find("\"duration_s\": ");
    REQUIRE(at != std::string::npos);
    text.insert(at + 14, "1");
    REQUIRE(write_whole(path, text).ok());
    paper.request.plan_path = path;
    const Result<SessionResult> ran = paper.run();
    REQUIRE_FALSE(ran.ok());
    CHECK(to_text(ran.faults()).find("mine.json#/assignments/") != std::string::npos);
  }

  TEST_CASE("run/artefacts: a profile of other devices is measured again and says so") {
    ScriptedRun paper;
    paper.request.only = {"a"};
    REQUIRE(paper.run().ok());
    const Result<profile::Profile> two = profile::read_profile(paper.paths().profile());
    REQUIRE(two.ok());
    paper.machine = testing::cpu_machine(3);
    const Result<batch::Batch> batch = batch::read_batch(paper.batch_path());
    const std::vector<std::string> reasons = profile::what_is_stale(*two, *batch, paper.machine);
    REQUIRE(reasons.size() == 1);
    CHECK(reasons.front().find("other devices") != std::string::npos);
    paper.request.only = {"b"};
    REQUIRE(paper.run().ok());
    CHECK(profile::what_is_stale(*profile::read_profile(paper.paths().profile()), *batch, paper.machine)
              .empty());
  }

  TEST_CASE("run/artefacts: running jobs stay where they are in the problem of what remains") {
    ScriptedRun paper;
    bool looked = false;
    const Result<batch::Batch> batch = batch::read_batch(paper.batch_path());
    REQUIRE(batch.ok());
    paper.observer.after_event = [&](const journal::Event& event) {
      if (looked || event.kind != journal::EventKind::checkpoint) return;
      looked = true;
      const auto profile = profile::read_profile(paper.paths().profile());
      const auto num_steps = profile::num_steps_of(*batch);
      const auto state = journal::read_run_state(paper.paths());
      REQUIRE(state.ok());
      const auto problem = remaining_problem({.batch = &*batch,
                                              .profile = &*profile,
                                              .num_steps = &*num_steps,
                                              .state = &*state,
                                              .time_s = state->time_s});
      REQUIRE(problem.ok());
      CHECK(problem->origin_s == state->time_s);
      for (const plan::Job& job : problem->jobs) {
        const journal::JobRecord& record = *state->find(job.name);
        CHECK(job.running.has_value() == journal::is_running(record.state));
        if (!job.running) continue;
        CHECK(job.running->devices.front() == record.last_attempt()->devices.front().index);
        CHECK(job.running->remaining_s == doctest::Approx(20.0 - record.step).epsilon(0.1));
      }
    };
    REQUIRE(paper.run().ok());
    CHECK(looked);
  }
}

}  // namespace
}  // namespace saturn::run

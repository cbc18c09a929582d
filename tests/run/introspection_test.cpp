// Introspection: what running jobs say of their speed, what is decided from it, and that it ends runs sooner.

#include "saturn/run/introspection.h"

#include <doctest/doctest.h>

#include "saturn/plan/carry_on.h"
#include "saturn/plan/check.h"
#include "saturn/run/progress.h"
#include "tests/support/scripted_run.h"

namespace saturn::run {
namespace {

using journal::EventKind;
using testing::ScriptedRun;
using worker::Mode;
using worker::Script;
using worker::ScriptRow;

plan::Configuration on(const std::string& technique, int num_devices, double time_s,
                       double start_cost_s = 0.0) {
  return {.technique = technique,
          .num_devices = num_devices,
          .num_ranks = num_devices,
          .device_class = "cpu",
          .time_s = time_s,
          .start_cost_s = start_cost_s,
          .trial = technique + std::to_string(num_devices)};
}

// Job a runs on device 0 and has 100 s left; b, of 20 s, waits for device 1, which is free.
plan::PlanProblem running_and_waiting(bool may_move, double move_cost_s = 5.0) {
  plan::PlanProblem problem{.name = "paper",
                            .nodes = {{.name = "n", .device_class = "cpu", .num_devices = 2}}};
  plan::Job a{.name = "a", .configurations = {on("single", 1, 100.0), on("ddp", 2, 50.0, move_cost_s)}};
  a.running = plan::Running{
      .node = "n", .devices = {0}, .configuration = 0, .remaining_s = 100.0, .may_move = may_move};
  problem.jobs = {a, {.name = "b", .configurations = {on("single", 1, 20.0)}}};
  return problem;
}

plan::Plan planned(const plan::PlanProblem& problem) {
  const Result<plan::Plan> plan =
      plan::solve(problem, {.iterations = 2000, .num_threads = 1, .baselines = false});
  REQUIRE(plan.ok());
  return *plan;
}

journal::StepPace pace_of(std::int64_t num_timed, double typical_s) {
  return {.typical_s = typical_s, .num_timed = num_timed};
}

journal::RunState state_of(const std::vector<std::pair<std::string, double>>& job_paces) {
  journal::RunState state;
  for (const auto& [name, typical_s] : job_paces) {
    journal::JobRecord record{.name = name, .num_steps = 100, .state = journal::JobState::training};
    record.attempts.push_back({.number = 1, .technique = "single", .trial = "t", .predicted_step_s = 1.0});
    record.attempts.back().first_step_s = 3.0;
    record.attempts.back().pace = pace_of(20, typical_s);
    state.jobs.push_back(record);
  }
  return state;
}

TEST_SUITE("run") {
  TEST_CASE("run/progress: typical step times leave out the first step and what happens now and then") {
    StepTimes times;
    CHECK(times.pace().num_timed == 0);
    times.add(9.0);
    CHECK(times.pace().num_timed == 0);
    for (int i = 0; i < 100; ++i) times.add(i % 10 == 0 ? 7.0 : i % 2 == 0 ? 1.1 : 0.9);
    times.add(std::numeric_limits<double>::quiet_NaN());
    times.add(-1.0);
    const journal::StepPace pace = times.pace();
    CHECK(pace.num_timed == 100);
    CHECK(pace.typical_s >= 0.9);
    CHECK(pace.typical_s <= 1.1);
    CHECK(pace.spread_s < 0.4);
    CHECK(std::abs(pace.drift) < 0.25);
  }

  TEST_CASE("run/progress: a job that slows down drifts and its latest steps count") {
    StepTimes times;
    for (int i = 0; i < 40; ++i) times.add(1.0);
    for (int i = 0; i < 33; ++i) times.add(2.0);
    CHECK(times.pace().typical_s == doctest::Approx(2.0));
    CHECK(times.pace().drift == doctest::Approx(1.0));
  }

  TEST_CASE("run/progress: steps of a trial correct it and a straggler corrects nothing") {
    const std::vector<profile::Correction> all =
        corrections_of(state_of({{"a", 2.0}, {"b", 2.2}, {"c", 2.1}}));
    REQUIRE(all.size() == 1);
    CHECK(all.front().trial == "t");
    CHECK(all.front().step_factor == doctest::Approx(2.1));
    CHECK(all.front().num_steps == 60);
    const journal::RunState slow = state_of({{"a", 1.0}, {"b", 1.02}, {"c", 4.0}});
    CHECK(stragglers(slow) == std::vector<std::string>{"c"});
    CHECK(corrections_of(slow).front().step_factor == doctest::Approx(1.01));
    // What was timed since the journal's last word counts.
    CHECK(stragglers(slow, {{"c", pace_of(30, 1.0)}}).empty());
    CHECK(corrections_of(state_of({{"a", 2.0}}), {{"a", pace_of(3, 9.0)}}).front().num_steps == 0);
  }

  TEST_CASE("run/introspection: a better order alone is adopted for half a percent") {
    plan::PlanProblem problem = running_and_waiting(false);
    problem.jobs[0].running->remaining_s = 900.0;
    // b waits for the end of a, or takes the device that is free: what that gains is its own time.
    for (const auto& [gain_s, want] : std::vector<std::pair<double, Decision>>{
             {4.0, Decision::keep}, {6.0, Decision::rearrange}, {200.0, Decision::rearrange}}) {
      CAPTURE(gain_s);
      problem.jobs[1].configurations[0].time_s = gain_s;
      const plan::Plan rearranged = planned(problem);
      plan::Plan kept = rearranged;
      plan::Assignment& last = *std::find_if(kept.assignments.begin(), kept.assignments.end(),
                                             [](const auto& one) { return one.job == "b"; });
      last.start_s = 900.0;
      last.devices = {{"n", 0}};
      kept.makespan_s = 900.0 + gain_s;
      const Judgement judgement =
          judge({.problem = problem, .kept = kept, .rearranged = rearranged, .moved = std::nullopt});
      CHECK(judgement.decision == want);
      CHECK((judgement.plan == nullptr) == (want == Decision::keep));
      CHECK(judgement.gain_s == doctest::Approx(gain_s));
      CHECK(judgement.planned_s == doctest::Approx(want == Decision::keep ? 900.0 + gain_s : 900.0));
      const Judgement backwards =
          judge({.problem = problem, .kept = rearranged, .rearranged = kept, .moved = std::nullopt});
      CHECK(backwards.decision == Decision::keep);
    }
    const plan::Plan rearranged = planned(problem);
    const Judgement forced =
        judge({.problem = problem, .kept = std::nullopt, .rearranged = rearranged, .moved = std::nullopt});
    CHECK(forced.decision == Decision::rearrange);
  }

  TEST_CASE("run/introspection: a move must gain more than its cost and its uncertainty") {
    struct Row {
      double move_cost_s;
      double spread;
      Decision want;
    };
    // Going on ends at 100 s; moved it ends at 20 + cost + 50 s.
    for (const Row& row : std::vector<Row>{{5.0, 0.05, Decision::move},
                                           {28.0, 0.05, Decision::keep},
                                           {40.0, 0.05, Decision::keep},
                                           {5.0, 0.60, Decision::keep}}) {
      CAPTURE(row.move_cost_s);
      CAPTURE(row.spread);
      const plan::PlanProblem pinned = running_and_waiting(false, row.move_cost_s);
      const plan::PlanProblem movable = running_and_waiting(true, row.move_cost_s);
      const plan::Plan rearranged = planned(pinned);
      const std::optional<plan::Plan> kept = plan::carry_on(pinned, rearranged);
      REQUIRE(kept.has_value());
      CHECK(kept->makespan_s == doctest::Approx(100.0));
      const std::optional<plan::Plan> moved = planned(movable);
      const Judgement judgement =
          judge({.problem = movable,
                 .kept = kept,
                 .rearranged = rearranged,
                 .moved = moved,
                 .spreads = {2, {.in_place = 0.02, .common = row.spread, .own = row.spread}}});
      CHECK(judgement.decision == row.want);
      if (row.want != Decision::move) continue;
      CHECK(judgement.moves == std::vector<std::string>{"a"});
      CHECK(judgement.planned_s == doctest::Approx(75.0));
      CHECK(judgement.cost_s == doctest::Approx(5.0));
      // Device 0 is not wanted by b, which runs on device 1 first: a goes on until then.
      CHECK(moves_that_wait(movable, *judgement.plan).size() ==
            (judgement.plan->assignments.front().devices.front().index == 1 ? 1 : 0));
    }
  }

  TEST_CASE("run/introspection: of plans that end together the one with fewest moves is taken") {
    plan::PlanProblem problem = running_and_waiting(true);
    problem.nodes[0].num_devices = 4;
    // c could move too, which would change nothing: a decides the end.
    problem.jobs.push_back({.name = "c", .configurations = {on("single", 1, 30.0), on("ddp", 2, 20.0)}});
    problem.jobs.back().running =
        plan::Running{.node = "n", .devices = {3}, .configuration = 0, .remaining_s = 30.0, .may_move = true};
    CHECK(plan::moved_jobs(problem, planned(problem)) == std::vector<std::string>{"a"});
  }

  TEST_CASE("run/introspection: where a bound says that nothing can be gained nobody is asked") {
    plan::PlanProblem problem = running_and_waiting(false);
    const plan::Plan plan = planned(problem);
    CHECK_FALSE(could_gain(problem, plan));
    problem = running_and_waiting(true);
    CHECK(could_gain(problem, plan));
    problem.jobs[0].configurations[1].start_cost_s = 49.0;
    CHECK_FALSE(could_gain(problem, plan));
  }

  TEST_CASE("run/introspection: the gain over what estimates may be off by counts luck of both sides") {
    plan::PlanProblem problem{.name = "paper",
                              .nodes = {{.name = "n", .device_class = "cpu", .num_devices = 2}}};
    for (const char* const name : {"a", "b", "c", "d"})
      problem.jobs.push_back({.name = name, .configurations = {on("single", 1, 100.0)}});
    // Both plans end at 200 s where the estimates are right: pairs of jobs on either device.
    const auto pairs = [&](const std::vector<std::pair<int, double>>& places) {
      plan::Plan plan{.makespan_s = 200.0};
      for (std::size_t j = 0; j < places.size(); ++j)
        plan.assignments.push_back({.job = problem.jobs[j].name,
                                    .technique = "single",
                                    .node = "n",
                                    .devices = {{"n", places[j].first}},
                                    .start_s = places[j].second,
                                    .duration_s = 100.0,
                                    .trial = "single1"});
      return plan;
    };
    const plan::Plan one = pairs({{0, 0.0}, {0, 100.0}, {1, 0.0}, {1, 100.0}});
    const plan::Plan other = pairs({{0, 0.0}, {1, 0.0}, {0, 100.0}, {1, 100.0}});
    const std::vector<Spread> off(4, {.in_place = 0.0, .common = 0.3, .own = 0.05});
    const Gain same = gain_of(problem, one, one, off);
    CHECK(same.mean_s == 0.0);
    CHECK(same.worst_s == 0.0);
    const Gain luck = gain_of(problem, one, other, off);
    CHECK(std::abs(luck.mean_s) < 10.0);
    CHECK(luck.worst_s < -30.0);
    CHECK(gain_of(problem, one, other, {}).worst_s == 0.0);
    // What gains nothing but luck is not done.
    CHECK(judge({.problem = problem, .kept = one, .rearranged = other, .moved = std::nullopt, .spreads = off})
              .decision == Decision::keep);
  }

  TEST_CASE(
      "run/introspection: a plan carried on takes the times of now and refuses what it has no place for") {
    plan::PlanProblem problem = running_and_waiting(false);
    const plan::Plan plan = planned(problem);
    problem.jobs[0].running->remaining_s = 300.0;
    problem.jobs[1].configurations[0].time_s = 40.0;
    const std::optional<plan::Plan> later = plan::carry_on(problem, plan);
    REQUIRE(later.has_value());
    CHECK(plan::check(problem, *later).empty());
    CHECK(later->makespan_s == doctest::Approx(300.0));
    problem.jobs.push_back({.name = "c", .configurations = {on("single", 1, 1.0)}});
    CHECK_FALSE(plan::carry_on(problem, plan).has_value());
    problem.jobs.pop_back();
    problem.jobs[1].configurations = {on("ddp", 2, 10.0)};
    CHECK_FALSE(plan::carry_on(problem, plan).has_value());
    problem = running_and_waiting(false);
    problem.nodes[0].outages.push_back({.devices = {1}, .to_s = std::numeric_limits<double>::infinity()});
    CHECK_FALSE(plan::carry_on(problem, plan).has_value());
  }
}

// ---- Whole runs on a virtual clock

// ddp x2 takes 0.6 of single's time; job "b" takes `slow` times as long as its trial said, under both.
ScriptedRun slow_b(double slow) {
  const auto row = [](const std::string& job, const std::string& technique, Mode mode, double step_time_s) {
    return ScriptRow{.job = job,
                     .technique = technique,
                     .mode = mode,
                     .script = {.start_s = 0.5, .load_s = 0.2, .save_s = 0.1, .step_time_s = step_time_s}};
  };
  return ScriptedRun({row("", "single", Mode::trial, 1.0), row("", "ddp", Mode::trial, 0.6),
                      row("b", "single", Mode::train, slow), row("b", "ddp", Mode::train, 0.6 * slow),
                      row("", "single", Mode::train, 1.0), row("", "ddp", Mode::train, 0.6)});
}

double makespan_of(ScriptedRun& paper, const std::string& introspect_every) {
  // lr of the jobs is all that differs: one class, so the trials are shared.
  paper.write_batch(
      {"a", "b"}, "",
      "checkpoint_every = 5\nintrospect_every = \"" + introspect_every + "\"\n[plan]\niterations = 2000\n");
  const Result<SessionResult> ran = paper.run();
  REQUIRE(ran.ok());
  CHECK(ran->exit_code == 0);
  CHECK(paper.launcher->overlaps().empty());
  return ran->summary.makespan_s;
}

TEST_SUITE("run") {
  TEST_CASE("run/introspection: the devices that a job leaves widen the one that takes longer than planned") {
    ScriptedRun without = slow_b(4.0);
    const double without_s = makespan_of(without, "0 s");
    CHECK(without.observer.count(EventKind::introspected) == 0);
    ScriptedRun with = slow_b(4.0);
    const double with_s = makespan_of(with, "5 s");
    CHECK(with_s <= 0.85 * without_s);
    const journal::RunState state = with.state();
    const journal::JobRecord& b = *state.find("b");
    REQUIRE(b.attempts.size() == 2);
    CHECK(b.attempts[0].technique == "single");
    CHECK(b.attempts[0].moves);
    CHECK(b.attempts[0].error_class.empty());
    CHECK(b.attempts[1].technique == "ddp");
    CHECK(b.attempts[1].from_step == b.attempts[0].last_step);
    CHECK(b.num_moves() == 1);
    // What was decided and why is in the journal, and in the state.
    REQUIRE_FALSE(state.introspections.empty());
    const auto moved = std::find_if(state.introspections.begin(), state.introspections.end(),
                                    [](const auto& one) { return one.decision == "move"; });
    REQUIRE(moved != state.introspections.end());
    CHECK(moved->moved == std::vector<std::string>{"b"});
    CHECK(moved->cost_s > 0.0);
    CHECK(moved->kept_s > moved->planned_s);
    // The summary says what it promised and what it gained.
    const journal::Summary summary = journal::summarise(state);
    const auto told = std::find_if(summary.introspections.begin(), summary.introspections.end(),
                                   [](const auto& one) { return one.decision == "move"; });
    REQUIRE(told != summary.introspections.end());
    REQUIRE(told->predicted_gain_s.has_value());
    REQUIRE(told->realised_gain_s.has_value());
    CHECK(*told->realised_gain_s == doctest::Approx(*told->predicted_gain_s).epsilon(0.2));
    const Json document = journal::to_json(summary);
    const Result<journal::Summary> read = journal::summary_from_json(document, "summary.json");
    REQUIRE(read.ok());
    CHECK(journal::to_json(*read) == document);
  }

  TEST_CASE("run/introspection: where the plan is right nothing moves and nothing takes longer") {
    ScriptedRun without = slow_b(1.0);
    const double without_s = makespan_of(without, "0 s");
    ScriptedRun with = slow_b(1.0);
    CHECK(makespan_of(with, "5 s") == doctest::Approx(without_s));
    for (const journal::JobRecord& record : with.state().jobs) CHECK(record.attempts.size() == 1);
  }

  TEST_CASE("run/introspection: max_moves = 0 moves nothing") {
    ScriptedRun paper = slow_b(4.0);
    paper.write_batch({"a", "b"}, "",
                      "introspect_every = \"5 s\"\nmax_moves = 0\n[plan]\niterations = 2000\n");
    REQUIRE(paper.run().ok());
    for (const journal::JobRecord& record : paper.state().jobs) CHECK(record.attempts.size() == 1);
  }
}

}  // namespace
}  // namespace saturn::run

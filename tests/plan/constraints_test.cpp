#include <doctest/doctest.h>

#include <chrono>

#include "saturn/plan/check.h"
#include "saturn/plan/explain.h"
#include "saturn/plan/solve.h"
#include "tests/plan/problems.h"

namespace saturn::plan {
namespace {

using testing::job;
using testing::node;

PlanProblem two_jobs() {
  PlanProblem problem;
  problem.name = "p";
  problem.nodes = {node("n0", 2)};
  problem.jobs = {job("a", {{1, 10}, {2, 6}}), job("b", {{1, 10}, {2, 6}})};
  return problem;
}

SolveOptions quick() {
  SolveOptions options;
  options.iterations = 20000;
  options.num_threads = 1;
  return options;
}

Plan solved(const PlanProblem& problem, const SolveOptions& options = quick()) {
  const auto plan = solve(problem, options);
  if (!plan.ok()) MESSAGE(to_text(plan.faults()));
  REQUIRE(plan.ok());
  CHECK(check(problem, *plan).empty());
  return *plan;
}

const Assignment& of(const Plan& plan, const std::string& name) {
  for (const Assignment& one : plan.assignments) {
    if (one.job == name) return one;
  }
  FAIL("no such job");
  return plan.assignments.front();
}

TEST_SUITE("plan") {
  TEST_CASE("plan/solve: an empty batch is planned at once") {
    PlanProblem problem;
    problem.nodes = {node("n0", 2)};
    const Plan plan = solved(problem);
    CHECK(plan.makespan_s == 0.0);
    CHECK(plan.status == Status::optimal);
  }

  TEST_CASE("plan/solve: outages are waited for or planned around") {
    PlanProblem problem = two_jobs();
    problem.nodes[0].outages = {{{1}, 0.0, std::numeric_limits<double>::infinity()}};
    CHECK(solved(problem).makespan_s == 20.0);
    problem.nodes[0].outages = {{{}, 3.0, 5.0}};
    CHECK(solved(problem).makespan_s == 15.0);
  }

  TEST_CASE("plan/solve: host memory keeps jobs apart") {
    PlanProblem problem = two_jobs();
    problem.nodes[0].host_memory_bytes = 100;
    for (Job& one : problem.jobs) {
      for (Configuration& configuration : one.configurations) configuration.host_memory_bytes = 60;
    }
    const Plan apart = solved(problem);
    CHECK(apart.makespan_s == 12.0);
    CHECK(apart.status == Status::optimal);
    problem.jobs[0].configurations[0].host_memory_bytes =
        problem.jobs[1].configurations[0].host_memory_bytes = 50;
    CHECK(solved(problem).makespan_s == 10.0);
  }

  TEST_CASE("plan/solve: ranks of a job never share a GPU") {
    PlanProblem problem = two_jobs();
    problem.nodes[0] = node("n0", 4);
    problem.nodes[0].shares_per_gpu = 2;
    for (const Assignment& one : solved(problem).assignments) {
      if (one.devices.size() == 2) CHECK(one.devices[0].index / 2 != one.devices[1].index / 2);
    }
    // Two ranks fit on two GPUs at most.
    problem.jobs[0].configurations = {testing::configuration(3, 5)};
    const auto plan = solve(problem, quick());
    REQUIRE_FALSE(plan.ok());
    CHECK(plan.faults().front().kind == Kind::infeasible);
  }

  TEST_CASE("plan/solve: what runs goes on unless moving pays for the move") {
    PlanProblem problem = two_jobs();
    problem.jobs[0].running = Running{.node = "n0", .devices = {1}, .configuration = 0, .remaining_s = 8.0};
    const Plan stays = solved(problem);
    CHECK(of(stays, "a").devices.front().index == 1);
    CHECK(of(stays, "a").duration_s == 8.0);
    CHECK(of(stays, "b").devices.front().index == 0);

    problem.jobs.pop_back();
    problem.jobs[0].running->may_move = true;
    problem.jobs[0].configurations[1].start_cost_s = 3.0;
    CHECK(solved(problem).makespan_s == 8.0);  // 6 + 3 > 8
    problem.jobs[0].configurations[1].start_cost_s = 1.0;
    CHECK(solved(problem).makespan_s == 7.0);
  }

  TEST_CASE("plan/solve: deadlines are kept or named") {
    PlanProblem problem = two_jobs();
    problem.jobs.push_back(job("c", {{1, 4}}));
    problem.jobs[2].deadline_s = 4.0;
    CHECK(of(solved(problem), "c").end_s() == 4.0);
    problem.jobs[2].deadline_s = 3.0;
    const auto plan = solve(problem, quick());
    REQUIRE_FALSE(plan.ok());
    CHECK(plan.faults().front().kind == Kind::infeasible);
    CHECK(plan.faults().front().where == "p#/jobs/2/deadline_s");
  }

  TEST_CASE("plan/solve: other objectives choose other plans") {
    PlanProblem problem = two_jobs();
    problem.nodes[0].price_per_device_hour = 3600.0;
    problem.jobs = {job("a", {{1, 10}, {2, 6}})};
    CHECK(solved(problem).makespan_s == 6.0);
    problem.objective = Objective::cost;
    const Plan cheap = solved(problem);
    CHECK(cheap.cost == doctest::Approx(10.0));
    CHECK(cheap.status == Status::optimal);
    problem.objective = Objective::makespan_under_cost;
    problem.cost_limit = 11.0;
    CHECK(solved(problem).makespan_s == 10.0);
    problem.cost_limit = 12.0;
    CHECK(solved(problem).makespan_s == 6.0);
    problem.cost_limit = 9.0;
    CHECK_FALSE(solve(problem, quick()).ok());

    problem = two_jobs();
    problem.nodes[0] = node("n0", 1);
    problem.jobs = {job("long", {{1, 10}}), job("short", {{1, 2}})};
    problem.objective = Objective::mean_completion;
    CHECK(of(solved(problem), "short").start_s == 0.0);
    problem.jobs[0].priority = 100.0;
    CHECK(of(solved(problem), "long").start_s == 0.0);
  }

  TEST_CASE("plan/solve: of equal jobs the one of higher priority goes first") {
    PlanProblem problem = two_jobs();
    problem.nodes[0] = node("n0", 1);
    problem.jobs[1].priority = 5.0;
    CHECK(of(solved(problem), "b").start_s == 0.0);
  }

  TEST_CASE("plan/solve: a job is split where that pays for the start") {
    PlanProblem problem;
    problem.name = "p";
    problem.nodes = {node("n0", 2)};
    problem.jobs = {job("a", {{1, 100}, {2, 50}}), job("b", {{1, 40}})};
    for (Job& one : problem.jobs) one.last_step = 1000;
    SolveOptions options = quick();
    const double whole_s = solved(problem, options).makespan_s;
    options.max_segments = 2;
    const Plan split = solved(problem, options);
    CHECK(split.makespan_s < whole_s);
    CHECK(split.assignments.size() == 3);
    for (Configuration& configuration : problem.jobs[0].configurations) configuration.start_cost_s = 500.0;
    CHECK(solved(problem, options).assignments.size() == 2);
  }

  TEST_CASE("plan/solve: the same seed and iterations give the same plan") {
    PlanProblem problem;
    problem.name = "p";
    problem.nodes = {node("n0", 4), node("n1", 4)};
    for (int j = 0; j < 18; ++j) {
      const double t = 100.0 + 37.0 * j;
      problem.jobs.push_back(
          job("j" + std::to_string(j), {{1, t}, {2, t * 0.55}, {3, t * 0.4}, {4, t * 0.31}}));
    }
    SolveOptions options;
    options.iterations = 30000;  // enough for the helper process to be started
    options.seed = 7;
    const auto strip = [&](Plan plan) {
      plan.solver.wall_s = 0.0;
      return to_json(plan, {});
    };
    const Json first = strip(solved(problem, options));
    CHECK(strip(solved(problem, options)) == first);
    options.seed = 8;
    CHECK(strip(solved(problem, options)) != first);
  }

  TEST_CASE("plan/solve: the time limit and a signal stop it with a plan") {
    PlanProblem problem;
    problem.name = "p";
    for (int n = 0; n < 4; ++n) problem.nodes.push_back(node("n" + std::to_string(n), 8));
    Random random(3);
    for (int j = 0; j < 200; ++j) {
      const double t = 100.0 + static_cast<double>(random.below(10000));
      problem.jobs.push_back(
          job("j" + std::to_string(j), {{1, t}, {2, t * 0.55}, {4, t * 0.31}, {8, t * 0.2}}));
    }
    SolveOptions options;
    options.time_limit_s = 0.5;
    const auto begin = std::chrono::steady_clock::now();
    CHECK(solved(problem, options).gap() < 0.2);
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
    const std::atomic<bool> stop{true};
    options.time_limit_s = 1000.0;
    options.stop = &stop;
    CHECK(solved(problem, options).status == Status::interrupted);
  }

  TEST_CASE("plan/solve: thousands of equal jobs are planned") {
    PlanProblem problem;
    problem.name = "p";
    problem.nodes = {node("n0", 8), node("n1", 8)};
    for (int j = 0; j < 3000; ++j) problem.jobs.push_back(job("j" + std::to_string(j), {{1, 100}, {4, 30}}));
    SolveOptions options;
    options.iterations = 100;
    options.num_threads = 1;
    options.time_limit_s = 100.0;
    CHECK(solved(problem, options).gap() < 0.01);
  }

  TEST_CASE("plan/solve: huge and zero times do not break a bound") {
    PlanProblem problem = two_jobs();
    problem.jobs.push_back(job("zero", {{2, 0}}));
    problem.jobs.push_back(job("huge", {{1, 1e15}}));
    const Plan plan = solved(problem);
    CHECK(plan.makespan_s == 1e15);
    CHECK(plan.status == Status::optimal);
  }

  TEST_CASE("plan/explain: names what each configuration costs and what fixes the makespan") {
    const PlanProblem problem = two_jobs();
    const Plan plan = solved(problem);
    SolveOptions options = quick();
    const auto explanation = explain(problem, plan, "a", options);
    REQUIRE(explanation.ok());
    REQUIRE(explanation->alternatives.size() == 2);
    CHECK(explanation->alternatives[0].chosen);
    CHECK(explanation->alternatives[1].makespan_s == 12.0);
    CHECK_FALSE(explanation->chain.empty());
    CHECK(explanation->prices.front().bound_s_per_device < 0.0);
    const auto nobody = explain(problem, plan, "aa", options);
    REQUIRE_FALSE(nobody.ok());
    CHECK(nobody.faults().front().fix == "did you mean \"a\"?");
  }
}

}  // namespace
}  // namespace saturn::plan

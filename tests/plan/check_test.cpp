#include "saturn/plan/check.h"

#include <doctest/doctest.h>

#include <functional>

#include "saturn/plan/solve.h"
#include "tests/plan/problems.h"

namespace saturn::plan {
namespace {

using testing::job;
using testing::node;

PlanProblem example() {
  PlanProblem problem;
  problem.name = "example";
  problem.nodes = {node("n0", 4), node("n1", 2)};
  problem.jobs = {job("a", {{1, 40}, {2, 22}, {4, 12}}), job("b", {{2, 30}, {4, 17}}), job("c", {{1, 25}}),
                  job("d", {{1, 18}, {2, 10}})};
  return problem;
}

Plan planned(const PlanProblem& problem, const std::string& policy = "best-list") {
  SolveOptions options;
  options.policy = policy;
  options.iterations = 2000;
  const auto plan = solve(problem, options);
  REQUIRE(plan.ok());
  return *plan;
}

TEST_SUITE("plan") {
  TEST_CASE("plan/check: accepts what every policy plans") {
    const PlanProblem problem = example();
    for (const Policy& policy : policies()) {
      CAPTURE(policy.name);
      CHECK(check(problem, planned(problem, policy.name)).empty());
    }
  }

  TEST_CASE("plan/check: rejects every mutation of a plan") {
    const PlanProblem problem = example();
    const Plan good = planned(problem);
    struct Row {
      std::string label;
      std::function<void(Plan&)> mutate;
      std::string where;  // part of the first fault's place
    };
    const std::vector<Row> rows = {
        {"a job left out", [](Plan& p) { p.assignments.pop_back(); }, "/assignments"},
        {"a job twice", [](Plan& p) { p.assignments.push_back(p.assignments.front()); }, "/segment"},
        {"an unknown job", [](Plan& p) { p.assignments[0].job = "x"; }, "/job"},
        {"an unknown node", [](Plan& p) { p.assignments[0].node = "x"; }, "/node"},
        {"a device out of range", [](Plan& p) { p.assignments[0].devices[0].index = 9; }, "/devices"},
        {"a negative device", [](Plan& p) { p.assignments[0].devices[0].index = -1; }, "/devices"},
        {"no device", [](Plan& p) { p.assignments[0].devices.clear(); }, "/devices"},
        {"a negative start", [](Plan& p) { p.assignments[0].start_s = -1; }, "/start_s"},
        {"a start that is no number", [](Plan& p) { p.assignments[0].start_s = std::nan(""); }, "/start_s"},
        {"a shorter time", [](Plan& p) { p.assignments[0].duration_s *= 0.9; }, "/duration_s"},
        {"another technique", [](Plan& p) { p.assignments[0].technique = "x"; }, "/technique"},
        {"another number of ranks", [](Plan& p) { p.assignments[0].num_ranks += 1; }, "/technique"},
        {"another trial", [](Plan& p) { p.assignments[0].trial = "x"; }, "/technique"},
        {"other knobs", [](Plan& p) { p.assignments[0].knobs["x"] = 1; }, "/technique"},
        {"a smaller makespan", [](Plan& p) { p.makespan_s -= 1; }, "/makespan_s"},
        {"a bound above the plan", [](Plan& p) { p.lower_bound_s = p.makespan_s + 1; }, "/lower_bound_s"},
        {"steps that start late", [](Plan& p) { p.assignments[0].from_step = 1; }, "/"},
        {"a cost it does not have", [](Plan& p) { p.cost = 5; }, "/cost"},
        {"optimal without a bound",
         [](Plan& p) {
           p.status = Status::optimal;
           p.objective_bound = 0;
         },
         "/status"},
    };
    REQUIRE(check(problem, good).empty());
    for (const Row& row : rows) {
      CAPTURE(row.label);
      Plan bad = good;
      row.mutate(bad);
      const Diagnostics faults = check(problem, bad);
      REQUIRE_FALSE(faults.empty());
      CHECK(faults.front().where.find(row.where) != std::string::npos);
    }
  }

  TEST_CASE("plan/check: rejects two jobs on one device even where one lies inside the other") {
    const PlanProblem problem = example();
    Plan plan = planned(problem);
    std::size_t longest = 0;
    for (std::size_t a = 0; a < plan.assignments.size(); ++a) {
      if (plan.assignments[a].duration_s > plan.assignments[longest].duration_s) longest = a;
    }
    for (std::size_t a = 0; a < plan.assignments.size(); ++a) {
      if (a == longest) continue;
      Plan bad = plan;
      bad.assignments[a].node = bad.assignments[longest].node;
      bad.assignments[a].devices = {bad.assignments[longest].devices.front()};
      bad.assignments[a].start_s = bad.assignments[longest].start_s;
      bool found = false;
      for (const Diagnostic& fault : check_alone(bad))
        found |= fault.what.find("holds until") != std::string::npos;
      CHECK(found);
    }
  }

  TEST_CASE("plan/plan: plan.json reads back as it was written") {
    const PlanProblem problem = example();
    const Plan plan = planned(problem);
    const Json document = to_json(plan, {{"profile.json", "0f"}});
    const auto again = plan_from_json(document, "plan.json");
    REQUIRE(again.ok());
    CHECK(to_json(*again, made_from(document)) == document);
    CHECK(check(problem, *again).empty());
  }
}

}  // namespace
}  // namespace saturn::plan

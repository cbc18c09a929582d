// The parts of the search by themselves: exact search on a node, views, groups, large price programs, the
// helper.

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "plan/anneal.h"
#include "plan/bounds.h"
#include "plan/construct.h"
#include "plan/helper.h"
#include "plan/node_search.h"
#include "plan/pack.h"
#include "plan/prune.h"
#include "saturn/plan/check.h"
#include "saturn/plan/solve.h"
#include "tests/plan/oracle.h"
#include "tests/plan/problems.h"

namespace saturn::plan {
namespace {

using testing::job;
using testing::node;

// Speed-ups that are about linear, so that many modes compete.
PlanProblem many(std::uint64_t seed, int num_jobs, const std::vector<Node>& nodes) {
  Random random(seed);
  PlanProblem problem;
  problem.name = "many";
  problem.nodes = nodes;
  for (int j = 0; j < num_jobs; ++j) {
    Job one;
    one.name = "j" + std::to_string(j);
    const double area = 100.0 + static_cast<double>(random.below(100000));
    for (const char* device_class : {"gpu", "slow"}) {
      for (int w = 1; w <= 8; ++w) {
        const double lost = 1.0 + static_cast<double>(random.below(200)) / 1000.0;
        const double slow = device_class[0] == 's' ? 2.5 : 1.0;
        one.configurations.push_back(testing::configuration(
            w, static_cast<double>(static_cast<int>(area * lost * slow / w) + 1), device_class));
      }
    }
    problem.jobs.push_back(std::move(one));
  }
  return problem;
}

TEST_SUITE("plan") {
  TEST_CASE("plan/node_search: one memory answers every set and limit as the oracle does") {
    const auto never = [] { return false; };
    for (std::uint64_t seed = 0; seed < 120; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      PlanProblem problem;
      const int width = 2 + static_cast<int>(random.below(3));
      problem.nodes = {node("n0", width)};
      for (int j = 0; j < 6; ++j) {
        std::vector<testing::Size> sizes;
        for (int w = 1; w <= width; ++w) {
          if (w == 1 || random.below(3) > 0) sizes.push_back({w, static_cast<double>(1 + random.below(12))});
        }
        problem.jobs.push_back(job("j" + std::to_string(j), sizes));
      }
      const Reduced reduced = reduce(problem);
      std::vector<NodeSearch::Work> works;
      for (const Task& task : reduced.tasks) {
        NodeSearch::Work work;
        for (int m = 0; m < static_cast<int>(task.modes.size()); ++m)
          work.modes.push_back({m, task.modes[m].width, task.modes[m].time_s});
        works.push_back(std::move(work));
      }
      NodeSearch search(works, width, {});
      std::map<std::uint64_t, double> best_s;
      for (int question = 0; question < 60; ++question) {
        const std::uint64_t set = 1 + random.below(63);
        if (__builtin_popcountll(set) > 4) continue;
        if (!best_s.contains(set)) {
          PlanProblem part = problem;
          part.jobs.clear();
          for (int j = 0; j < 6; ++j) {
            if ((set >> j & 1) != 0) part.jobs.push_back(problem.jobs[j]);
          }
          best_s[set] = testing::Oracle(part).makespan_s();
        }
        const double limit_s = best_s[set] + static_cast<double>(random.below(5)) - 2.0;
        const ExactAnswer want = limit_s >= best_s[set] ? ExactAnswer::found : ExactAnswer::refuted;
        REQUIRE(search.ends_by(set, limit_s, 1 << 20, never) == want);
        if (want == ExactAnswer::refuted) continue;
        Solution solution;
        for (const NodeSearch::Start& start : search.starts())
          solution.push_back({start.task, 0, start.mode});
        CHECK(solution.size() == static_cast<std::size_t>(__builtin_popcountll(set)));
        CHECK(decode(reduced, solution).value.makespan_s <= limit_s);
      }
    }
  }

  TEST_CASE("plan/milp_bounds: a task does not run beside itself") {
    PlanProblem problem;
    problem.name = "p";
    problem.nodes = {node("n0", 8)};
    problem.jobs = {job("wide", {{7, 100}}), job("narrow", {{3, 150}})};
    const Reduced reduced = reduce(problem);
    double raised_s = 0.0;
    MilpBudget budget;
    budget.elapsed_s = [] { return 0.0; };
    budget.stop = [] { return false; };
    budget.upper_s = [] { return 260.0; };
    budget.raise = [&](double bound_s, const std::string&) { raised_s = std::max(raised_s, bound_s); };
    const double lp_s = allotment_bound(reduced).bound_s;
    CHECK(lp_s < 180.0);  // patterns alone: the narrow one twice beside itself
    milp_bounds(reduced, lp_s, budget);
    CHECK(raised_s > 249.0);
    CHECK(raised_s <= 250.0);
  }

  TEST_CASE("plan/milp_bounds: a solver that runs out of time proves nothing") {
    const PlanProblem problem = many(7, 24, {node("n0", 8), node("n1", 8), node("n2", 8), node("n3", 8)});
    const Reduced reduced = reduce(problem);
    const AnnealResult plan = anneal(reduced, best_list(reduced, capped_allotments(reduced)),
                                     {.seed = 1, .bound_s = simple_bound_s(reduced)}, {100000, nullptr});
    const double upper_s = plan.makespan_s * 1.01;
    const double lp_s = allotment_bound(reduced, upper_s).bound_s;
    for (int step = 1; step <= 25; ++step) {
      CAPTURE(step);
      const auto begin = std::chrono::steady_clock::now();
      MilpBudget budget;
      budget.left_s = 0.02 + 0.008 * step;
      budget.elapsed_s = [&] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      };
      budget.stop = [] { return false; };
      budget.upper_s = [&] { return upper_s; };
      budget.raise = [&](double bound_s, const std::string& by) {
        CAPTURE(by);
        CHECK(bound_s <= plan.makespan_s);
      };
      milp_bounds(reduced, lp_s, budget);
    }
  }

  TEST_CASE("plan/bounds: a large price program is bounded by every plan and close to the area") {
    const PlanProblem problem =
        many(1, 900, {node("n0", 8), node("n1", 8), node("n2", 8, "slow"), node("n3", 4, "slow")});
    const Reduced reduced = reduce(problem);
    const AllotmentBound bound = allotment_bound(reduced);
    const Solution list = best_list(reduced, bound.roundings);
    REQUIRE_FALSE(list.empty());
    CHECK(bound.bound_s <= decode(reduced, list).value.makespan_s);
    CHECK(bound.bound_s >= simple_bound_s(reduced));
    SolveOptions options;
    options.iterations = 400000;
    options.num_threads = 1;
    options.baselines = false;
    const auto plan = solve(problem, options);
    REQUIRE(plan.ok());
    CHECK(check(problem, *plan).empty());
    CHECK(plan->gap() < 0.03);
  }

  TEST_CASE("plan/prune: every view of a problem leaves each task a mode") {
    const PlanProblem problem = many(2, 40, {node("n0", 8), node("n1", 8, "slow")});
    const Reduced reduced = reduce(problem);
    const Solution list = best_list(reduced, capped_allotments(reduced));
    const double upper_s = decode(reduced, list).value.makespan_s;
    const AllotmentBound bound = allotment_bound(reduced, upper_s);
    std::size_t before = 0;
    for (const double slack : {0.0, 1e-4, 1e-2, 1e9}) {
      const Pruned pruned = focus(reduced, bound, upper_s, slack);
      CHECK(pruned.possible);
      std::size_t modes = 0;
      for (const Task& task : pruned.reduced.tasks) modes += task.modes.size();
      CHECK(modes >= before);
      before = modes;
      const Solution there = pruned.from_whole(reduced, list);
      REQUIRE(there.size() == list.size());
      CHECK(decode(reduced, pruned.to_whole(there)).value.feasible);
    }
  }

  TEST_CASE("plan/anneal: groups of nodes end no later than they began") {
    const PlanProblem problem =
        many(3, 60, {node("n0", 8), node("n1", 8), node("n2", 4), node("n3", 8, "slow")});
    const Reduced reduced = reduce(problem);
    const Solution list = best_list(reduced, capped_allotments(reduced));
    const double before_s = decode(reduced, list).value.makespan_s;
    const AllotmentBound bound = allotment_bound(reduced);
    const AnnealResult result =
        anneal_groups(reduced, list, {.seed = 5, .bound_s = bound.bound_s, .class_price = bound.class_price},
                      {60000, nullptr});
    CHECK(result.makespan_s < before_s);
    CHECK(decode(reduced, result.solution).value.makespan_s == doctest::Approx(result.makespan_s));
    CHECK(result.solution.size() == list.size());
  }

  TEST_CASE("plan/pack: many nodes are packed close to the bound and every task is placed once") {
    std::vector<Node> nodes;
    for (int n = 0; n < 24; ++n) {
      nodes.push_back(node("n" + std::to_string(n), n % 6 == 5 ? 4 : 8, n % 3 == 2 ? "slow" : "gpu"));
    }
    const PlanProblem problem = many(4, 240, nodes);
    const Reduced reduced = reduce(problem);
    const AllotmentBound bound = allotment_bound(reduced);
    // Room for all, for some, and for none.
    for (const double factor : {1.06, 0.9, 1e-4}) {
      CAPTURE(factor);
      const double end_s = bound.bound_s * factor;
      const PackResult result = pack(reduced, bound, {.seed = 3, .end_s = end_s}, {400000, nullptr});
      std::vector<int> times(reduced.tasks.size(), 0);
      for (const Choice& choice : result.solution) ++times[static_cast<std::size_t>(choice.task)];
      CHECK(times == std::vector<int>(reduced.tasks.size(), 1));
      const Value value = decode(reduced, result.solution).value;
      CHECK(value.feasible);
      CHECK(value.makespan_s == doctest::Approx(result.makespan_s));
      CHECK((result.makespan_s <= end_s) == (factor > 1.0));
      CHECK((result.num_left == 0) == (factor > 1.0));
      CHECK(result.iterations <= 400000);
    }
    const PackOptions how{.seed = 3, .end_s = bound.bound_s * 1.06};
    const PackResult once = pack(reduced, bound, how, {100000, nullptr});
    const PackResult again = pack(reduced, bound, how, {100000, nullptr});
    CHECK(std::equal(once.solution.begin(), once.solution.end(), again.solution.begin(), again.solution.end(),
                     [](const Choice& a, const Choice& b) {
                       return a.task == b.task && a.node == b.node && a.mode == b.mode;
                     }));
    int asked = 0;
    const PackResult stopped = pack(reduced, bound, how, {400000, [&] { return ++asked > 20; }});
    CHECK(stopped.iterations < 100000);
    CHECK(stopped.solution.size() == reduced.tasks.size());
  }

  TEST_CASE("plan/helper: the parent never waits for a child that does not read") {
    const auto helper = Helper::start([](Link&) { ::pause(); });
    REQUIRE(helper != nullptr);
    const auto begin = std::chrono::steady_clock::now();
    const Report large{.by = "test", .solution = Solution(200000)};
    for (int i = 0; i < 5; ++i) CHECK(helper->link().send(large));
    CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(2));
  }

  TEST_CASE("plan/helper: what did not fit at once arrives whole when there is room") {
    const auto helper = Helper::start([](Link& link) {
      std::vector<Report> reports;
      while (reports.empty() && !link.closed()) reports = link.receive(1.0);
      for (Report& report : reports) {
        report.bound_s = static_cast<double>(report.solution.size());
        report.solution.clear();
        link.send(report);
      }
    });
    REQUIRE(helper != nullptr);
    CHECK(helper->link().send({.by = "test", .solution = Solution(100000)}));
    std::vector<Report> answers;
    for (int i = 0; i < 2000 && answers.empty(); ++i) answers = helper->link().receive(0.01);
    REQUIRE(answers.size() == 1);
    CHECK(answers.front().bound_s == 100000.0);
  }
}

}  // namespace
}  // namespace saturn::plan

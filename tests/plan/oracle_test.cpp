#include "tests/plan/oracle.h"

#include <doctest/doctest.h>

#include "plan/anneal.h"
#include "plan/bounds.h"
#include "plan/construct.h"
#include "plan/exact.h"
#include "plan/exact_general.h"
#include "saturn/plan/check.h"
#include "saturn/plan/solve.h"
#include "tests/plan/problems.h"

namespace saturn::plan {
namespace {

SolveOptions quick() {
  SolveOptions options;
  options.iterations = 400;
  options.num_threads = 1;
  options.baselines = false;
  return options;
}

// Times that are not whole numbers take other paths through rounding.
PlanProblem scaled(PlanProblem problem, double factor) {
  for (Job& job : problem.jobs) {
    for (Configuration& configuration : job.configurations) configuration.time_s *= factor;
    job.release_s *= factor;
  }
  return problem;
}

TEST_SUITE("plan") {
  TEST_CASE("plan/solve: is optimal and says so on thousands of tiny problems") {
    for (std::uint64_t seed = 0; seed < 3000; ++seed) {
      CAPTURE(seed);
      const PlanProblem problem = scaled(testing::random_tiny(seed), seed % 3 == 0 ? 0.37 : 1.0);
      const double best_s = testing::Oracle(problem).makespan_s();
      const auto plan = solve(problem, quick());
      REQUIRE(plan.ok());
      REQUIRE(plan->makespan_s == doctest::Approx(best_s).epsilon(1e-9));
      REQUIRE(plan->lower_bound_s <= best_s * (1.0 + 1e-9));
      REQUIRE(plan->status == Status::optimal);
      REQUIRE(check(problem, *plan).empty());
    }
  }

  TEST_CASE("plan/bounds: none is above the optimum") {
    for (std::uint64_t seed = 10000; seed < 10600; ++seed) {
      CAPTURE(seed);
      const PlanProblem problem = scaled(testing::random_tiny(seed), seed % 2 == 0 ? 1000.1 : 7.0);
      const double best_s = testing::Oracle(problem).makespan_s();
      const Reduced reduced = reduce(problem);
      CHECK(simple_bound_s(reduced) <= best_s * (1.0 + 1e-12));
      const double lp_s = allotment_bound(reduced).bound_s;
      CHECK(lp_s <= best_s * (1.0 + 1e-12));
      // Plans worse than the optimum as incumbents: the bound may only say what holds for all better ones.
      for (const double upper_s : {best_s, best_s * 1.1 + 1.0}) {
        CHECK(allotment_bound(reduced, upper_s).bound_s <=
              best_s * (1.0 + 1e-9) + (upper_s > best_s ? 1e-9 : 0.0));
        double raised_s = 0.0;
        MilpBudget budget;
        budget.node_limit = 50;
        budget.solve_limit = 4;
        budget.elapsed_s = [] { return 0.0; };
        budget.stop = [] { return false; };
        budget.upper_s = [&] { return upper_s; };
        budget.raise = [&](double bound_s, const std::string&) { raised_s = std::max(raised_s, bound_s); };
        milp_bounds(reduced, std::max(lp_s, 1e-9), budget);
        CHECK(raised_s <= best_s * (1.0 + 1e-9));
      }
    }
  }

  TEST_CASE("plan/exact: finds what exists and refutes what does not") {
    for (std::uint64_t seed = 20000; seed < 22000; ++seed) {
      CAPTURE(seed);
      const PlanProblem problem = testing::random_tiny(seed);
      const double best_s = testing::Oracle(problem).makespan_s();
      const Reduced reduced = reduce(problem);
      ExactSearch exact(reduced);
      const auto never = [] { return false; };
      REQUIRE(exact.ends_by(best_s, 1 << 20, never) == ExactSearch::Answer::found);
      REQUIRE(exact.ends_by(best_s - 1.0, 1 << 20, never) == ExactSearch::Answer::refuted);
    }
  }

  TEST_CASE("plan/exact: refutes no plan that annealing finds") {
    for (std::uint64_t seed = 40000; seed < 40400; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      PlanProblem problem;
      problem.name = "medium";
      const int num_nodes = 1 + static_cast<int>(random.below(4));
      const int width = 1 + static_cast<int>(random.below(4));
      for (int n = 0; n < num_nodes; ++n) {
        problem.nodes.push_back(testing::node("n" + std::to_string(n), n == 3 ? 1 : width));
      }
      const int num_jobs = 5 + static_cast<int>(random.below(5));
      for (int j = 0; j < num_jobs; ++j) {
        if (j > 0 && random.below(4) == 0) {  // twins
          problem.jobs.push_back(problem.jobs.back());
          problem.jobs.back().name = "j" + std::to_string(j);
          continue;
        }
        std::vector<testing::Size> sizes;
        for (int w = 1; w <= width; ++w) sizes.push_back({w, static_cast<double>(1 + random.below(20))});
        problem.jobs.push_back(testing::job("j" + std::to_string(j), sizes));
      }
      const Reduced reduced = reduce(problem);
      const AnnealResult annealed = anneal(reduced, best_list(reduced, capped_allotments(reduced)),
                                           {.seed = seed, .bound_s = 1.0}, {4000, nullptr});
      ExactSearch exact(reduced);
      REQUIRE(exact.ends_by(annealed.makespan_s, 1 << 24, [] { return false; }) ==
              ExactSearch::Answer::found);
      CHECK(decode(reduced, exact.solution()).value.makespan_s <= annealed.makespan_s);
    }
  }

  TEST_CASE("plan/exact_general: decides problems with releases and order and memory") {
    for (std::uint64_t seed = 50000; seed < 51000; ++seed) {
      CAPTURE(seed);
      PlanProblem problem = testing::random_tiny(seed);
      Random random(seed);
      for (std::size_t j = 0; j < problem.jobs.size(); ++j) {
        Job& one = problem.jobs[j];
        if (random.below(3) == 0) one.release_s = static_cast<double>(random.below(15));
        if (j > 0 && random.below(3) == 0) one.after = {problem.jobs[random.below(j)].name};
        for (Configuration& configuration : one.configurations)
          configuration.host_memory_bytes = static_cast<std::int64_t>(1 + random.below(10));
      }
      for (Node& node : problem.nodes) {
        if (random.below(2) == 0) node.host_memory_bytes = static_cast<std::int64_t>(10 + random.below(8));
      }
      const double best_s = testing::Oracle(problem).makespan_s();
      const Reduced reduced = reduce(problem);
      REQUIRE(exactly_searchable(reduced));
      const ExactOutcome outcome = search_exactly(reduced, kNever, 1 << 24, nullptr);
      REQUIRE(outcome.complete);
      CHECK(outcome.ends_s == best_s);
      CHECK(decode(reduced, outcome.solution).value.makespan_s == best_s);
      const ExactOutcome none = search_exactly(reduced, best_s, 1 << 24, nullptr);
      CHECK(none.complete);
      CHECK(none.solution.empty());
      CHECK_FALSE(search_exactly(reduced, kNever, 1, nullptr).complete);
    }
  }

  TEST_CASE("plan/solve: keeps releases and order and reaches the optimum") {
    for (std::uint64_t seed = 30000; seed < 30250; ++seed) {
      CAPTURE(seed);
      PlanProblem problem = testing::random_tiny(seed);
      Random random(seed);
      for (std::size_t j = 0; j < problem.jobs.size(); ++j) {
        if (random.below(3) == 0) problem.jobs[j].release_s = static_cast<double>(random.below(15));
        if (j > 0 && random.below(3) == 0) problem.jobs[j].after = {problem.jobs[random.below(j)].name};
      }
      const double best_s = testing::Oracle(problem).makespan_s();
      SolveOptions options = quick();
      options.iterations = 60000;
      const auto plan = solve(problem, options);
      REQUIRE(plan.ok());
      CHECK(check(problem, *plan).empty());
      CHECK(plan->lower_bound_s == best_s);
      CHECK(plan->makespan_s == best_s);
      CHECK(plan->status == Status::optimal);
    }
  }
}

}  // namespace
}  // namespace saturn::plan

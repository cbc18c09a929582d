// Cuts of a pipeline against every cut there is.

#include "saturn/batch/pipeline_balance.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "saturn/base/random.h"

namespace saturn::testing {

using batch::BalanceProblem;

namespace {

BalanceProblem random_problem(Random& random, int num_layers, int num_stages, int micro_batches) {
  BalanceProblem problem{.num_stages = num_stages};
  for (int i = 0; i < num_layers; ++i)
    problem.layers.push_back({.time_s = 0.5 + random.uniform(),
                              .send_s = 0.3 * random.uniform(),
                              .state_bytes = 100 + static_cast<std::int64_t>(random.below(400)),
                              .kept_bytes = 10 + static_cast<std::int64_t>(random.below(90))});
  for (int k = 0; k < num_stages; ++k) problem.most_kept.push_back(std::min(num_stages - k, micro_batches));
  return problem;
}

struct Best {
  double slowest_s = std::numeric_limits<double>::infinity();
  std::int64_t smallest_bytes = std::numeric_limits<std::int64_t>::max();  ///< of the largest stage
};

/// Tries every cut.
void try_all(const BalanceProblem& problem, std::vector<int>& cuts, Best& best) {
  const auto num_layers = static_cast<int>(problem.layers.size());
  if (static_cast<int>(cuts.size()) + 1 < problem.num_stages) {
    for (int cut = cuts.empty() ? 1 : cuts.back() + 1; cut < num_layers; ++cut) {
      cuts.push_back(cut);
      try_all(problem, cuts, best);
      cuts.pop_back();
    }
    return;
  }
  double slowest_s = 0.0;
  std::int64_t largest_bytes = 0;
  for (int k = 0; k < problem.num_stages; ++k) {
    const auto range = batch::layers_of_stage(cuts, k, num_layers);
    double time_s = 0.0;
    for (int i = range.first; i < range.end; ++i)
      time_s += problem.layers[static_cast<std::size_t>(i)].time_s;
    if (k + 1 < problem.num_stages) time_s += problem.layers[static_cast<std::size_t>(range.end) - 1].send_s;
    slowest_s = std::max(slowest_s, time_s);
    largest_bytes = std::max(largest_bytes, batch::stage_bytes(problem, k, range));
  }
  best.smallest_bytes = std::min(best.smallest_bytes, largest_bytes);
  if (problem.memory_bytes == 0 || largest_bytes <= problem.memory_bytes)
    best.slowest_s = std::min(best.slowest_s, slowest_s);
}

Best best_of(const BalanceProblem& problem) {
  Best best;
  std::vector<int> cuts;
  try_all(problem, cuts, best);
  return best;
}

}  // namespace

TEST_SUITE("batch") {
  TEST_CASE("batch/pipeline_balance: reaches the best of all cuts with and without a bound on memory") {
    Random random(3);
    int bounded = 0;
    int impossible = 0;
    for (int trial = 0; trial < 300; ++trial) {
      const int num_stages = 1 + static_cast<int>(random.below(4));
      const int num_layers = num_stages + static_cast<int>(random.below(7));
      BalanceProblem problem =
          random_problem(random, num_layers, num_stages, 1 + static_cast<int>(random.below(6)));
      CAPTURE(trial);
      const Best free = best_of(problem);
      const auto found = balance(problem);
      REQUIRE(found.ok());
      CHECK(found->slowest_s == doctest::Approx(free.slowest_s));
      CHECK(static_cast<int>(found->cuts.size()) == num_stages - 1);
      CHECK(std::is_sorted(found->cuts.begin(), found->cuts.end()));

      problem.memory_bytes = static_cast<std::int64_t>(static_cast<double>(free.smallest_bytes) *
                                                       (0.9 + 0.4 * random.uniform()));
      const Best fitting = best_of(problem);
      const auto tight = balance(problem);
      if (fitting.smallest_bytes > problem.memory_bytes) {
        ++impossible;
        REQUIRE_FALSE(tight.ok());
        CHECK(tight.faults().front().kind == Kind::infeasible);
        continue;
      }
      REQUIRE(tight.ok());
      CHECK(tight->slowest_s == doctest::Approx(fitting.slowest_s));
      for (int k = 0; k < num_stages; ++k)
        CHECK(stage_bytes(problem, k, batch::layers_of_stage(tight->cuts, k, num_layers)) <=
              problem.memory_bytes);
      if (tight->slowest_s > found->slowest_s) ++bounded;
    }
    CHECK(bounded > 10);
    CHECK(impossible > 10);
  }

  TEST_CASE("batch/pipeline_balance: more stages than layers are refused with both numbers") {
    BalanceProblem problem{.layers = {{}, {}}, .num_stages = 3, .most_kept = {3, 2, 1}};
    const auto found = balance(problem);
    REQUIRE_FALSE(found.ok());
    CHECK(found.faults().front().what == "3 stages are more than the model's 2 layers");
  }

  TEST_CASE("batch/pipeline_balance: a slow head gets fewer layers beside it and sending moves a cut") {
    BalanceProblem problem{.num_stages = 2, .most_kept = {2, 1}};
    for (int i = 0; i < 6; ++i) problem.layers.push_back({.time_s = 1.0});
    problem.layers.push_back({.time_s = 3.0});
    CHECK(balance(problem)->cuts == std::vector<int>{4});
    problem.layers[3].send_s = 2.0;
    CHECK(balance(problem)->cuts == std::vector<int>{5});
  }
}

}  // namespace saturn::testing

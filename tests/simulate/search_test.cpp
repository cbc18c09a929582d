// Searches on a virtual clock: what planning their jobs' widths gains over one width for all.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/simulate/play_search.h"

namespace saturn::simulate {
namespace {

// Jobs of 270 steps and an hour on one device; the usual scaling exponent of 0.85.
plan::PlanProblem hours(int num_jobs, int num_devices) {
  plan::PlanProblem problem{.name = "paper",
                            .nodes = {{.name = "n0", .device_class = "a", .num_devices = num_devices}}};
  for (int j = 0; j < num_jobs; ++j) {
    plan::Job job{.name = "job-" + std::to_string(j), .last_step = 270};
    for (int width = 1; width <= num_devices; width *= 2) {
      job.configurations.push_back({.technique = width == 1 ? "single" : "ddp",
                                    .num_devices = width,
                                    .num_ranks = width,
                                    .device_class = "a",
                                    .time_s = 3600.0 / std::pow(width, 0.85)});
    }
    problem.jobs.push_back(std::move(job));
  }
  return problem;
}

SearchSettings asha(std::uint64_t seed) {
  return {.search = {.method = "asha", .goal = "min", .first_rung = 10, .reduction_factor = 3}, .seed = seed};
}

TEST_SUITE("simulate") {
  TEST_CASE("simulate/search: a search trains a part of the steps and is the same every time") {
    const plan::PlanProblem problem = hours(12, 4);
    const Result<SearchOutcome> once = simulate_search(problem, asha(3));
    REQUIRE_MESSAGE(once.ok(), to_text(once.ok() ? Diagnostics{} : once.faults()));
    CHECK(once->num_done >= 1);
    CHECK(once->num_steps <= 12 * 270 / 2);
    CHECK(once->best_s > 0.0);
    CHECK(once->best_s <= once->makespan_s);
    const Result<SearchOutcome> twice = simulate_search(problem, asha(3));
    REQUIRE(twice.ok());
    CHECK(twice->best_job == once->best_job);
    CHECK(twice->best_s == once->best_s);
    CHECK(twice->makespan_s == once->makespan_s);
  }

  TEST_CASE("simulate/search: widths that are planned come to the best job sooner than one width for all") {
    const plan::PlanProblem problem = hours(16, 8);
    double ratios = 0.0;
    int num_compared = 0;
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      CAPTURE(seed);
      const Result<SearchOutcome> planned = simulate_search(problem, asha(seed));
      REQUIRE(planned.ok());
      double fixed_s = std::numeric_limits<double>::infinity();
      for (const int width : {1, 2, 4, 8}) {
        SearchSettings settings = asha(seed);
        settings.max_moves = 0;
        const Result<plan::PlanProblem> fixed = at_width(problem, width);
        REQUIRE(fixed.ok());
        const Result<SearchOutcome> ran = simulate_search(*fixed, settings);
        REQUIRE(ran.ok());
        if (ran->best_job == planned->best_job) fixed_s = std::min(fixed_s, ran->best_s);
      }
      if (std::isinf(fixed_s)) continue;
      MESSAGE("planned " << planned->best_s << " s, best fixed width " << fixed_s << " s");
      ratios += planned->best_s / fixed_s;
      ++num_compared;
    }
    REQUIRE(num_compared > 0);
    CHECK(ratios / num_compared < 1.0);
  }

  TEST_CASE("simulate/search: a width that a job does not have is refused by name") {
    const Result<plan::PlanProblem> none = at_width(hours(2, 4), 3);
    REQUIRE_FALSE(none.ok());
    CHECK(none.faults().front().what.find("job-0") != std::string::npos);
    CHECK(at_width(hours(2, 4), 2)->jobs.front().configurations.size() == 1);
  }
}

}  // namespace
}  // namespace saturn::simulate

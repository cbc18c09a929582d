// Where jobs are looked at, and what is made up for after a crash.

#include "saturn/search/rungs.h"

#include <doctest/doctest.h>

namespace saturn::search {
namespace {

using Steps = std::vector<std::int64_t>;

batch::SearchSettings asha(int first_rung, int reduction_factor) {
  return {.method = "asha", .goal = "min", .first_rung = first_rung, .reduction_factor = reduction_factor};
}

journal::JobRecord judged_at(const Steps& rungs, std::int64_t num_steps = 100) {
  journal::JobRecord record{.name = "a", .num_steps = num_steps};
  for (const std::int64_t rung : rungs) record.rungs.push_back({.rung = rung, .step = rung});
  return record;
}

TEST_SUITE("search") {
  TEST_CASE("search/rungs: asha multiplies and median adds up to the last step and never at it") {
    CHECK(rungs_of(asha(10, 3), 100) == Steps{10, 30, 90});
    CHECK(rungs_of(asha(10, 3), 90) == Steps{10, 30});
    CHECK(rungs_of(asha(10, 3), 10).empty());
    CHECK(rungs_of({.method = "median", .first_rung = 10, .rung_every = 25}, 70) == Steps{10, 35, 60});
    CHECK(rungs_of({.method = "median", .first_rung = 10}, 31) == Steps{10, 20, 30});
    CHECK(rungs_of({}, 100).empty());
  }

  TEST_CASE("search/rungs: a long job has a bounded number of them") {
    const Steps rungs = rungs_of({.method = "median", .first_rung = 1}, 1'000'000);
    CHECK(rungs.size() <= static_cast<std::size_t>(kMostRungs));
    CHECK(rungs.size() > static_cast<std::size_t>(kMostRungs) / 2);
  }

  TEST_CASE("search/rungs: a validation answers the last rung before it once") {
    CHECK_FALSE(rung_reached(asha(10, 3), judged_at({}), 9).has_value());
    CHECK(rung_reached(asha(10, 3), judged_at({}), 10) == 10);
    CHECK(rung_reached(asha(10, 3), judged_at({}), 29) == 10);
    CHECK_FALSE(rung_reached(asha(10, 3), judged_at({10}), 29).has_value());
    CHECK(rung_reached(asha(10, 3), judged_at({10}), 30) == 30);
    CHECK_FALSE(rung_reached({}, judged_at({}), 30).has_value());
  }

  TEST_CASE("search/rungs: an attempt validates at the rungs ahead and at once where one was missed") {
    CHECK(validations(asha(10, 3), judged_at({}), 0) == Steps{10, 30, 90});
    CHECK(validations(asha(10, 3), judged_at({10}), 10) == Steps{30, 90});
    CHECK(validations(asha(10, 3), judged_at({}), 10) == Steps{10, 30, 90});
    CHECK(validations(asha(10, 3), judged_at({10}), 40) == Steps{40, 90});
    // Gone back behind a rung that it was judged at: it is not asked again.
    CHECK(validations(asha(10, 3), judged_at({10, 30}), 5) == Steps{90});
  }
}

}  // namespace
}  // namespace saturn::search

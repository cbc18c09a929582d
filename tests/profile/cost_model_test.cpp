// Estimates of what was not measured: where they lie, and that their bounds hold what comes out.

#include "profile/cost_model.h"

#include <doctest/doctest.h>

#include <cmath>

namespace saturn::profile {
namespace {

Trial trial_of(const std::string& job_class, const std::string& technique, int num_devices,
               double predicted_s, double step_time_s = 0.0) {
  return {.job_class = job_class,
          .configuration = {.technique = technique, .num_devices = num_devices, .num_ranks = num_devices},
          .outcome = step_time_s > 0.0 ? Outcome::ok : Outcome::failed,
          .step_time_s = step_time_s,
          .predicted_step_time_s = predicted_s};
}

CostModel model_of(const std::vector<Trial>& trials, double widening = 1.0) {
  return CostModel(trials, widening);
}

TEST_SUITE("profile") {
  TEST_CASE("profile/cost_model: nothing is estimated before anything was measured") {
    const Trial unknown = trial_of("a", "ddp", 2, 1.0);
    CHECK_FALSE(model_of({}).estimate(unknown));
    Trial refused = trial_of("a", "ddp", 1, 2.0, 5.0);
    refused.outcome = Outcome::out_of_memory;
    CHECK_FALSE(model_of({refused}).estimate(unknown));
    CHECK_FALSE(model_of({trial_of("a", "ddp", 1, 2.0, 5.0)}).estimate(trial_of("a", "ddp", 2, 0.0)));
  }

  TEST_CASE("profile/cost_model: a class seen once takes the shape of the others") {
    // The machine is three times as slow as the formula; ddp x4 half as slow again. b is five times a.
    const std::vector<Trial> seen = {trial_of("a", "single", 1, 8.0, 24.0), trial_of("a", "ddp", 4, 2.0, 9.0),
                                     trial_of("c", "single", 1, 4.0, 12.0), trial_of("c", "ddp", 4, 1.0, 4.5),
                                     trial_of("b", "single", 1, 40.0, 120.0)};
    const std::optional<Estimate> estimate = model_of(seen).estimate(trial_of("b", "ddp", 4, 10.0));
    REQUIRE(estimate);
    CHECK(estimate->low_s <= 45.0);
    CHECK(estimate->high_s >= 45.0);
    CHECK(estimate->step_s == doctest::Approx(45.0).epsilon(0.15));
    CHECK(estimate->low_s >= 30.0 / 1.005 - 1e-9);  // no better than a quarter of what one device takes
  }

  TEST_CASE("profile/cost_model: a width between two measured ones lies between what both allow") {
    const std::vector<Trial> seen = {trial_of("a", "ddp", 1, 8.0, 8.0), trial_of("a", "ddp", 4, 2.0, 3.0)};
    const std::optional<Estimate> between = model_of(seen).estimate(trial_of("a", "ddp", 2, 4.0));
    REQUIRE(between);
    CHECK(between->low_s >= 4.0 / 1.005 - 1e-9);   // 8 device-seconds a step on two devices
    CHECK(between->high_s <= 6.0 * 1.005 + 1e-9);  // 12 of them
    CHECK(between->step_s > 4.0);
    CHECK(between->step_s < 6.0);
    // Beyond the widest only the machine's best use of devices bounds it.
    const std::optional<Estimate> beyond = model_of(seen).estimate(trial_of("a", "ddp", 8, 1.0));
    REQUIRE(beyond);
    CHECK(beyond->low_s >= 12.0 / 8 / 1.005 - 1e-9);
  }

  TEST_CASE("profile/cost_model: what is less known has wider bounds") {
    const std::vector<Trial> seen = {trial_of("a", "single", 1, 8.0, 8.0), trial_of("a", "ddp", 2, 4.0, 4.0),
                                     trial_of("b", "single", 1, 8.0, 8.0)};
    const CostModel model = model_of(seen);
    const auto spread = [&](const Trial& candidate) {
      const std::optional<Estimate> estimate = model.estimate(candidate);
      REQUIRE(estimate);
      return estimate->high_s / estimate->step_s;
    };
    Trial knob = trial_of("a", "ddp", 2, 4.2);
    knob.configuration.knobs["micro_batches"] = 2;
    const double same_way = spread(knob), of_others = spread(trial_of("b", "ddp", 2, 4.0));
    const double other_width = spread(trial_of("b", "ddp", 4, 2.0));
    const double new_technique = spread(trial_of("b", "fsdp", 4, 2.0));
    const double new_class = spread(trial_of("z", "fsdp", 4, 2.0));
    CHECK(same_way < of_others);
    CHECK(of_others < other_width);
    CHECK(other_width < new_technique);
    CHECK(new_technique < new_class);
  }

  TEST_CASE("profile/cost_model: classes that disagree widen the bounds of all") {
    const auto spread = [](double of_c) {
      const std::vector<Trial> seen = {
          trial_of("a", "single", 1, 8.0, 8.0), trial_of("a", "ddp", 2, 4.0, 5.0),
          trial_of("c", "single", 1, 8.0, 8.0), trial_of("c", "ddp", 2, 4.0, of_c),
          trial_of("b", "single", 1, 8.0, 8.0)};
      const std::optional<Estimate> estimate = model_of(seen).estimate(trial_of("b", "ddp", 2, 4.0));
      REQUIRE(estimate);
      return estimate->high_s / estimate->low_s;
    };
    CHECK(spread(10.0) > 1.5 * spread(5.0));
  }

  TEST_CASE("profile/cost_model: a miss says by how much margins must widen and widening them is enough") {
    const std::vector<Trial> seen = {trial_of("a", "single", 1, 8.0, 8.0), trial_of("a", "ddp", 2, 4.0, 5.0),
                                     trial_of("b", "single", 1, 8.0, 8.0)};
    const Trial candidate = trial_of("b", "ddp", 2, 4.0);
    const std::optional<Estimate> estimate = model_of(seen).estimate(candidate);
    REQUIRE(estimate);
    CHECK(missed(*estimate, estimate->step_s) == 1.0);
    CHECK(missed(*estimate, estimate->high_s) == doctest::Approx(1.0));
    const double far_s = estimate->high_s * 1.3;
    const double by = missed(*estimate, far_s);
    CHECK(by > 1.0);
    const std::optional<Estimate> wider = model_of(seen, by).estimate(candidate);
    REQUIRE(wider);
    CHECK(wider->high_s >= far_s * (1.0 - 1e-9));
  }
}

}  // namespace
}  // namespace saturn::profile

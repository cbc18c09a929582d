// Corrections: a trial that was timed takes its own, its class follows part of the way.

#include <doctest/doctest.h>

#include <cmath>

#include "saturn/profile/profile.h"

namespace saturn::profile {
namespace {

Trial trial(const std::string& id, const std::string& job_class) {
  return {.id = id,
          .job_class = job_class,
          .outcome = Outcome::ok,
          .step_time_s = 1.0,
          .memory_peak_bytes = 1'000'000'000,
          .start_time_s = 4.0,
          .evaluate_time_s = 3.0};
}

TEST_SUITE("profile") {
  TEST_CASE("profile/correct: timed trials take their factor and others of their class its square root") {
    Profile profile;
    profile.trials = {trial("a1", "a"), trial("a2", "a"), trial("b1", "b")};
    profile.corrections = {{.trial = "a1", .step_factor = 9.0, .num_steps = 10}};
    const Profile now =
        corrected(profile, {{.trial = "a1", .step_factor = 4.0, .num_steps = 10, .start_s = 7.0}});
    CHECK(now.find_id("a1")->step_time_s == doctest::Approx(4.0));
    CHECK(now.find_id("a1")->evaluate_time_s == doctest::Approx(12.0));
    CHECK(now.find_id("a1")->start_time_s == doctest::Approx(7.0));
    CHECK(now.find_id("a2")->step_time_s == doctest::Approx(2.0));
    CHECK(now.find_id("a2")->start_time_s == doctest::Approx(4.0));
    CHECK(now.find_id("b1")->step_time_s == doctest::Approx(1.0));
    // Applied once: what comes out has none left.
    CHECK(now.corrections.empty());
    CHECK(corrected(now, {}).find_id("a1")->step_time_s == doctest::Approx(4.0));
    // The profile's own count where a run knows nothing newer.
    CHECK(corrected(profile, {}).find_id("a1")->step_time_s == doctest::Approx(9.0));
  }

  TEST_CASE("profile/correct: what was not timed is priced by its size and a failed trial stays as it is") {
    Profile profile;
    profile.trials = {trial("a1", "a"), trial("a2", "a")};
    profile.trials[1].outcome = Outcome::failed;
    profile.trials[1].step_time_s = 0.0;
    const Profile now =
        corrected(profile, {{.trial = "a1", .step_factor = 1.0, .num_steps = 0, .save_s = 0.5}});
    CHECK(now.find_id("a1")->save_time_s == doctest::Approx(0.5));
    CHECK(now.find_id("a1")->load_time_s == doctest::Approx(2.0));
    CHECK(now.find_id("a1")->step_time_s == doctest::Approx(1.0));
    CHECK(now.find_id("a2")->step_time_s == 0.0);
    CHECK(now.find_id("a2")->load_time_s == 0.0);
  }

  TEST_CASE(
      "profile/correct: what was seen of classes and of their trials says how far the others may be off") {
    Profile profile;
    profile.trials = {trial("a1", "a"), trial("a2", "a"), trial("b1", "b"), trial("c1", "c")};
    const auto timed = [](const std::string& id, double factor) {
      return Correction{.trial = id, .step_factor = factor, .num_steps = 10};
    };
    const Spread before = spreads_of(profile, {}).at("c");
    CHECK(std::hypot(before.common, before.own) == doctest::Approx(0.1).epsilon(0.02));
    // Classes that are right make others more credible and classes that are wrong less.
    CHECK(spreads_of(profile, {timed("a1", 1.0), timed("b1", 1.0)}).at("c").common < before.common);
    const auto wrong = spreads_of(profile, {timed("a1", 1.4), timed("b1", 0.7)});
    CHECK(wrong.at("c").common > 1.5 * before.common);
    // What is left of a class is less once a trial of it was timed.
    CHECK(wrong.at("a").common < 0.8 * wrong.at("c").common);
    // Trials of one class that disagree say that trials are wrong on their own.
    const std::vector<Correction> disagree = {timed("a1", 1.4), timed("a2", 0.7)};
    CHECK(spreads_of(profile, disagree).at("c").own > before.own);
    CHECK(spreads_of(profile, disagree).at("c").common < spreads_of(profile, disagree).at("c").own);
    // And those that agree say that it is the class.
    const std::vector<Correction> agree = {timed("a1", 1.4), timed("a2", 1.4)};
    CHECK(spreads_of(profile, agree).at("c").common > spreads_of(profile, agree).at("c").own);
    CHECK(corrected(profile, {timed("a1", 1.4), timed("b1", 0.7)}).find_id("c1")->step_time_s == 1.0);
  }
}

}  // namespace
}  // namespace saturn::profile

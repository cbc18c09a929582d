// The prediction ledger: what is compared, and what is left out.

#include "saturn/run/accuracy.h"

#include <doctest/doctest.h>

#include "saturn/run/progress.h"

namespace saturn::run {
namespace {

journal::Attempt attempt_of(int number, double end_s) {
  journal::Attempt attempt{.number = number,
                           .technique = "single",
                           .num_devices = 1,
                           .trial = "t",
                           .predicted_s = 90.0,
                           .predicted_step_s = 1.0,
                           .predicted_start_s = 3.0,
                           .start_s = 10.0};
  attempt.first_step_s = 16.0;
  attempt.pace = {.typical_s = 2.0, .num_timed = 40};
  attempt.save_s = 0.5;
  attempt.end_s = end_s;
  return attempt;
}

profile::Profile profile_of_one() {
  profile::Profile profile;
  profile.trials = {{.id = "t",
                     .outcome = profile::Outcome::ok,
                     .step_time_s = 1.0,
                     .memory_peak_bytes = 800,
                     .save_time_s = 0.25}};
  return profile;
}

journal::RunState state_of(journal::JobState job_state, std::vector<journal::Attempt> attempts) {
  journal::RunState state;
  state.jobs = {{.name = "a",
                 .num_steps = 41,
                 .state = job_state,
                 .attempts = std::move(attempts),
                 .memory_peak_bytes = 1000}};
  return state;
}

TEST_SUITE("run") {
  TEST_CASE("run/accuracy: every quantity of a whole attempt is compared") {
    const Accuracy accuracy =
        accuracy_of(state_of(journal::JobState::done, {attempt_of(1, 110.0)}), profile_of_one());
    REQUIRE(accuracy.attempts.size() == 1);
    const AttemptAccuracy& of = accuracy.attempts.front();
    REQUIRE(of.step_s);
    CHECK(of.step_s->error() == doctest::Approx(-0.5));
    REQUIRE(of.start_s);
    CHECK(of.start_s->measured == doctest::Approx(4.0));  // 6 s to the end of the first step, of 2 s
    CHECK(of.start_s->error() == doctest::Approx(-0.25));
    REQUIRE(of.save_s);
    CHECK(of.save_s->error() == doctest::Approx(-0.5));
    REQUIRE(of.total_s);
    CHECK(of.total_s->error() == doctest::Approx(-0.1));
    REQUIRE(of.memory_bytes);
    CHECK(of.memory_bytes->error() == doctest::Approx(-0.2));
    CHECK_FALSE(accuracy.makespan_s);  // no plan was in force
  }

  TEST_CASE("run/accuracy: what was cut short or not predicted is left out") {
    journal::Attempt stopped = attempt_of(1, 50.0);
    stopped.requested = true;
    journal::Attempt brief = attempt_of(2, 60.0);
    brief.error_class = "rank_lost";
    brief.pace = {};
    brief.first_step_s.reset();
    brief.save_s = 0.0;
    const Accuracy accuracy =
        accuracy_of(state_of(journal::JobState::training, {stopped, brief}), profile_of_one());
    REQUIRE(accuracy.attempts.size() == 2);
    CHECK(accuracy.attempts[0].step_s);
    CHECK_FALSE(accuracy.attempts[0].total_s);
    CHECK_FALSE(accuracy.attempts[0].memory_bytes);  // the peak is of either attempt
    for (const auto quantity : {&AttemptAccuracy::step_s, &AttemptAccuracy::start_s, &AttemptAccuracy::save_s,
                                &AttemptAccuracy::total_s, &AttemptAccuracy::memory_bytes})
      CHECK_FALSE(accuracy.attempts[1].*quantity);
    CHECK(*typical_error(accuracy, &AttemptAccuracy::step_s) == doctest::Approx(0.5));
    CHECK_FALSE(typical_error(accuracy, &AttemptAccuracy::total_s));
  }

  TEST_CASE("run/accuracy: the next plan of the run believes what was measured") {
    const journal::RunState state = state_of(journal::JobState::done, {attempt_of(1, 110.0)});
    CHECK(estimates_of(profile_of_one(), state).trials.front().step_time_s == doctest::Approx(2.0));
    CHECK(estimates_of(profile_of_one(), {}).trials.front().step_time_s == doctest::Approx(1.0));
  }
}

}  // namespace
}  // namespace saturn::run

// The table of states, looked at from every pair.

#include "saturn/journal/job_state.h"

#include <doctest/doctest.h>

#include <map>
#include <set>

namespace saturn::journal {
namespace {

constexpr JobEvent kEndings[] = {JobEvent::finish, JobEvent::requeue, JobEvent::fail};

std::vector<JobState> all_states() {
  std::vector<JobState> states;
  for (int i = 0; i < kNumJobStates; ++i) states.push_back(static_cast<JobState>(i));
  return states;
}

std::vector<JobEvent> all_events() {
  std::vector<JobEvent> events;
  for (int i = 0; i < kNumJobEvents; ++i) events.push_back(static_cast<JobEvent>(i));
  return events;
}

}  // namespace

TEST_SUITE("journal") {
  TEST_CASE("journal/job_state: every pair of state and event has the outcome written here") {
    // One line per state, one letter per event in the order of JobEvent:
    // start step save stop finish requeue fail pause resume cancel stop_early reset; "." cannot happen.
    // p pending, s starting, t training, v saving, g stopping, u paused, e stopped_early, c cancelled, f
    // failed, d done
    const std::map<JobState, std::string> want = {
        {JobState::pending, "s.....fu.cep"},       {JobState::starting, ".tvgdpf....."},
        {JobState::training, ".tvgdpf....."},      {JobState::saving, ".tvgdpf....."},
        {JobState::stopping, ".gggdpfu.ce."},      {JobState::paused, "........pcep"},
        {JobState::stopped_early, "........p..p"}, {JobState::cancelled, "...........p"},
        {JobState::failed, "...........p"},        {JobState::done, "...........p"},
    };
    const std::string letters = "pstvguecfd";
    REQUIRE(want.size() == kNumJobStates);
    for (const JobState state : all_states()) {
      std::string have;
      for (const JobEvent event : all_events()) {
        const std::optional<JobState> next = next_state(state, event);
        have += next ? letters[static_cast<std::size_t>(*next)] : '.';
      }
      CAPTURE(std::string(to_string(state)));
      CHECK(have == want.at(state));
    }
  }

  TEST_CASE("journal/job_state: a running job can end in every way an attempt ends") {
    for (const JobState state : all_states()) {
      if (!is_running(state)) continue;
      CAPTURE(std::string(to_string(state)));
      for (const JobEvent ending : kEndings) CHECK(next_state(state, ending).has_value());
    }
  }

  TEST_CASE(
      "journal/job_state: every state is reached from pending and a final one is left only on request") {
    std::set<JobState> reached = {JobState::pending};
    for (std::size_t before = 0; before != reached.size();) {
      before = reached.size();
      for (const JobState state : std::set<JobState>(reached)) {
        for (const JobEvent event : all_events()) {
          if (const auto next = next_state(state, event)) reached.insert(*next);
        }
      }
    }
    CHECK(reached.size() == kNumJobStates);
    for (const JobState state : all_states()) {
      CHECK_FALSE((is_final(state) && is_running(state)));
      if (!is_final(state)) continue;
      for (const JobEvent event : all_events()) {
        if (event != JobEvent::reset && event != JobEvent::resume)
          CHECK_FALSE(next_state(state, event).has_value());
      }
    }
  }

  TEST_CASE("journal/job_state: names go both ways") {
    for (const JobState state : all_states()) CHECK(job_state_from(to_string(state)) == state);
    for (const JobEvent event : all_events()) CHECK(job_event_from(to_string(event)) == event);
    CHECK_FALSE(job_state_from("Done").has_value());
    CHECK_FALSE(job_event_from("").has_value());
  }
}

}  // namespace saturn::journal

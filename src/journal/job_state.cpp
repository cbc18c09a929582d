// The table of a job's states.

#include "saturn/journal/job_state.h"

#include <array>

namespace saturn::journal {
namespace {

using S = JobState;
using E = JobEvent;

constexpr std::array<const char*, kNumJobStates> kStateNames = {
    "pending", "starting",      "training",  "saving", "stopping",
    "paused",  "stopped_early", "cancelled", "failed", "done"};
constexpr std::array<const char*, kNumJobEvents> kEventNames = {"start",  "step",    "save",       "stop",
                                                                "finish", "requeue", "fail",       "pause",
                                                                "resume", "cancel",  "stop_early", "reset"};

struct Transition {
  S from;
  E event;
  S to;
};

// All that can happen; what is not here cannot.
constexpr Transition kTransitions[] = {
    {S::pending, E::start, S::starting},
    {S::pending, E::fail, S::failed},  // no configuration is left to try
    {S::pending, E::pause, S::paused},
    {S::pending, E::cancel, S::cancelled},
    {S::pending, E::stop_early, S::stopped_early},
    {S::pending, E::reset, S::pending},

    {S::starting, E::step, S::training},
    {S::starting, E::save, S::saving},
    {S::starting, E::stop, S::stopping},
    {S::starting, E::finish, S::done},
    {S::starting, E::requeue, S::pending},
    {S::starting, E::fail, S::failed},

    {S::training, E::step, S::training},
    {S::training, E::save, S::saving},
    {S::training, E::stop, S::stopping},
    {S::training, E::finish, S::done},
    {S::training, E::requeue, S::pending},
    {S::training, E::fail, S::failed},

    {S::saving, E::step, S::training},
    {S::saving, E::save, S::saving},
    {S::saving, E::stop, S::stopping},
    {S::saving, E::finish, S::done},
    {S::saving, E::requeue, S::pending},
    {S::saving, E::fail, S::failed},

    {S::stopping, E::step, S::stopping},  // what was on its way when it was asked to stop
    {S::stopping, E::save, S::stopping},
    {S::stopping, E::stop, S::stopping},
    {S::stopping, E::finish, S::done},
    {S::stopping, E::requeue, S::pending},
    {S::stopping, E::fail, S::failed},
    {S::stopping, E::pause, S::paused},
    {S::stopping, E::cancel, S::cancelled},
    {S::stopping, E::stop_early, S::stopped_early},

    {S::paused, E::resume, S::pending},
    {S::paused, E::cancel, S::cancelled},
    {S::paused, E::stop_early, S::stopped_early},
    {S::paused, E::reset, S::pending},

    {S::stopped_early, E::resume, S::pending},  // promoted after all
    {S::stopped_early, E::reset, S::pending},

    {S::cancelled, E::reset, S::pending},
    {S::failed, E::reset, S::pending},
    {S::done, E::reset, S::pending},
};

}  // namespace

std::optional<JobState> next_state(JobState state, JobEvent event) {
  for (const Transition& transition : kTransitions) {
    if (transition.from == state && transition.event == event) return transition.to;
  }
  return std::nullopt;
}

bool is_final(JobState state) {
  return state == S::stopped_early || state == S::cancelled || state == S::failed || state == S::done;
}

bool is_running(JobState state) {
  return state == S::starting || state == S::training || state == S::saving || state == S::stopping;
}

const char* to_string(JobState state) {
  return kStateNames[static_cast<std::size_t>(state)];
}

const char* to_string(JobEvent event) {
  return kEventNames[static_cast<std::size_t>(event)];
}

std::optional<JobState> job_state_from(const std::string& name) {
  for (int i = 0; i < kNumJobStates; ++i) {
    if (name == kStateNames[static_cast<std::size_t>(i)]) return static_cast<JobState>(i);
  }
  return std::nullopt;
}

std::optional<JobEvent> job_event_from(const std::string& name) {
  for (int i = 0; i < kNumJobEvents; ++i) {
    if (name == kEventNames[static_cast<std::size_t>(i)]) return static_cast<JobEvent>(i);
  }
  return std::nullopt;
}

}  // namespace saturn::journal

// The states a job can be in, what can happen to it, and the one table that joins them.

#pragma once

#include <optional>
#include <string>
#include <vector>

namespace saturn::journal {

enum class JobState {
  pending,   ///< waits for its devices, for a plan, or for the back-off after a failure
  starting,  ///< its ranks are launched; no step is done yet in this attempt
  training,
  saving,         ///< writes a checkpoint or its final weights
  stopping,       ///< asked to stop; its ranks still live
  paused,         ///< keeps its checkpoint and waits to be resumed
  stopped_early,  ///< ended by the search before its last step
  cancelled,
  failed,
  done,
};
inline constexpr int kNumJobStates = 10;

/// What can happen to a job, as far as its state is concerned.
enum class JobEvent {
  start,    ///< an attempt was launched
  step,     ///< a step was done
  save,     ///< a checkpoint or the final weights are being written
  stop,     ///< the ranks were asked to stop
  finish,   ///< the last step is done, the weights are written, every rank ended well
  requeue,  ///< the attempt ended, and another may follow
  fail,     ///< ends without a result
  pause,
  resume,
  cancel,
  stop_early,
  reset,  ///< goes back to its beginning: its definition changed, or a retry was asked for
};
inline constexpr int kNumJobEvents = 12;

/// The state after `event`, or nothing where `event` cannot happen in `state`.
std::optional<JobState> next_state(JobState state, JobEvent event);

/// No attempt follows unless the job is reset.
bool is_final(JobState state);
/// Ranks of the job may be alive.
bool is_running(JobState state);

const char* to_string(JobState state);
const char* to_string(JobEvent event);
std::optional<JobState> job_state_from(const std::string& name);
std::optional<JobEvent> job_event_from(const std::string& name);

}  // namespace saturn::journal

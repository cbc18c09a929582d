// What the run does next, as functions of what is known: no clock, no process, no file.

#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "saturn/batch/batch.h"
#include "saturn/journal/run_state.h"
#include "saturn/plan/plan.h"
#include "saturn/profile/profile.h"

namespace saturn::run {

/// What `next_moves` looks at.
struct Situation {
  const journal::RunState& state;
  const plan::Plan& plan;
  const std::set<std::string>& selected;           ///< jobs this session runs
  const std::vector<plan::Device>& excluded = {};  ///< devices that take no new attempts
  double time_s = 0.0;                             ///< run time
};

/// What to do now.
struct Moves {
  std::vector<const plan::Assignment*> start;  ///< in plan order; their devices are free
  int num_standby = 0;                         ///< ranks of the jobs that come next on devices now held
  std::optional<double> wake_at_s;             ///< run time at which a back-off ends
  bool finished = false;                       ///< every selected job is in a final state
};

/// Starts what may start: assignments in plan order, each once its devices are held by no running job and are
/// wanted by no earlier assignment. A job in back-off keeps its place.
Moves next_moves(const Situation& situation);

/// Step from which the job's next attempt goes on, and the checkpoint it needs for that (none from the
/// beginning).
std::int64_t resume_step(const journal::JobRecord& record);

/// What a failure class leads to.
enum class Policy {
  strike,        ///< the configuration is not tried again, and the job is planned anew
  drain_device,  ///< its devices take no new attempts, and the job is planned anew
  restart,       ///< again after a back-off, up to max_restarts, and not when it repeats at one step
  fail,          ///< it would happen again
};

/// The classes of worker::ErrorClass, and what is seen from outside only: rank_lost, hang, killed.
///
/// Errors: an unknown class is our own mistake.
Policy policy_of(const std::string& error_class);
/// Every class that has a policy.
std::vector<std::string> failure_classes();

/// How an attempt ended, as seen from outside.
struct AttemptEnd {
  bool finished = false;    ///< rank 0 said so
  std::int64_t step = 0;    ///< steps done
  std::string error_class;  ///< one of failure_classes(); empty where nothing went wrong
  std::string message;
  bool made_progress = false;  ///< at least one step was done in this attempt
};

/// What becomes of the job.
struct Verdict {
  journal::JobState next = journal::JobState::pending;
  double retry_after_s = 0.0;
  bool strike = false;           ///< the configuration is not tried again
  bool drain = false;            ///< nor are its devices, by any job
  bool drop_checkpoint = false;  ///< the checkpoint could not be continued from
  std::string message;
};

/// The policy of the failure's class, applied. `record` is the job as it was while the attempt ran.
///
/// An attempt that was asked to stop ends in the state that was asked for, whatever happened meanwhile. Data
/// that cannot be read before the first step of a resumed attempt are its checkpoint's: from the beginning
/// then. The same failure at the same step three times ends the job; before any step twice, it is the
/// configuration's: struck.
Verdict verdict_on(const AttemptEnd& end, const journal::JobRecord& record,
                   const batch::RunSettings& settings);

/// How long a rank may do one thing: twenty times what the trial took for it (`longest_step_s`: what this
/// attempt took for a step, where that is longer), and never so little that a busy machine or a slow disk
/// looks like a hang.
double hang_limit_s(const std::string& doing, const profile::Trial* trial, double longest_step_s);

/// A rank beats every second from a thread of its own: after so long without a beat its process does not run.
inline constexpr double kSilenceLimitS = 15.0;

/// Steps of one job that may be skipped for a loss or gradients that are not finite, before it fails.
inline constexpr int kMaxSkippedSteps = 10;

/// How long a job may take to save and end when it is asked to: what was measured for a step and a save, with
/// room.
double stop_grace_s(const profile::Trial* trial, double step_time_s, double save_time_s);

}  // namespace saturn::run

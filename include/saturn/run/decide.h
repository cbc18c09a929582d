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

namespace saturn::run {

/// What `next_moves` looks at.
struct Situation {
  const journal::RunState& state;
  const plan::Plan& plan;
  const std::set<std::string>& selected;  ///< jobs this session runs
  double time_s = 0.0;                    ///< run time
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

/// How an attempt ended, as seen from outside.
struct AttemptEnd {
  bool finished = false;    ///< rank 0 said so
  std::int64_t step = 0;    ///< steps done
  std::string error_class;  ///< of worker::ErrorClass, or rank_lost, hang; empty where nothing went wrong
  std::string message;
  bool made_progress = false;  ///< at least one step was done in this attempt
};

/// What becomes of the job.
struct Verdict {
  journal::JobState next = journal::JobState::pending;
  double retry_after_s = 0.0;
  bool strike = false;           ///< the configuration is not tried again
  bool drop_checkpoint = false;  ///< the checkpoint could not be continued from
  std::string message;
};

/// The policy for each class of failure. `record` is the job as it was while the attempt ran.
///
/// out_of_memory, host_out_of_memory, unsupported: the configuration is struck and the job planned anew.
/// data, numerical, bad_configuration, disk_full: would happen again, so the job fails.
/// everything else (a lost rank, a hang, an unknown error): again after a back-off, up to max_restarts, and
/// not when the same happened at the same step twice before.
Verdict verdict_on(const AttemptEnd& end, const journal::JobRecord& record,
                   const batch::RunSettings& settings);

}  // namespace saturn::run

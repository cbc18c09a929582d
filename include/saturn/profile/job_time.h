// From trials to the planner's problem: what a job of so many steps takes under each configuration that ran.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "saturn/plan/plan.h"
#include "saturn/plan/problem.h"
#include "saturn/profile/profile.h"

namespace saturn::profile {

/// The model of a job's time, in the order things happen:
///   start + [load] + steps x step + evaluations x evaluate + checkpoints x save + end
/// where evaluations are every `evaluate_every` steps and at the end, checkpoints every `checkpoint_every`,
/// and `end` is writing the final weights and ending the processes.
struct JobTime {
  double start_s = 0.0;  ///< launch to first step; with the load where a checkpoint is resumed
  double work_s = 0.0;   ///< everything after that
};

/// Steps `from_step` to `num_steps` of `job` as `trial` (outcome ok) measured it.
JobTime job_time(const batch::Job& job, const batch::RunSettings& run, const Trial& trial,
                 std::int64_t from_step, std::int64_t num_steps);

/// Where a job runs while the rest is planned: it stays there.
struct RunningNow {
  std::string trial;
  std::vector<plan::Device> devices;
  double remaining_s = 0.0;
  double slowdown = 1.0;     ///< its own steps over those of its trial: it takes that along when it moves
  bool may_move = false;     ///< to another configuration or other devices, from `Remaining::from_step` on
  double stop_cost_s = 0.0;  ///< of a move: until its devices are free with its checkpoint saved
};

/// What is left to plan of one job. A job that is not named has all its steps left and nothing struck.
struct Remaining {
  std::int64_t from_step = 0;
  std::vector<std::string> struck_trials;  ///< ids of configurations not to be tried again
  double release_s = 0.0;                  ///< not started before, from the plan's origin
  std::optional<RunningNow> running;
  bool finished = false;  ///< left out of the problem
  /// Step that it is expected to reach, where a search may stop it before its end; 0 = its last. Times are of
  /// the steps to there.
  std::int64_t expected_end = 0;
};

/// Steps of every job, from the data: batch::split_of and batch::steps_of.
Result<std::map<std::string, std::int64_t>> num_steps_of(const batch::Batch& batch);

/// Ids of the trials that a job may run as, where that is not the batch's to say (a bare table).
using TrialsOf = std::map<std::string, std::vector<std::string>>;

/// The problem of planning what remains of `batch`, by the profile as it was corrected. Of one technique on
/// the same devices only knobs are left that no others beat in time, start and host memory together.
///
/// Errors: Kind::infeasible, one for every job that no trial fits, at the job's line, with what each trial
/// said.
Result<plan::PlanProblem> to_plan_problem(const batch::Batch& batch, const Profile& profile,
                                          const std::map<std::string, std::int64_t>& num_steps,
                                          const std::map<std::string, Remaining>& remaining = {},
                                          double origin_s = 0.0, const TrialsOf* trials_of = nullptr);

}  // namespace saturn::profile

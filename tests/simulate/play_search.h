// A search on a virtual clock: the run loop and its planner, with losses that follow a stated curve.

#pragma once

#include <cstdint>
#include <string>

#include "saturn/base/result.h"
#include "saturn/batch/batch.h"
#include "saturn/plan/problem.h"

namespace saturn::simulate {

struct SearchSettings {
  batch::SearchSettings search;   ///< asha or median; rungs in steps of the jobs
  int max_moves = 3;              ///< of one job; 0 = what runs keeps its devices
  double start_s = 30.0;          ///< of every attempt
  double save_s = 15.0;           ///< of a checkpoint, and likewise to load one
  std::int64_t iterations = 300;  ///< of each planning
  std::uint64_t seed = 1;         ///< of plans and of the jobs' curves
};

struct SearchOutcome {
  std::string best_job;        ///< of those that trained to their end
  double best_s = 0.0;         ///< when it did
  double makespan_s = 0.0;     ///< when the last job ended
  std::int64_t num_steps = 0;  ///< of all jobs together
  int num_done = 0;
};

/// Validation loss of `job` after `step` of its `num_steps` steps: floor + (1 - floor) / (1 + 20 share)^rate,
/// a power law of the share done, with floor uniform in 0.2 .. 0.8 and rate uniform in 0.5 .. 1.5 by seed and
/// name. Curves cross, so that who leads at a rung need not win.
double loss_of(const std::string& job, std::int64_t step, std::int64_t num_steps, std::uint64_t seed);

/// Runs the jobs of `problem` (Job::last_step steps each, times as its configurations say) until the search
/// has ended. The same arguments give the same outcome.
///
/// Errors: those of planning.
Result<SearchOutcome> simulate_search(const plan::PlanProblem& problem, const SearchSettings& settings);

/// `problem` as a tuner with one resource for all trials has it: each job on `num_devices` devices, under its
/// fastest configuration there.
///
/// Errors: Kind::input where a job has none.
Result<plan::PlanProblem> at_width(plan::PlanProblem problem, int num_devices);

}  // namespace saturn::simulate

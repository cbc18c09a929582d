// Who goes on: decisions of a search as functions of the run's state, and so of its journal.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "saturn/batch/batch.h"
#include "saturn/journal/run_state.h"

namespace saturn::search {

struct Decision {
  std::string job;
  std::int64_t rung = 0;
  journal::RungDecision decision = journal::RungDecision::go_on;
  std::string reason;
};

/// What becomes of `job`, which has reached `rung` with `value` (nothing: the metric was not finite).
///
/// asha: it goes on if it is among the best ⌊n / reduction_factor⌋ of the n jobs judged at the rung, itself
/// included; else it is paused. A job that failed or was cancelled counts no more; equal values rank in the
/// order in which they came. median: it is stopped if its best value so far is worse than the median of the
/// others' averages up to this rung, once `min_jobs` others have come so far. A value that is not finite
/// ranks behind all others, and stops a job under median.
/// Source: Li et al. 2020, algorithm 2; Golovin et al. 2017, section 3.2.2.
Decision judge(const batch::SearchSettings& settings, const journal::RunState& state, const std::string& job,
               std::int64_t rung, std::optional<double> value);

/// What follows for jobs that wait at a rung of asha, lowest rung first: those that have come among the best
/// ⌊n / reduction_factor⌋ since are promoted. Once no other job can come to the rung, at least the best one
/// is, and the others are stopped; should too many of those ahead fail, they are promoted after all. Empty
/// where nothing follows; what follows from these decisions is seen once they are in the state.
std::vector<Decision> follow_ups(const batch::SearchSettings& settings, const journal::RunState& state);

/// The step up to which a job of `num_steps` at `from_step` is expected to train: the steps to each rung
/// ahead, times the share of jobs that get there. asha: one in `reduction_factor` passes a rung; median: half
/// of them at first, then the share that did. `record` may be null: a job that has not begun.
std::int64_t expected_end(const batch::SearchSettings& settings, const journal::RunState* state,
                          const journal::JobRecord* record, std::int64_t from_step, std::int64_t num_steps);

}  // namespace saturn::search

// Jobs in several segments: a change of configuration on the way, where it pays for the move.

#pragma once

#include "plan/incumbent.h"

namespace saturn::plan {

/// The job of `task` in two tasks, the second after the first, at `step`; their modes pay the start cost
/// each. Every task that waited for the job waits for its last segment.
Reduced split(const Reduced& reduced, int task, std::int64_t step);

/// Splits the jobs that gain most, each into at most `options.max_segments` segments. Returns the problem
/// with the split tasks and its solution; both as they were where no split pays.
struct Segmented {
  Reduced reduced;
  Solution solution;
};
Segmented with_segments(const Reduced& reduced, const SolveOptions& options, Incumbent& incumbent);

}  // namespace saturn::plan

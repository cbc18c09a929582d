// The formulation of the Saturn paper, corrected, for comparison.

#pragma once

#include "plan/incumbent.h"

namespace saturn::plan {

/// Solves the formulation by CBC in a child process within the time limit and offers what it found. CBC's own
/// bound is not used: with ordering rows that hold only up to a tolerance times M it is not a proof.
void run_published(const Reduced& reduced, Incumbent& incumbent);

}  // namespace saturn::plan

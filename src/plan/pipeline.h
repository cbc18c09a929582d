// The stages of the policy "saturn", in order.

#pragma once

#include "plan/incumbent.h"

namespace saturn::plan {

/// Improves plan and bound until the budget of `options` is spent or the plan is proven.
void run_pipeline(const Reduced& reduced, const SolveOptions& options, Incumbent& incumbent);

}  // namespace saturn::plan

// Whether what a run writes will fit, before it is written.

#pragma once

#include <string>

#include "saturn/batch/batch.h"
#include "saturn/journal/run_state.h"

namespace saturn::run {

/// Good where the final weights and checkpoints of every job that is not in a final state fit.
///
/// Errors: Kind::machine at `root`, with what is free and what is needed.
Result<void> foresee_disk(const batch::Batch& batch, const journal::RunState& state, const std::string& root);

}  // namespace saturn::run

// Whether what a run writes will fit, before it is written.

#pragma once

#include <cstdint>
#include <string>

#include "saturn/batch/batch.h"
#include "saturn/journal/run_state.h"

namespace saturn::run {

/// Bytes that `job` still writes: its final weights and the checkpoints that are kept at one time.
std::uint64_t bytes_to_write(const batch::Job& job, const batch::RunSettings& settings);

/// Good where the final weights and checkpoints of every job that is not in a final state fit.
///
/// Errors: Kind::machine at `root`, with what is free and what is needed.
Result<void> foresee_disk(const batch::Batch& batch, const journal::RunState& state, const std::string& root);

}  // namespace saturn::run

// The state of a training on disk: boxes of whole tensors by name, so that any technique at any width reads
// what any other wrote.
//
//     step-000400/
//       manifest.json      written last: step, seed, data cursor, and every tensor's pieces with their
//       digests rank-00000.bin     the pieces that rank 0 held, one after the other
//
// The directory appears by a rename, whole or not at all.

#pragma once

#include <cstdint>
#include <string>

#include "saturn/base/json.h"
#include "saturn/base/result.h"
#include "saturn/train/communicator.h"
#include "saturn/train/technique.h"

namespace saturn::train {

inline constexpr const char* kCheckpointFormat = "saturn.checkpoint/1";

/// Where the training stands.
struct Progress {
  std::int64_t step = 0;  ///< steps done; also the schedule's position
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;  ///< of the next step
  std::int64_t step_of_epoch = 0;
  double best_validation_loss = 0.0;  ///< 0 = none yet
};

/// "step-000400".
std::string checkpoint_name(std::int64_t step);

/// Writes `directory` from every rank's pieces. A collective: it fails on all ranks where it fails on one.
/// `written_by` is kept as provenance only.
///
/// Errors: Kind::disk_full (also before writing, where the space is known to be too small), Kind::machine.
Result<void> save_checkpoint(const std::string& directory, const Progress& progress, const Json& written_by,
                             Technique& technique, Communicator& communicator);

/// Fills this rank's pieces. Every byte used is checked against its digest first.
///
/// Errors: Kind::input at the file or the manifest's pointer: missing, damaged, or of another model.
Result<Progress> load_checkpoint(const std::string& directory, Technique& technique);

/// Removes the oldest checkpoints of `parent` beyond `keep`, and what an interrupted save left behind.
void prune_checkpoints(const std::string& parent, int keep);

}  // namespace saturn::train

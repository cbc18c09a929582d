// A technique's state to disk and back. What lies on disk is in checkpoint/manifest.h.

#pragma once

#include <string>
#include <vector>

#include "saturn/checkpoint/manifest.h"
#include "saturn/train/communicator.h"
#include "saturn/train/technique.h"

namespace saturn::train {

using checkpoint::Progress;

/// Writes `directory` from every rank's pieces while the caller waits. A collective: it fails on all ranks
/// where it fails on one. `written_by` is kept as provenance only. (While training goes on: train/saver.h.)
///
/// Errors: Kind::disk_full (also before writing, where the space is known to be too small), Kind::machine;
/// Kind::job_failed where the state holds a number that is not finite.
Result<void> save_checkpoint(const std::string& directory, const Progress& progress, const Json& written_by,
                             Technique& technique, Communicator& communicator);

/// Fills this rank's pieces, reading nothing else. Every byte used is checked against its digest. A piece in
/// slow memory is full when its visit ends, the others when all were visited.
///
/// Errors: Kind::input at the file or the manifest's pointer: missing, damaged, or of another model; the
/// state is then part old and part new.
Result<Progress> load_checkpoint(const std::string& directory, Technique& technique);

struct LoadedCheckpoint {
  std::string directory;  ///< the one that was read
  Progress progress;
  /// What this rank found wrong with newer ones; empty on ranks that could read their part.
  Diagnostics passed_over;
};

/// `directory`, or the newest before it beside it that every rank can read. A collective: all ranks read the
/// same one.
///
/// Errors: those of `directory` where none can be read.
Result<LoadedCheckpoint> load_newest_checkpoint(const std::string& directory, Technique& technique,
                                                Communicator& communicator);

}  // namespace saturn::train

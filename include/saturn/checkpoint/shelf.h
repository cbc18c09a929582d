// The checkpoints of one job, side by side: which are there, which one is used, which ones stay.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/result.h"
#include "saturn/checkpoint/manifest.h"

namespace saturn::checkpoint {

/// The shelf of a job, in its directory.
inline constexpr const char* kShelf = "checkpoints";

/// Steps of the checkpoints in `shelf`, ascending; links and what is unfinished are left out. Empty where
/// there is no such directory.
std::vector<std::int64_t> steps_in(const std::string& shelf);

/// The step that LATEST names where that checkpoint is there, else the highest.
std::optional<std::int64_t> latest_in(const std::string& shelf);

/// The newest checkpoint before `step`: where to turn when that of `step` does not verify.
std::optional<std::int64_t> newest_before(const std::string& shelf, std::int64_t step);

/// Reads every byte: the manifest, the size of each file and the digest of each block, and that the pieces
/// make up each tensor.
///
/// Errors: every fault found, each at its file or pointer.
Result<Manifest> verify(const std::string& directory);

/// One checkpoint as a rule sees it.
struct Kept {
  std::int64_t step = 0;
  std::optional<double> validation_loss;
};

/// The step with the lowest validation loss; of several, the one nearest to where it was measured: the first.
std::optional<std::int64_t> best_of(const std::vector<Kept>& all);

/// Steps to remove, oldest last: all but the `keep` newest up to `latest` and the best. What is beyond
/// `latest` was left behind when the training went back, and is made again.
std::vector<std::int64_t> unwanted(const std::vector<Kept>& all, std::int64_t latest, int keep);

/// Removes what `unwanted` names and what interrupted saves and removals left behind; returns the steps
/// removed. A checkpoint disappears by a rename first, so that no half of one is ever taken for a whole.
Result<std::vector<std::int64_t>> prune(const std::string& shelf, int keep);

}  // namespace saturn::checkpoint

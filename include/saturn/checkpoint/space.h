// How many bytes a job's training leaves on disk, before it has left any.

#pragma once

#include <cstdint>

#include "saturn/batch/batch.h"

namespace saturn::checkpoint {

/// Of one job, whatever the configuration: a checkpoint does not depend on it.
struct SpaceNeeded {
  std::int64_t checkpoint_bytes = 0;  ///< of one checkpoint
  std::int64_t weights_bytes = 0;     ///< of model/, once
  int num_checkpoints = 0;            ///< most at one time: those kept, the best, and one being written

  /// With the tenth that every save asks for on top.
  std::int64_t bytes() const;
};
SpaceNeeded space_needed(const batch::Job& job, const batch::RunSettings& run);

}  // namespace saturn::checkpoint

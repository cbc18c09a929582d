// Parameters times what is stored of each.

#include "saturn/checkpoint/space.h"

#include "saturn/batch/memory_model.h"

namespace saturn::checkpoint {

std::int64_t SpaceNeeded::bytes() const {
  const std::int64_t saved = num_checkpoints * checkpoint_bytes;
  return weights_bytes + saved + checkpoint_bytes / 10;
}

SpaceNeeded space_needed(const batch::Job& job, const batch::RunSettings& run) {
  const batch::StateBytes each = batch::state_bytes_per_parameter(job);
  SpaceNeeded needed{.checkpoint_bytes = batch::held_counts(job).all * each.weight +
                                         batch::trained_counts(job).all * each.optimizer,
                     .weights_bytes = job.model.num_parameters * each.weight,
                     .num_checkpoints = 1};
  if (run.checkpoint_every > 0) {
    needed.num_checkpoints += run.keep_checkpoints;
    if (job.evaluate_every > 0) ++needed.num_checkpoints;
  }
  return needed;
}

}  // namespace saturn::checkpoint

// Consecutive layers on every rank, micro-batches passed through them.

#include "batch/techniques/stages.h"

namespace saturn::batch::techniques {
namespace {

std::optional<std::string> refusal(const Job& job, const DeviceGroup& devices) {
  if (auto why = several_ranks_refusal(devices)) return why;
  if (auto why = stages_refusal(job.model, num_whole_devices(devices))) return why;
  if (job.batch_size < 2) return "needs 2 rows of the batch for 2 micro-batches";
  return std::nullopt;
}

std::vector<Configuration> candidates(const Job& job, const DeviceGroup& devices) {
  const int num_stages = num_whole_devices(devices);
  std::vector<Configuration> plain;
  for (const int count : micro_batch_counts(num_stages, job.batch_size))
    plain.push_back(configuration("pipeline", devices, num_stages, {{"micro_batches", count}}));
  return with_checkpointing(plain);
}

}  // namespace

TechniqueSpec pipeline() {
  return {.name = "pipeline",
          .summary = "cut the layers into stages, pass micro-batches through them",
          .applies_to = "two or more GPUs or CPU slots, one process each; at least a layer for every one",
          .splits_batch = false,
          .refusal = &refusal,
          .candidates = &candidates,
          .predicted_memory_bytes = &stages_memory_bytes,
          .predicted_step_time_s = &stages_step_time_s};
}

}  // namespace saturn::batch::techniques

// One rank with the whole model: on one GPU, or with all threads of its CPU slots.

#include <algorithm>

#include "batch/techniques/parts.h"

namespace saturn::batch::techniques {
namespace {

std::optional<std::string> refusal(const Job&, const DeviceGroup& devices) {
  if (has_gpus(devices) && num_whole_devices(devices) > 1) return "runs on one GPU only";
  return std::nullopt;
}

std::vector<Configuration> candidates(const Job&, const DeviceGroup& devices) {
  return with_checkpointing({configuration("single", devices, 1)});
}

// Gradients come while what forward kept goes: either end of backward may be the peak. Where gradients of
// earlier micro-batches are there already, it is the beginning.
std::int64_t predicted_memory_bytes(const Job& job, const DataSource& data, const Configuration& one) {
  const StateBytes state = state_bytes_per_parameter(job);
  const ParameterCounts trained = trained_counts(job);
  const ActivationBytes activations =
      activation_bytes(job, data, rows_of_micro_batch(job, 1, job.micro_batches));
  const std::int64_t gradients = state.gradient * trained.all;
  const std::int64_t early = job.micro_batches > 1 ? gradients : state.gradient * trained.head_table;
  const std::int64_t at_first =
      early + activations.kept(job.model.num_layers, checkpointing_in(one)) + activations.head;
  const std::int64_t at_last = gradients + activations.block_kept + activations.block_working;
  return state.held() * held_counts(job).all + state.optimizer * trained.all + std::max(at_first, at_last);
}

double predicted_step_time_s(const Job& job, const DataSource& data, const Configuration& one) {
  return compute_time_s(job, data, checkpointing_in(one), rates_of(one.device_class, job.precision),
                        one.num_devices);
}

}  // namespace

TechniqueSpec single() {
  return {.name = "single",
          .summary = "one process holds the whole model",
          .applies_to = "one GPU or a share of one; any number of CPU slots, whose threads it uses together",
          .splits_batch = false,
          .refusal = &refusal,
          .candidates = &candidates,
          .predicted_memory_bytes = &predicted_memory_bytes,
          .predicted_step_time_s = &predicted_step_time_s};
}

}  // namespace saturn::batch::techniques

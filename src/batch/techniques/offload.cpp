// One rank whose model passes through its device a layer at a time: state lies in host memory, or for CPU
// slots in a mapped file.

#include <algorithm>
#include <vector>

#include "batch/family.h"
#include "batch/techniques/parts.h"

namespace saturn::batch::techniques {
namespace {

std::optional<std::string> refusal(const Job& job, const DeviceGroup& devices) {
  if (const Family* family = find_family(job.model.family); family != nullptr && family->batch_statistics)
    return "runs each layer twice, and BatchNorm would count a batch's statistics twice";
  if (has_gpus(devices) && num_whole_devices(devices) > 1) return "runs on one GPU only";
  return std::nullopt;
}

// Without the knob "resident" the first step of a trial finds out how many layers may stay on the device.
std::vector<Configuration> candidates(const Job&, const DeviceGroup& devices) {
  return {configuration("offload", devices, 1)};
}

/// A layer and its parameters, in numbers of them.
struct Slice {
  std::int64_t own = 0;     ///< those whose state it keeps
  std::int64_t shared = 0;  ///< a table that embedding and head use, which the embedding owns
  std::int64_t trained_own = 0, trained_shared = 0;  ///< of those, the ones with gradients
  bool resident = false;
};

std::vector<Slice> slices_of(const Job& job, const Configuration& one) {
  const ParameterCounts counts = held_counts(job);
  const ParameterCounts trained = trained_counts(job);
  const bool tied = counts.head < counts.head_table;
  const std::int64_t shared = tied ? counts.head_table : 0;
  const std::int64_t trained_shared = tied ? trained.head_table : 0;
  std::vector<Slice> slices;
  slices.push_back({.own = counts.embedding - shared,
                    .shared = shared,
                    .trained_own = trained.embedding - trained_shared,
                    .trained_shared = trained_shared});
  for (int i = 0; i < job.model.num_layers; ++i)
    slices.push_back({.own = counts.block, .trained_own = trained.block});
  slices.push_back(
      {.own = counts.head, .shared = shared, .trained_own = trained.head, .trained_shared = trained_shared});
  // In the order in which the training library makes them resident: those that share nothing first.
  std::int64_t resident = one.knobs.value("resident", std::int64_t{0});
  for (const bool sharing : {false, true}) {
    for (Slice& slice : slices) {
      if ((slice.shared > 0) == sharing && resident-- > 0) slice.resident = true;
    }
  }
  return slices;
}

// Visit by visit: the weights of the visited slice and of the next, sums of gradients fetched for them,
// gradients of the visited one and those of the one before on their way out, the inputs of slices that
// backward has not reached, and what the visited layer works with. What is resident keeps its gradients from
// its visit to the end.
std::int64_t predicted_memory_bytes(const Job& job, const DataSource& data, const Configuration& one) {
  const std::vector<Slice> slices = slices_of(job, one);
  const StateBytes state = state_bytes_per_parameter(job);
  const std::int64_t weight = state.compute_copy > 0 ? state.compute_copy : state.weight;
  const ActivationBytes part = activation_bytes(job, data, rows_of_micro_batch(job, 1, job.micro_batches));
  const std::int64_t inputs = activation_bytes(job, data, job.batch_size).block_input;  // of one slice
  const std::size_t head = slices.size() - 1;

  std::int64_t resident = 0;
  for (std::size_t i = 0; i <= head; ++i) {
    if (!slices[i].resident) continue;
    resident += (slices[i].own + (i == 0 ? slices[i].shared : 0)) * state.held();
    resident += (slices[i].trained_own + (i == 0 ? slices[i].trained_shared : 0)) * state.optimizer;
  }
  const auto streamed = [&](std::size_t i) {
    return (slices[i].resident ? 0 : slices[i].own) + (slices[0].resident ? 0 : slices[i].shared);
  };
  const auto trained = [&](std::size_t i) {
    return (slices[i].resident ? 0 : slices[i].trained_own) +
           (slices[0].resident ? 0 : slices[i].trained_shared);
  };

  std::int64_t most = 0;
  for (std::size_t i = 0; i < head; ++i) {  // forward; the head's is in its backward
    const std::int64_t weights = weight * (streamed(i) + streamed(i + 1));
    const std::int64_t works = i == 0 ? 0 : part.block_working + part.block_input;
    most = std::max(most, weights + static_cast<std::int64_t>(i) * inputs + part.block_input + works);
  }
  std::int64_t kept_gradients = 0;
  for (std::size_t i = head + 1; i-- > 0;) {  // backward
    if (slices[i].resident) kept_gradients += state.gradient * slices[i].trained_own;
    if (slices[0].resident && i == head) kept_gradients += state.gradient * slices[i].trained_shared;
    std::int64_t bytes = kept_gradients + weight * (streamed(i) + (i > 0 ? streamed(i - 1) : 0));
    // The inputs of this slice and of those below, and the gradient that takes the place of the one above.
    bytes += static_cast<std::int64_t>(i) * inputs + (i == head ? 0 : inputs);
    const std::int64_t own = state.gradient * trained(i);
    if (i < head) bytes += state.gradient * trained(i + 1);  // leaving
    if (i == 1 && !slices[0].resident)
      bytes += state.gradient * slices[0].trained_shared;  // the sum that comes
    const std::int64_t activations = part.block_kept + part.block_working;
    if (i == head) {
      bytes += own + part.head;
    } else if (i == 0) {
      bytes += own + part.block_input;
    } else if (job.micro_batches > 1) {
      bytes += own + activations;  // later micro-batches find the sums of earlier ones
    } else {
      bytes += std::max(own + part.block_working, activations);  // gradients come while activations go
    }
    most = std::max(most, bytes);
  }
  return resident + most;
}

double predicted_step_time_s(const Job& job, const DataSource& data, const Configuration& one) {
  const Rates rates = rates_of(one.device_class, job.precision);
  const StateBytes state = state_bytes_per_parameter(job);
  std::int64_t streamed = 0, trained = 0;
  const std::vector<Slice> slices = slices_of(job, one);
  for (const Slice& slice : slices) {
    if (slice.resident) continue;
    streamed += slice.own;
    trained += slice.trained_own;
  }
  if (!slices.front().resident) {
    streamed += slices.front().shared;
    trained += slices.front().trained_shared;
  }
  // Twice down to compute with, gradients up; then the host reads all and writes weights and moments.
  const std::int64_t weight = state.compute_copy > 0 ? state.compute_copy : state.weight;
  const std::int64_t update = state.gradient + state.all() + state.weight + state.optimizer;
  const double moved_s = static_cast<double>(streamed * 2 * weight + trained * update) / rates.host_bytes;
  return std::max(moved_s, compute_time_s(job, data, Checkpointing::full, rates, one.num_devices));
}

}  // namespace

TechniqueSpec offload() {
  return {.name = "offload",
          .summary = "stream layers through the device from host memory or disk",
          .applies_to =
              "one GPU or a share of one, with state in host memory; any number of CPU slots, with "
              "state in a mapped file",
          .splits_batch = false,
          .refusal = &refusal,
          .candidates = &candidates,
          .predicted_memory_bytes = &predicted_memory_bytes,
          .predicted_step_time_s = &predicted_step_time_s};
}

}  // namespace saturn::batch::techniques

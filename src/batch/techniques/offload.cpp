// One rank whose model passes through its device a layer at a time: state lies in host memory, or for CPU
// slots in a mapped file.

#include <algorithm>
#include <vector>

#include "batch/techniques/parts.h"

namespace saturn::batch::techniques {
namespace {

std::optional<std::string> refusal(const Job&, const DeviceGroup& devices) {
  if (has_gpus(devices) && num_whole_devices(devices) > 1) return "runs on one GPU only";
  return std::nullopt;
}

// Without the knob "resident" the first step of a trial finds out how many layers may stay on the device.
std::vector<Configuration> candidates(const Job&, const DeviceGroup& devices) {
  return {configuration("offload", devices, 1)};
}

/// A layer and its parameters, in numbers of them.
struct Slice {
  std::int64_t used = 0;
  std::int64_t owned = 0;      ///< of those used, the ones whose state it keeps
  std::int64_t continued = 0;  ///< of those used, the ones that a later layer uses too: their sum is fetched
  bool resident = false;
};

std::vector<Slice> slices_of(const Job& job, const Configuration& one) {
  const ParameterCounts counts = parameter_counts(job.model);
  const bool tied = counts.head < counts.head_table;
  const std::int64_t shared = tied ? counts.head_table : 0;
  std::vector<Slice> slices;
  slices.push_back({.used = counts.embedding, .owned = counts.embedding, .continued = shared});
  for (int i = 0; i < job.model.num_layers; ++i)
    slices.push_back({.used = counts.block, .owned = counts.block});
  slices.push_back({.used = counts.head + shared, .owned = counts.head});
  // In the order in which the training library makes them resident: those that share nothing first.
  std::int64_t resident = one.knobs.value("resident", std::int64_t{0});
  for (Slice& slice : slices)
    if (resident > 0 && slice.used == slice.owned && slice.continued == 0) {
      slice.resident = true;
      --resident;
    }
  for (Slice& slice : slices)
    if (resident > 0 && !slice.resident) {
      slice.resident = true;
      --resident;
    }
  return slices;
}

// Visit by visit: the weights of the visited slice and of the next, sums of gradients fetched for them,
// gradients of the visited one and those of the one before on their way out, the inputs of slices that
// backward has not reached, and what the visited layer works with.
std::int64_t predicted_memory_bytes(const Job& job, const DataSource& data, const Configuration& one) {
  const std::vector<Slice> slices = slices_of(job, one);
  const StateBytes state = state_bytes_per_parameter(job);
  const std::int64_t weight = state.compute_copy > 0 ? state.compute_copy : state.weight;
  const ActivationBytes part = activation_bytes(job, data, rows_of_micro_batch(job, 1, job.micro_batches));
  const std::int64_t inputs = activation_bytes(job, data, job.batch_size).block_input;  // of one slice
  // Gradients of a first micro-batch come while its activations go; later ones find them there. In bf16 they
  // are computed in it and added up in fp32.
  const bool adds_up = job.micro_batches > 1;

  std::int64_t resident = 0;
  for (const Slice& slice : slices)
    if (slice.resident) resident += slice.owned * state.all();
  const auto streamed = [&](std::size_t index) {
    return slices[index].resident ? std::int64_t{0} : slices[index].used;
  };
  const std::size_t head = slices.size() - 1;
  std::int64_t most = 0;
  for (std::size_t i = 0; i <= head; ++i) {  // forward; the head's is in its backward
    const std::int64_t weights = weight * (streamed(i) + (i < head ? streamed(i + 1) : 0));
    const std::int64_t works = i == 0 ? 0 : part.block_working + part.block_input;
    most = std::max(most, weights + static_cast<std::int64_t>(i) * inputs + part.block_input + works);
  }
  for (std::size_t i = head + 1; i-- > 0;) {  // backward
    const std::int64_t next = i > 0 ? streamed(i - 1) : 0;
    std::int64_t bytes = weight * (streamed(i) + next);
    // The inputs of this slice and of those below, and the gradient that takes the place of the one above.
    bytes += static_cast<std::int64_t>(i) * inputs + (i == head ? 0 : inputs);
    const std::int64_t own = slices[i].resident ? 0 : state.gradient * slices[i].used;
    const std::int64_t leaving =
        i < head && !slices[i + 1].resident ? state.gradient * slices[i + 1].used : 0;
    const std::int64_t fetched = i == 1 && !slices[0].resident ? state.gradient * slices[0].continued : 0;
    if (i == head) {
      bytes += own + part.head;
    } else if (i > 0) {
      const std::int64_t activations = part.block_kept + part.block_working;
      bytes += adds_up ? own + activations : std::max(own + part.block_working, activations);
    } else {
      bytes += own + part.block_input;
    }
    most = std::max(most, bytes + leaving + fetched);
  }
  return resident + most;
}

double predicted_step_time_s(const Job& job, const DataSource& data, const Configuration& one) {
  const Rates rates = rates_of(one.device_class, job.precision);
  const StateBytes state = state_bytes_per_parameter(job);
  std::int64_t streamed = 0;
  for (const Slice& slice : slices_of(job, one))
    if (!slice.resident) streamed += slice.owned;
  // Twice down to compute with, gradients up; then the host reads all and writes weights and moments.
  const std::int64_t weight = state.compute_copy > 0 ? state.compute_copy : state.weight;
  const std::int64_t copies = 2 * weight + state.gradient;
  const std::int64_t update = state.all() + state.weight + state.optimizer;
  const double moved_s = static_cast<double>(streamed * (copies + update)) / rates.host_bytes;
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

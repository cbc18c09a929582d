// Each layer split over the ranks: heads, hidden units and the vocabulary; every rank computes every row.

#include <algorithm>

#include "batch/techniques/parts.h"

namespace saturn::batch::techniques {
namespace {

std::optional<std::string> refusal(const Job& job, const DeviceGroup& devices) {
  if (auto why = several_ranks_refusal(devices)) return why;
  const int num_ranks = num_whole_devices(devices);
  if (job.model.num_heads == 0) return "needs a model with attention heads to split";
  return head_split_refusal(job.model, num_ranks);
}

std::vector<Configuration> candidates(const Job&, const DeviceGroup& devices) {
  return with_checkpointing({configuration("tensor", devices, num_whole_devices(devices))});
}

// The largest slice of tables, maps and moments, and whole norms, row biases and positions: six vectors of C
// a block, two of the final norm.
std::int64_t held_parameters(const ModelSpec& model, std::int64_t ranks) {
  const ParameterCounts all = parameter_counts(model);
  const std::int64_t width = model.width;
  const auto slice = [&](std::int64_t count) { return (count + ranks - 1) / ranks; };
  const std::int64_t table = slice(model.vocabulary) * width;
  const std::int64_t num_tables = all.head < all.head_table ? 1 : 2;
  const std::int64_t positions = std::max<std::int64_t>(0, all.embedding - all.head_table);
  return num_tables * table + positions + 2 * width +
         model.num_layers * (slice(all.block - 6 * width) + 6 * width);
}

std::int64_t predicted_memory_bytes(const Job& job, const DataSource& data, const Configuration& one) {
  const StateBytes state = state_bytes_per_parameter(job);
  const std::int64_t ranks = one.num_ranks;
  const std::int64_t rows = rows_of_micro_batch(job, 1, job.micro_batches);
  const ActivationBytes activations = split_activation_bytes(job, data, rows, ranks);
  const std::int64_t adapters = held_counts(job).all - job.model.num_parameters;
  const std::int64_t parameters = held_parameters(job.model, ranks) + adapters;
  const std::int64_t table = (job.model.vocabulary + ranks - 1) / ranks * job.model.width;
  // Adapters and what is frozen are spread over the layers as the parameters are.
  const double share =
      static_cast<double>(trained_counts(job).all) / static_cast<double>(job.model.num_parameters);
  const auto trained = static_cast<std::int64_t>(share * static_cast<double>(parameters));
  const std::int64_t gradients = state.gradient * trained;
  // As for `single`: either end of backward may be the peak.
  const std::int64_t early =
      job.micro_batches > 1 ? gradients : state.gradient * (trained_counts(job).head_table > 0 ? table : 0);
  const std::int64_t at_first =
      early + activations.kept(job.model.num_layers, checkpointing_in(one)) + activations.head;
  const std::int64_t at_last = gradients + activations.block_kept + activations.block_working;
  return state.held() * parameters + state.optimizer * trained + std::max(at_first, at_last);
}

// Each region gathers the sequence and sums it, forward and backward: eight exchanges of B T C a block, two
// more where it is recomputed, four around the embedding and the head. Nothing is computed meanwhile.
double predicted_step_time_s(const Job& job, const DataSource& data, const Configuration& one) {
  const Rates rates = rates_of(one.device_class, job.precision);
  const Checkpointing checkpointing = checkpointing_in(one);
  const double compute_s = compute_time_s(job, data, checkpointing, rates, one.num_devices);
  const double again = checkpointing == Checkpointing::none        ? 0.0
                       : checkpointing == Checkpointing::selective ? 2.0
                                                                   : 4.0;
  const double exchanges = (8.0 + again) * job.model.num_layers + 4.0;
  const double value = job.precision == "fp32" ? 4.0 : 2.0;
  const double tokens = static_cast<double>(job.batch_size) * data.sequence_length;
  const double bytes = tokens * job.model.width * value;
  const double fixed_s = exchanges * (job.micro_batches - 1) * rates.collective_s;
  return compute_s + exchanges * collective_time_s(bytes, one.num_ranks, rates) + fixed_s;
}

}  // namespace

TechniqueSpec tensor() {
  return {.name = "tensor",
          .summary = "split attention heads, hidden units and the vocabulary of every layer",
          .applies_to =
              "two or more GPUs or CPU slots, one process each, whose number divides the attention heads",
          .splits_batch = false,
          .refusal = &refusal,
          .candidates = &candidates,
          .predicted_memory_bytes = &predicted_memory_bytes,
          .predicted_step_time_s = &predicted_step_time_s};
}

}  // namespace saturn::batch::techniques

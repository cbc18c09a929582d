// Weights, gradients and optimiser state dealt over the ranks; each layer gathered to run it.

#include <algorithm>

#include "batch/techniques/parts.h"

namespace saturn::batch::techniques {
namespace {

// One device has nothing to share with: a job that allows `single` is better off with it.
std::optional<std::string> refusal(const Job& job, const DeviceGroup& devices) {
  const bool only_this = !job.techniques.empty() && std::find(job.techniques.begin(), job.techniques.end(),
                                                              "single") == job.techniques.end();
  if (num_whole_devices(devices) == 1 && only_this) return std::nullopt;
  if (auto why = several_ranks_refusal(devices)) return why;
  if (job.batch_size < num_whole_devices(devices)) return "needs a row of the batch for every rank";
  return std::nullopt;
}

bool reshards(const Configuration& one) {
  return one.knobs.value("reshard_after_forward", true);
}

std::vector<Configuration> candidates(const Job&, const DeviceGroup& devices) {
  const int num_ranks = num_whole_devices(devices);
  std::vector<Configuration> plain = {configuration("fsdp", devices, num_ranks)};
  if (num_ranks > 1)
    plain.push_back(configuration("fsdp", devices, num_ranks, {{"reshard_after_forward", false}}));
  return with_checkpointing(std::move(plain));
}

// Beside its shards a rank has whole: the weights of two blocks, or of all that ran; the gradients of two, of
// which one is sent with a shard arriving; and from its first layer to its last a unit of several layers,
// which a head tied to its embedding makes with it.
std::int64_t predicted_memory_bytes(const Job& job, const DataSource& data, const Configuration& one) {
  const StateBytes state = state_bytes_per_parameter(job);
  const ParameterCounts parameters = held_counts(job);
  const ParameterCounts trained = trained_counts(job);
  const ActivationBytes activations =
      activation_bytes(job, data, rows_of_micro_batch(job, one.num_ranks, job.micro_batches));
  const std::int64_t ranks = one.num_ranks;
  const bool is_tied = parameters.head < parameters.head_table;
  const std::int64_t root = is_tied ? parameters.embedding + parameters.head : parameters.head;
  const std::int64_t trained_root = is_tied ? trained.embedding + trained.head : trained.head;
  const std::int64_t value = state.compute_copy > 0 ? state.compute_copy : state.weight;

  const std::int64_t shards = (state.weight * parameters.all + state.trained() * trained.all) / ranks;
  const bool copies = ranks > 1 || state.compute_copy > 0;
  const std::int64_t whole_weights =
      !copies ? 0 : value * (reshards(one) ? root + 2 * parameters.block : parameters.all);
  const std::int64_t root_gradient = ranks > 1 ? state.gradient * trained_root : 0;
  const std::int64_t block_gradients =
      ranks > 1 ? state.gradient * (2 * trained.block + trained.block / ranks) : 0;
  const std::int64_t kept = activations.kept(job.model.num_layers, checkpointing_in(one));
  // The head's loss makes the gradient of its table; the last block's backward has the root's beside its own.
  const std::int64_t in_head = kept + activations.head + value * trained.head_table;
  const std::int64_t in_blocks = kept + activations.block_working + root_gradient + value * trained.block;
  const std::int64_t behind_blocks =
      activations.block_kept + activations.block_working + root_gradient + block_gradients;
  return shards + whole_weights + std::max({in_head, in_blocks, behind_blocks});
}

// Weights are gathered for forward and, where they were let go of, for backward; gradients go once. Most of
// it goes while layers compute.
double predicted_step_time_s(const Job& job, const DataSource& data, const Configuration& one) {
  const Rates rates = rates_of(one.device_class, job.precision);
  const double compute_s = compute_time_s(job, data, checkpointing_in(one), rates, one.num_devices);
  const auto parameters = static_cast<double>(job.model.num_parameters);
  const auto trained = static_cast<double>(trained_counts(job).all);
  const double value = job.precision == "fp32" ? 4.0 : 2.0;
  const double gathers = reshards(one) ? 2.0 * job.micro_batches : 1.0;
  const double sent_s = collective_time_s(gathers * value * parameters + 4.0 * job.micro_batches * trained,
                                          one.num_ranks, rates) +
                        (gathers + job.micro_batches) * job.model.num_layers * rates.collective_s;
  return compute_s + (one.num_ranks == 1 ? 0.0 : std::max(0.15 * sent_s, sent_s - compute_s / 2));
}

}  // namespace

TechniqueSpec fsdp() {
  return {
      .name = "fsdp",
      .summary = "shard weights, gradients and optimiser state, gather each layer to run it",
      .applies_to = "two or more GPUs or CPU slots, one process each; every one holds its part of each layer",
      .splits_batch = true,
      .refusal = &refusal,
      .candidates = &candidates,
      .predicted_memory_bytes = &predicted_memory_bytes,
      .predicted_step_time_s = &predicted_step_time_s};
}

}  // namespace saturn::batch::techniques

// A replica of the model on every rank, gradients summed over the ranks while backward runs.

#include <algorithm>

#include "batch/techniques/parts.h"

namespace saturn::batch::techniques {
namespace {

std::optional<std::string> refusal(const Job& job, const DeviceGroup& devices) {
  if (auto why = several_ranks_refusal(devices)) return why;
  if (job.batch_size < num_whole_devices(devices)) return "needs a row of the batch for every rank";
  return std::nullopt;
}

// Gradients that travel in bf16 are rounded, so only a job that says so gets them.
std::vector<Configuration> candidates(const Job& job, const DeviceGroup& devices) {
  const int num_ranks = num_whole_devices(devices);
  std::vector<Configuration> plain = {configuration("ddp", devices, num_ranks),
                                      configuration("ddp", devices, num_ranks, {{"shard_optimizer", true}})};
  if (job.gradient_precision == "bf16")
    plain.push_back(configuration("ddp", devices, num_ranks, {{"compression", "bf16"}}));
  return with_checkpointing(std::move(plain));
}

bool shards_optimizer(const Configuration& one) {
  return one.knobs.value("shard_optimizer", false);
}

bool compresses(const Configuration& one) {
  return one.knobs.contains("compression");
}

// Gradients live from the start in the buckets that are summed: there is one copy of them, and all of it.
// With a sharded optimiser a rank has the moments of its share of the weights alone.
std::int64_t predicted_memory_bytes(const Job& job, const DataSource& data, const Configuration& one) {
  const ParameterCounts trained = trained_counts(job);
  const ActivationBytes activations =
      activation_bytes(job, data, rows_of_micro_batch(job, one.num_ranks, job.micro_batches));
  // The head's gradient is made beside the bucket it is then added into; what earlier micro-batches add up is
  // beside the buckets altogether.
  const std::int64_t beside = job.micro_batches > 1 ? trained.all : trained.head_table;
  const StateBytes state = state_bytes_per_parameter(job);
  const std::int64_t moments = state.optimizer * trained.all / (shards_optimizer(one) ? one.num_ranks : 1);
  return state.held() * held_counts(job).all + state.gradient * trained.all + moments + 4 * beside +
         activations.kept(job.model.num_layers, checkpointing_in(one)) + activations.head;
}

// All but the first bucket is sent while backward goes on; updated shares of the weights are waited for.
double predicted_step_time_s(const Job& job, const DataSource& data, const Configuration& one) {
  const Rates rates = rates_of(one.device_class, job.precision);
  const double compute_s = compute_time_s(job, data, checkpointing_in(one), rates, one.num_devices);
  const auto parameters = static_cast<double>(trained_counts(job).all);
  const double bytes = (compresses(one) ? 2.0 : 4.0) * parameters;
  const double sent_s = 2 * collective_time_s(bytes, one.num_ranks, rates);
  const double updates_s =
      shards_optimizer(one) ? collective_time_s(4.0 * parameters, one.num_ranks, rates) : 0.0;
  return compute_s + std::max(0.1 * sent_s, sent_s - compute_s / 2) + updates_s;
}

}  // namespace

TechniqueSpec ddp() {
  return {.name = "ddp",
          .summary = "replicate the model, average gradients",
          .applies_to = "two or more GPUs or CPU slots, one process each; every one holds the whole model",
          .splits_batch = true,
          .refusal = &refusal,
          .candidates = &candidates,
          .predicted_memory_bytes = &predicted_memory_bytes,
          .predicted_step_time_s = &predicted_step_time_s};
}

}  // namespace saturn::batch::techniques

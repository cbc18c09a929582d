// The formulae of staged techniques, on top of the shared models of memory and time.

#include "batch/techniques/stages.h"

#include <algorithm>
#include <numeric>

namespace saturn::batch::techniques {
namespace {

int integer_or(const Json& knobs, const char* name, int otherwise) {
  const auto written = knobs.find(name);
  return written != knobs.end() && written->is_number_integer() ? written->get<int>() : otherwise;
}

bool flag_or(const Json& knobs, const char* name, bool otherwise) {
  const auto written = knobs.find(name);
  return written != knobs.end() && written->is_boolean() ? written->get<bool>() : otherwise;
}

std::int64_t rows_of(const Job& job, const Stages& stages) {
  return rows_of_micro_batch(job, stages.data, stages.micro_batches);
}

/// The layers as a cut sees them: work in operations, a stage's state and keepsakes in bytes.
BalanceProblem balance_problem(const Job& job, const DataSource& data, const Stages& stages,
                               Checkpointing checkpointing) {
  const ParameterCounts parameters = held_counts(job);
  const ParameterCounts trained = trained_counts(job);
  const ActivationBytes activations = activation_bytes(job, data, rows_of(job, stages));
  const StateBytes state = state_bytes_per_parameter(job);
  const std::int64_t held = stages.sharded ? state.weight : state.held();
  const std::int64_t num_shares = std::int64_t{stages.tensor} * (stages.sharded ? stages.data : 1);
  const auto state_of = [&](std::int64_t num_held, std::int64_t num_trained) {
    return (held * num_held + state.trained() * num_trained + num_shares - 1) / num_shares;
  };
  const double attention = 12.0 * job.model.width * static_cast<double>(positions_of_sample(job.model, data));
  const double block_work = 6.0 * static_cast<double>(parameters.block) + attention;

  BalanceProblem problem{.layers = {}, .num_stages = stages.pipeline};
  problem.layers.push_back({.time_s = 0.02 * block_work,
                            .state_bytes = state_of(parameters.embedding, trained.embedding),
                            .kept_bytes = activations.block_input / stages.tensor});
  for (int i = 0; i < job.model.num_layers; ++i) {
    const bool again =
        checkpointing == Checkpointing::full || (checkpointing == Checkpointing::selective && i % 2 == 0);
    problem.layers.push_back(
        {.time_s = block_work * (again ? 4.0 / 3.0 : 1.0),
         .state_bytes = state_of(parameters.block, trained.block),
         .kept_bytes = (again ? activations.block_input : activations.block_kept) / stages.tensor});
  }
  // The head's own copy of a tied table lies on the last stage, the embedding's on the first.
  const auto own_table = [&](const ParameterCounts& counts) {
    if (stages.pipeline == 1 || counts.head_table == 0) return counts.head;
    return std::max(counts.head, counts.head_table + 2 * job.model.width);
  };
  problem.layers.push_back({.time_s = 6.0 * static_cast<double>(parameters.head_table),
                            .state_bytes = state_of(own_table(parameters), own_table(trained)),
                            .kept_bytes = activations.head / stages.tensor});
  for (int k = 0; k < stages.pipeline; ++k)
    problem.most_kept.push_back(stages.order == PipelineOrder::gpipe
                                    ? stages.micro_batches
                                    : std::min(stages.pipeline - k, stages.micro_batches));
  return problem;
}

std::vector<int> cuts_of(const BalanceProblem& problem, const Stages& stages) {
  if (!stages.cuts.empty()) return stages.cuts;
  const Result<Balance> found = balance(problem);
  return found.ok() ? found->cuts : std::vector<int>{};
}

/// Of a stage whose state is in shards, what is whole beside them: the weights of two blocks, or of all that
/// ran, and of the layer at either end; the gradients of two blocks, of which one is sent with a shard
/// arriving.
std::int64_t whole_bytes(const Job& job, const Stages& stages, LayerRange range, int num_layers) {
  const ParameterCounts parameters = held_counts(job);
  const ParameterCounts trained = trained_counts(job);
  const StateBytes state = state_bytes_per_parameter(job);
  const std::int64_t value = state.compute_copy > 0 ? state.compute_copy : state.weight;
  const std::int64_t head = std::max(parameters.head, parameters.head_table);
  const std::int64_t end_layers =
      (range.first == 0 ? parameters.embedding : 0) + (range.end == num_layers ? head : 0);
  const std::int64_t num_blocks =
      range.end - range.first - (range.first == 0 ? 1 : 0) - (range.end == num_layers ? 1 : 0);
  const std::int64_t whole_blocks = stages.reshards ? std::min<std::int64_t>(2, num_blocks) : num_blocks;
  const std::int64_t gradients = std::min<std::int64_t>(2, num_blocks) * trained.block +
                                 (num_blocks > 0 ? trained.block / stages.data : 0);
  return (value * (whole_blocks * parameters.block + end_layers) + state.gradient * gradients) /
         stages.tensor;
}

}  // namespace

Stages stages_of(const Configuration& configuration) {
  const Json& knobs = configuration.knobs;
  Stages stages;
  stages.data = integer_or(knobs, "data", 1);
  stages.tensor = integer_or(knobs, "tensor", 1);
  stages.pipeline =
      integer_or(knobs, "pipeline", configuration.technique == "pipeline" ? configuration.num_ranks : 1);
  stages.micro_batches = integer_or(knobs, "micro_batches", 1);
  if (const auto order = knobs.find("order"); order != knobs.end() && order->is_string())
    stages.order = pipeline_order_named(order->get<std::string>()).value_or(stages.order);
  stages.sharded = flag_or(knobs, "sharded", false);
  stages.reshards = flag_or(knobs, "reshard_after_forward", true);
  if (const auto cuts = knobs.find("cuts"); cuts != knobs.end() && cuts->is_array())
    for (const Json& cut : *cuts)
      if (cut.is_number_integer()) stages.cuts.push_back(cut.get<int>());
  return stages;
}

int num_stage_layers(const ModelSpec& model) {
  return model.num_layers + 2;
}

std::optional<std::string> stages_refusal(const Family& family) {
  if (!family.batch_statistics) return std::nullopt;
  return "cannot take BatchNorm's statistics of a batch whose micro-batches pass one after the other";
}

std::optional<std::string> stages_refusal(const ModelSpec& model, int num_stages) {
  if (const Family* family = find_family(model.family); family != nullptr)
    if (auto why = stages_refusal(*family)) return why;
  if (num_stages > num_stage_layers(model))
    return "needs a layer for every stage, and the model has " + std::to_string(num_stage_layers(model));
  return std::nullopt;
}

// Few micro-batches leave a large bubble, many leave small matrices: four for every stage is the usual choice
// (a bubble of about a fifth), with more and fewer beside it.
std::vector<int> micro_batch_counts(int num_stages, int num_rows) {
  if (num_stages == 1) return {1};
  std::vector<int> counts;
  for (const int factor : {4, 2, 8}) {
    const int count = std::min(factor * num_stages, num_rows);
    if (std::find(counts.begin(), counts.end(), count) == counts.end()) counts.push_back(count);
  }
  return counts;
}

std::int64_t stages_memory_bytes(const Job& job, const DataSource& data, const Configuration& one) {
  const Stages stages = stages_of(one);
  const Checkpointing checkpointing = checkpointing_in(one);
  const BalanceProblem problem = balance_problem(job, data, stages, checkpointing);
  const ParameterCounts trained = trained_counts(job);
  const ActivationBytes activations = activation_bytes(job, data, rows_of(job, stages));
  const std::vector<int> cuts = cuts_of(problem, stages);
  const auto num_layers = static_cast<int>(problem.layers.size());
  std::int64_t most = 0;
  for (int k = 0; k < stages.pipeline; ++k) {
    if (static_cast<int>(cuts.size()) + 1 != stages.pipeline) break;
    const bool ends = k == 0 || k + 1 == stages.pipeline;
    const LayerRange range = layers_of_stage(cuts, k, num_layers);
    // A block's own backward; with checkpointing what it keeps is made again first; and what was received and
    // is about to be sent.
    std::int64_t working = activations.block_working + 2 * activations.block_input;
    if (checkpointing != Checkpointing::none) working += activations.block_kept;
    std::int64_t bytes = stage_bytes(problem, k, range) + working / stages.tensor;
    if (stages.sharded) bytes += whole_bytes(job, stages, range, num_layers);
    // The table's gradient: of the head beside what it is added to, of the other stage while they are summed.
    if (ends) bytes += 4 * trained.head_table / stages.tensor;
    most = std::max(most, bytes);
  }
  return most;
}

double stages_step_time_s(const Job& job, const DataSource& data, const Configuration& one) {
  const Stages stages = stages_of(one);
  const Checkpointing checkpointing = checkpointing_in(one);
  const Rates rates = rates_of(one.device_class, job.precision);
  const BalanceProblem problem = balance_problem(job, data, stages, checkpointing);
  const ActivationBytes activations = activation_bytes(job, data, rows_of(job, stages));

  // The slowest stage sets the pace, behind the bubble.
  double total = 0.0;
  for (const LayerCost& layer : problem.layers) total += layer.time_s;
  const Result<Balance> cut = balance(problem);
  const double share = cut.ok() && total > 0.0 ? cut->slowest_s * stages.pipeline / total : 1.0;
  const double compute_s = compute_time_s(job, data, checkpointing, rates, stages.num_ranks()) * share /
                           (1.0 - ideal_bubble(stages.pipeline, stages.micro_batches));

  // Messages between stages go while others compute; what each costs in itself does not.
  const double messages_s = stages.pipeline > 1 ? 2.0 * stages.micro_batches * rates.collective_s : 0.0;
  // A tensor group exchanges a block's activations twice forward and twice backward, and waits for them.
  const double blocks = static_cast<double>(job.model.num_layers) / stages.pipeline;
  const double tensor_s =
      4.0 * stages.micro_batches * blocks *
      collective_time_s(static_cast<double>(activations.block_input), stages.tensor, rates) * 2;
  // Gradients over the data dimension go while backward goes on: once, or of shards with every micro-batch,
  // beside the weights that its passes gather.
  const int num_slices = stages.pipeline * stages.tensor;
  const double parameters = static_cast<double>(job.model.num_parameters) / num_slices;
  const double trained = static_cast<double>(trained_counts(job).all) / num_slices;
  const double value = job.precision == "fp32" ? 4.0 : 2.0;
  const double passes = stages.reshards ? 2.0 * stages.micro_batches : 1.0;
  const double sent_s =
      stages.sharded ? collective_time_s(passes * value * parameters + 4.0 * stages.micro_batches * trained,
                                         stages.data, rates) +
                           (passes + stages.micro_batches) * blocks * rates.collective_s
                     : 2.0 * collective_time_s(4.0 * trained, stages.data, rates);
  return compute_s + messages_s + tensor_s + std::max(0.1 * sent_s, sent_s - compute_s / 2);
}

}  // namespace saturn::batch::techniques

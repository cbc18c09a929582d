// Cuts, stages and steps of techniques over a mesh.

#include "saturn/train/staged_technique.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "saturn/base/nearest.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/memory_model.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/train/layer_costs.h"

namespace saturn::train {
namespace {

Diagnostic bad_knob(const std::string& name, const std::string& what, const std::string& expected) {
  return {.where = "configuration#/knobs/" + name, .what = what, .expected = expected};
}

}  // namespace

std::int64_t StagedTechnique::rows_of_replica(int num_replicas, std::int64_t num_rows) const {
  return (num_rows + num_replicas - 1) / num_replicas;
}

Result<void> StagedTechnique::read_knobs(MeshShape shape) {
  const Json& knobs = context_.configuration.knobs;
  const std::int64_t num_rows = rows_of_replica(shape.data, context_.job.batch_size);
  const int default_count = std::max(context_.job.micro_batches, shape.pipeline > 1 ? 4 * shape.pipeline : 1);
  num_micro_batches_ = static_cast<int>(std::min<std::int64_t>(default_count, num_rows));
  if (const auto count = knobs.find("micro_batches"); count != knobs.end()) {
    if (!count->is_number_integer() || count->get<std::int64_t>() < 1)
      return bad_knob("micro_batches", "micro_batches = " + to_line(*count), "a whole number from 1 on");
    if (count->get<std::int64_t>() > num_rows)
      return bad_knob("micro_batches",
                      to_line(*count) + " micro-batches are more than the " + std::to_string(num_rows) +
                          " rows that a replica has of a batch of " + std::to_string(context_.job.batch_size),
                      "at most a micro-batch a row");
    num_micro_batches_ = count->get<int>();
  }
  if (const auto order = knobs.find("order"); order != knobs.end()) {
    const auto named =
        order->is_string() ? batch::pipeline_order_named(order->get<std::string>()) : std::nullopt;
    if (!named) return bad_knob("order", "order = " + to_line(*order), "\"1f1b\" or \"gpipe\"");
    order_ = *named;
  }
  return {};
}

Result<std::vector<int>> StagedTechnique::find_cuts() {
  if (num_stages() == 1) return std::vector<int>{};
  if (num_stages() > num_layers())
    return Diagnostic{.what = std::to_string(num_stages()) + " stages are more than the model's " +
                              std::to_string(num_layers()) + " layers",
                      .expected = "at least one layer for every stage"};
  const Json& knobs = context_.configuration.knobs;
  const auto given = knobs.find("cuts");
  if (given == knobs.end()) return measured_cuts();
  const auto wrong = [&] {
    return bad_knob("cuts", "cuts = " + to_line(*given),
                    std::to_string(num_stages() - 1) + " ascending numbers of layers from 1 to " +
                        std::to_string(num_layers() - 1));
  };
  if (!given->is_array() || static_cast<int>(given->size()) != num_stages() - 1) return wrong();
  std::vector<int> cuts;
  for (const Json& cut : *given) {
    if (!cut.is_number_integer() || cut.get<std::int64_t>() >= num_layers() ||
        cut.get<std::int64_t>() <= (cuts.empty() ? 0 : cuts.back()))
      return wrong();
    cuts.push_back(cut.get<int>());
  }
  return cuts;
}

// As measured on one device, and then as a rank of this mesh has the layers: a share of their state, and with
// checkpointing an input in the place of what a layer keeps.
std::vector<batch::LayerCost> StagedTechnique::layer_costs(std::int64_t num_rows,
                                                           Checkpointing checkpointing) const {
  std::vector<batch::LayerCost> layers =
      measure_layers(*context_.model, context_.job, context_.example, num_rows, context_.device);
  batch::DataSource data;
  data.sequence_length = static_cast<int>(context_.example.inputs.size(1));
  const std::int64_t input_bytes = batch::activation_bytes(context_.job, data, num_rows).block_input;
  const MeshShape shape = mesh_->shape();
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (runs_again(checkpointing, *context_.model, i)) {
      layers[i].time_s *= 4.0 / 3.0;
      layers[i].kept_bytes = std::min(layers[i].kept_bytes, input_bytes);
    }
    layers[i].kept_bytes /= shape.tensor;
    layers[i].state_bytes /= shape.tensor * num_shares_of_state();
  }
  return layers;
}

// Rank 0 measures and tells: times are never the same twice, and all ranks must cut alike.
Result<std::vector<int>> StagedTechnique::measured_cuts() {
  SATURN_TRY(const Checkpointing checkpointing, checkpointing_of(context_.configuration.knobs));
  const auto options = at::TensorOptions(at::kLong);
  at::Tensor told = at::zeros({num_stages()}, options);
  Result<std::vector<int>> cuts = std::vector<int>{};
  if (context_.communicator.rank() == 0) {
    const std::int64_t num_rows = rows_of_replica(mesh_->shape().data, context_.job.batch_size);
    const std::int64_t rows = (num_rows + num_micro_batches_ - 1) / num_micro_batches_;
    batch::BalanceProblem problem{.layers = layer_costs(rows, checkpointing),
                                  .num_stages = num_stages(),
                                  .most_kept = {},
                                  .memory_bytes = memory_limit_bytes(context_.device)};
    for (int k = 0; k < num_stages(); ++k)
      problem.most_kept.push_back(order_ == batch::PipelineOrder::gpipe
                                      ? num_micro_batches_
                                      : std::min(num_stages() - k, num_micro_batches_));
    const Result<batch::Balance> found = batch::balance(problem);
    if (found.ok()) {
      cuts = found->cuts;
      told[0].fill_(1);
      for (std::size_t i = 0; i < found->cuts.size(); ++i)
        told[static_cast<std::int64_t>(i) + 1].fill_(found->cuts[i]);
    } else {
      cuts = found.faults();
    }
  }
  context_.communicator.broadcast(told);
  if (context_.communicator.rank() == 0) return cuts;
  const auto* values = told.const_data_ptr<std::int64_t>();
  if (values[0] == 0)
    return Diagnostic{
        .kind = Kind::infeasible,
        .what = "rank 0 found no cut into " + std::to_string(num_stages()) + " stages that fits",
        .expected = "fewer layers a stage, or more memory"};
  return std::vector<int>(values + 1, values + num_stages());
}

Result<std::unique_ptr<Placement>> StagedTechnique::make_placement() {
  SATURN_TRY(const MeshShape shape, read_mesh());
  SATURN_TRY_VOID(read_knobs(shape));
  if (shape.tensor > 1) SATURN_TRY_VOID(check_splits(*context_.model, context_.job.model, shape.tensor));
  SATURN_TRY(mesh_, Mesh::make(context_.communicator, shape));
  if (shape.tensor > 1) tensor_.emplace(mesh_->tensor());
  if (num_stages() > 1)
    for (const ParameterPtr& parameter : context_.model->parameters()) parameter->num_users = 1;
  SATURN_TRY(cuts_, find_cuts());

  const batch::LayerRange layers = batch::layers_of_stage(cuts_, mesh_->place().pipeline, num_layers());
  SATURN_TRY(const Checkpointing checkpointing, checkpointing_of(context_.configuration.knobs));
  return place_stage({.model = *context_.model,
                      .job = context_.job,
                      .data = mesh_->data(),
                      .device = context_.device,
                      .first_layer = static_cast<std::size_t>(layers.first),
                      .end_layer = static_cast<std::size_t>(layers.end),
                      .checkpointing = checkpointing,
                      .tensor = {mesh_->place().tensor, shape.tensor}});
}

Result<void> StagedTechnique::prepare(WeightSource& source) {
  SATURN_TRY_VOID(PlacedTechnique::prepare(source));
  const int mine = mesh_->place().pipeline;
  stage_ = std::make_unique<PipelineStage>(placement(), *context_.model, mesh_->pipeline(),
                                           batch::layers_of_stage(cuts_, mine, num_layers()));
  std::vector<PipelineStage::Shared> shared;
  for (const ParameterPtr& parameter : context_.model->parameters()) {
    PipelineStage::Shared one{.parameter = parameter, .stages = {}};
    for (int k = 0; k < num_stages(); ++k) {
      const batch::LayerRange layers = batch::layers_of_stage(cuts_, k, num_layers());
      for (int i = layers.first; i < layers.end; ++i) {
        const auto& used = context_.model->layers[static_cast<std::size_t>(i)]->parameters();
        if (std::find(used.begin(), used.end(), parameter) == used.end()) continue;
        if (one.stages.empty() || one.stages.back() != k) one.stages.push_back(k);
      }
    }
    if (one.stages.size() < 2 || std::find(one.stages.begin(), one.stages.end(), mine) == one.stages.end())
      continue;
    if (one.stages.front() != mine) placement().leave_primary(parameter);
    if (parameter->trains) shared.push_back(std::move(one));
  }
  stage_->set_shared(std::move(shared));
  return {};
}

std::vector<RowRange> StagedTechnique::micro_batches_of(std::int64_t num_rows) const {
  const std::vector<RowRange> shares = data::split_rows({0, num_rows}, mesh_->shape().data);
  const auto mine = static_cast<std::size_t>(mesh_->place().data);
  const std::int64_t count = std::min<std::int64_t>(num_micro_batches_, shares.front().count);
  std::vector<RowRange> parts;
  if (mine < shares.size()) parts = data::split_rows(shares[mine], count);
  // Every replica has as many: their collectives meet.
  while (static_cast<std::int64_t>(parts.size()) < count)
    parts.push_back({.first = 0, .count = 1, .counts = false});
  return parts;
}

bool StagedTechnique::counts_loss() const {
  return stage_->is_last() && mesh_->place().tensor == 0;
}

Result<StepStats> StagedTechnique::step(const MicroBatches& batches, double learning_rate) {
  placement().begin_step();
  if (tensor_) tensor_->set_sequence_length(batches.parts.front().inputs.size(1));
  const at::Tensor loss = stage_->accumulate(
      batches,
      [&](const MicroBatch& batch) { return training_context(context_.job, batches, batch, tensor_group()); },
      order_);
  placement().finish_gradients();
  if (tensor_) train::sum_shared_gradients(placement(), *tensor_);
  stage_->sum_shared_gradients();
  const std::vector<TimedOperation>& timeline = stage_->timeline();
  for (const TimedOperation& one : timeline) busy_s_ += one.end_s - one.start_s;
  span_s_ += timeline.back().end_s - timeline.front().start_s;
  const double loss_sum =
      counts_loss() ? loss.item<double>() * static_cast<double>(batches.num_targets) : 0.0;
  return optimizer().update(batches.step, learning_rate, loss_sum, context_.communicator);
}

Result<EvaluationSums> StagedTechnique::evaluate(const MicroBatches& batches) {
  const at::NoGradGuard no_grad;
  placement().begin_evaluation();
  if (tensor_) tensor_->set_sequence_length(batches.parts.front().inputs.size(1));
  const EvaluationSums sums = stage_->evaluate(batches, [this](const MicroBatch& batch) {
    return StepContext{.seed = context_.job.seed,
                       .first_row = batch.rows.first,
                       .training = false,
                       .tensor = tensor_group()};
  });
  return counts_loss() ? sums : EvaluationSums{};
}

Json StagedTechnique::tuned_knobs() const {
  Json knobs = context_.configuration.knobs;
  if (num_stages() == 1) return knobs;
  knobs["micro_batches"] = num_micro_batches_;
  knobs["cuts"] = cuts_;
  return knobs;
}

std::map<std::string, double> StagedTechnique::measured() const {
  if (num_stages() == 1 || !context_.device.is_cpu() || span_s_ == 0.0) return {};
  return {{"bubble", 1.0 - busy_s_ / span_s_}};
}

}  // namespace saturn::train

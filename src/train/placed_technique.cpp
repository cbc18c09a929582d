// One step over a placement, and its state and weights as others see them.

#include "saturn/train/placed_technique.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "saturn/base/nearest.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"

namespace saturn::train {
namespace {

std::vector<OptimizedTensor> optimized_of(const Placement& placement) {
  std::vector<OptimizedTensor> all;
  for (const HeldTensor& held : placement.held())
    if (held.parameter->trains) all.push_back({held.weight, held.parameter->decays});
  return all;
}

std::vector<at::Tensor> gradients_of(const Placement& placement, bool primary_only) {
  std::vector<at::Tensor> all;
  for (const HeldTensor& held : placement.held())
    if (held.parameter->trains && (!primary_only || held.primary)) all.push_back(held.gradient);
  return all;
}

/// Norm of the gradient of the whole model, the same on all ranks.
double gradient_norm(const Placement& placement, Communicator& world, c10::Device device) {
  if (placement.holds_all()) return global_norm(gradients_of(placement, /*primary_only=*/false));
  const double mine = global_norm(gradients_of(placement, /*primary_only=*/true));
  at::Tensor squares = at::full({1}, mine * mine, at::TensorOptions(device).dtype(at::kDouble));
  world.sum(squares);
  return std::sqrt(squares.item<double>());
}

at::Tensor body(Placement& placement, const Model& model, const at::Tensor& inputs,
                const StepContext& context) {
  at::Tensor activation = inputs;
  for (std::size_t i = 0; i + 1 < model.layers.size(); ++i)
    activation = placement.forward(i, activation, context);
  return activation;
}

}  // namespace

StepContext training_context(const batch::Job& job, const MicroBatches& batches, const MicroBatch& batch,
                             const TensorGroup* tensor) {
  return {.seed = job.seed,
          .step = batches.step,
          .first_row = batch.rows.first,
          .training = true,
          .loss_weight = batch.rows.counts ? 1.0 / static_cast<double>(batches.num_targets) : 0.0,
          .tensor = tensor,
          .rows_count = batch.rows.counts};
}

at::Tensor accumulate(Placement& placement, const Model& model, const MicroBatch& batch,
                      const StepContext& context, std::int64_t num_targets, c10::Device device) {
  const at::Tensor input = body(placement, model, batch.inputs.to(device), context);
  const at::Tensor loss = placement.loss(input, batch.targets.to(device), context);
  torch::autograd::backward({loss}, {});
  return loss.detach().to(at::kDouble) * static_cast<double>(num_targets);
}

Result<void> check_splits(const Model& model, const batch::ModelSpec& spec, int num_ranks) {
  const auto refused = [&](const std::string& what, const std::string& expected) {
    return Diagnostic{.what = what + " over " + std::to_string(num_ranks) + " ranks", .expected = expected};
  };
  if (const auto why = batch::head_split_refusal(spec, num_ranks))
    return Diagnostic{.what = *why, .expected = "a number of ranks that divides the heads"};
  bool any = false;
  for (const ParameterPtr& parameter : model.parameters()) {
    const Split& split = parameter->split;
    if (split.dimension < 0) continue;
    any = true;
    const std::int64_t extent =
        parameter->shape[static_cast<std::size_t>(split.dimension)] / split.num_blocks;
    if (extent < num_ranks)
      return refused("cannot split the " + std::to_string(extent) + " rows of " + in_quotes(parameter->name),
                     "at most a rank a row");
  }
  if (!any) return refused("no layer of a " + model.family + " model can be split", "another technique");
  return {};
}

void sum_shared_gradients(const Placement& placement, const TensorGroup& group) {
  std::vector<at::Tensor> shared;
  for (const HeldTensor& held : placement.held())
    if (held.parameter->trains && held.parameter->split.dimension < 0) shared.push_back(held.gradient);
  group.sum(shared);
}

HeldOptimizer::HeldOptimizer(const batch::Optimizer& settings, Placement& placement)
    : settings_(settings), placement_(placement), optimizer_(settings, optimized_of(placement)) {}

StepStats HeldOptimizer::update(std::int64_t step, double learning_rate, double loss_sum,
                                Communicator& world) {
  StepStats stats{.loss_sum = loss_sum,
                  .gradient_norm = gradient_norm(placement_, world, placement_.device())};
  stats.applied = std::isfinite(stats.gradient_norm);
  if (!stats.applied) return stats;
  optimizer_.step(gradients_of(placement_, /*primary_only=*/false), step, learning_rate,
                  clip_scale(stats.gradient_norm, settings_.clip_norm));
  placement_.weights_changed();
  return stats;
}

Result<PlacementContext> PlacedTechnique::whole_model_context() {
  return whole_model_context(context_.communicator, {});
}

Result<PlacementContext> PlacedTechnique::whole_model_context(Communicator& data, TensorSlice slice) {
  SATURN_TRY(const Checkpointing checkpointing, checkpointing_of(context_.configuration.knobs));
  return PlacementContext{.model = *context_.model,
                          .job = context_.job,
                          .data = data,
                          .device = context_.device,
                          .first_layer = 0,
                          .end_layer = context_.model->layers.size(),
                          .checkpointing = checkpointing,
                          .tensor = slice};
}

Result<void> PlacedTechnique::prepare(WeightSource& source) {
  SATURN_TRY(placement_, make_placement());
  SATURN_TRY_VOID(placement_->place(source));
  SATURN_TRY_VOID(place_buffers(source));
  optimizer_.emplace(context_.job.optimizer, *placement_);
  return {};
}

Result<void> PlacedTechnique::place_buffers(WeightSource& source) {
  const std::vector<ParameterPtr> buffers = context_.model->buffers();
  for (const ParameterPtr& buffer : buffers) {
    const at::Tensor on_host = at::zeros(buffer->shape, at::TensorOptions(at::kFloat));
    SATURN_TRY_VOID(source.read(*buffer, 0, on_host.view({-1})));
    buffer->value = on_host.to(context_.device);
  }
  const int num_ranks = context_.communicator.num_ranks();
  if (buffers.empty() || num_ranks == 1) return {};
  // Apart from the group of the gradients: both are summed during backward, in orders of their own.
  std::vector<int> ranks;
  for (int rank = 0; rank < num_ranks; ++rank) ranks.push_back(rank);
  SATURN_TRY(rows_, context_.communicator.subgroup("batch statistics", ranks));
  return {};
}

Result<StepStats> PlacedTechnique::step(const MicroBatches& batches, double learning_rate) {
  TensorGroup* const tensor = tensor_group();
  if (tensor != nullptr) tensor->set_sequence_length(batches.parts.front().inputs.size(1));
  placement_->begin_step();
  at::Tensor loss_sum = at::zeros({}, at::TensorOptions(context_.device).dtype(at::kDouble));
  for (const MicroBatch& batch : batches.parts) {
    // Gradients of all but the last micro-batch may stay on this rank; the last one's backward sends the
    // sums.
    if (&batch == &batches.parts.back()) placement_->expect_last_backward();
    StepContext context = training_context(context_.job, batches, batch, tensor);
    context.rows = rows_.get();
    loss_sum +=
        accumulate(*placement_, *context_.model, batch, context, batches.num_targets, context_.device);
  }
  placement_->finish_gradients();
  ++num_steps_;
  if (tensor != nullptr) {
    sum_shared_gradients(*placement_, *tensor);
    if (tensor->slice().rank != 0) loss_sum.zero_();  // the same on all, counted once
  }
  return optimizer_->update(batches.step, learning_rate, loss_sum.item<double>(), context_.communicator);
}

std::vector<RowRange> PlacedTechnique::equally_many_micro_batches_of(std::int64_t num_rows) const {
  const auto largest_share = data::split_rows({0, num_rows}, context_.communicator.num_ranks()).front();
  const std::size_t most = data::split_rows(largest_share, context_.job.micro_batches).size();
  std::vector<RowRange> mine = Technique::micro_batches_of(num_rows);
  mine.resize(most, {.first = 0, .count = 1, .counts = false});
  return mine;
}

std::map<std::string, double> PlacedTechnique::measured() const {
  // On a GPU the clock of the host says nothing about its transfers.
  if (!placement_ || num_steps_ == 0 || !context_.device.is_cpu()) return {};
  const CommunicationTimes times = placement_->communication();
  if (times.all_s == 0.0) return {};
  const auto steps = static_cast<double>(num_steps_);
  return {{"communication_s", times.all_s / steps}, {"communication_exposed_s", times.exposed_s / steps}};
}

Result<EvaluationSums> PlacedTechnique::evaluate(const MicroBatches& batches) {
  const at::NoGradGuard no_grad;
  TensorGroup* const tensor = tensor_group();
  if (tensor != nullptr) tensor->set_sequence_length(batches.parts.front().inputs.size(1));
  placement_->begin_evaluation();
  EvaluationSums sums;
  for (const MicroBatch& batch : batches.parts) {
    // Rows that do not count still take part: a placement's forward may be a collective.
    const StepContext context{.seed = context_.job.seed,
                              .first_row = batch.rows.first,
                              .training = false,
                              .tensor = tensor,
                              .tally = batch.rows.counts ? &sums.tally : nullptr};
    const at::Tensor input = body(*placement_, *context_.model, batch.inputs.to(context_.device), context);
    const at::Tensor loss = placement_->loss(input, batch.targets.to(context_.device), context);
    if (!batch.rows.counts || (tensor != nullptr && tensor->slice().rank != 0)) continue;
    sums.loss_sum += loss.item<double>();
    sums.num_targets += batch.targets.numel();
  }
  return sums;
}

Result<void> PlacedTechnique::for_each_state(const StateVisitor& visit) {
  const std::vector<HeldTensor>& held = placement_->held();
  std::size_t num_trained = 0;  // the optimiser's tensors are those of what is trained
  for (std::size_t i = 0; i < held.size(); ++i) {
    const bool trains = held[i].parameter->trains;
    const std::size_t of_optimizer = trains ? num_trained++ : 0;
    for (const Box& box : held[i].part.boxes) {
      StateTensor state{.name = held[i].parameter->name,
                        .role = "weight",
                        .shape = held[i].parameter->shape,
                        .offsets = box.offsets,
                        .piece = box.of(held[i].weight),
                        .primary = held[i].primary};
      SATURN_TRY_VOID(visit(state));
      if (!trains) continue;
      for (const OptimizerState& own : optimizer_->optimizer().state()) {
        state.role = own.role;
        state.piece = box.of(own.tensors[of_optimizer]);
        SATURN_TRY_VOID(visit(state));
      }
    }
  }
  for (const ParameterPtr& buffer : context_.model->buffers())
    SATURN_TRY_VOID(visit({.name = buffer->name,
                           .role = "buffer",
                           .shape = buffer->shape,
                           .offsets = std::vector<std::int64_t>(buffer->shape.size(), 0),
                           .piece = buffer->value,
                           .primary = context_.communicator.rank() == 0}));
  return {};
}

void PlacedTechnique::state_loaded() {
  placement_->weights_changed();
}

at::Tensor PlacedTechnique::gather_weight(std::size_t index) {
  const std::size_t num_parameters = context_.model->parameters().size();
  if (index >= num_parameters) return context_.model->buffers()[index - num_parameters]->value.cpu();
  if (placement_->holds_all()) return placement_->held()[index].weight.cpu();
  // Every rank adds what is its own to zeros.
  const ParameterPtr parameter = context_.model->parameters()[index];
  at::Tensor whole = at::zeros(parameter->shape, at::TensorOptions(at::kFloat).device(context_.device));
  for (const HeldTensor& held : placement_->held()) {
    if (held.parameter != parameter || !held.primary) continue;
    for (const Box& box : held.part.boxes) {
      at::Tensor target = whole;
      for (std::size_t d = 0; d < box.sizes.size(); ++d)
        target = target.narrow(static_cast<std::int64_t>(d), box.offsets[d], box.sizes[d]);
      target.copy_(box.of(held.weight));
    }
  }
  context_.communicator.sum(whole);
  return whole.cpu();
}

}  // namespace saturn::train

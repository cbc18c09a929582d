// One device's whole copy: placement, forward and backward, clipping and the update.

#include "saturn/train/replica.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "saturn/base/check.h"
#include "saturn/batch/batch.h"

namespace saturn::train {

Replica::Replica(Model& model, const batch::Job& job, c10::Device device)
    : model_(model),
      job_(job),
      device_(device),
      computes_in_bf16_(job.precision == "bf16"),
      parameters_(model.parameters()) {}

Result<void> Replica::place(WeightSource& source) {
  std::vector<OptimizedTensor> optimized;
  for (const ParameterPtr& parameter : parameters_) {
    at::Tensor whole = at::empty(parameter->shape, at::TensorOptions(at::kFloat));
    SATURN_TRY_VOID(source.read(*parameter, /*first_element=*/0, whole.view({-1})));
    at::Tensor leaf = whole.to(device_);
    leaf.requires_grad_(true);
    parameter->value = leaf;
    leaves_.push_back(leaf);
    optimized.push_back({leaf, parameter->decays});
  }
  optimizer_.emplace(job_.optimizer, optimized);
  return {};
}

void Replica::refresh_compute_copies() {
  if (!computes_in_bf16_) return;
  for (std::size_t i = 0; i < parameters_.size(); ++i) parameters_[i]->value = leaves_[i].to(at::kBFloat16);
}

void Replica::begin_step() {
  for (at::Tensor& leaf : leaves_) leaf.mutable_grad() = at::Tensor();
  refresh_compute_copies();
}

at::Tensor Replica::accumulate(const MicroBatch& batch, std::int64_t step, std::int64_t num_targets) {
  const StepContext context{.seed = job_.seed,
                            .step = step,
                            .first_row = batch.rows.first,
                            .training = true,
                            .loss_weight = batch.rows.counts ? 1.0 / static_cast<double>(num_targets) : 0.0};
  const at::Tensor loss = train::loss(model_, batch.inputs.to(device_), batch.targets.to(device_), context);
  torch::autograd::backward({loss}, {});
  return loss.detach().to(at::kDouble) * static_cast<double>(num_targets);
}

StepStats Replica::update(std::int64_t step, double learning_rate, double loss_sum) {
  std::vector<at::Tensor> gradients;
  gradients.reserve(leaves_.size());
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    SATURN_CHECK(leaves_[i].grad().defined(), "every parameter of a model takes part in its loss");
    gradients.push_back(leaves_[i].grad());
  }
  StepStats stats{.loss_sum = loss_sum, .gradient_norm = global_norm(gradients)};
  stats.applied = std::isfinite(stats.gradient_norm);
  if (stats.applied)
    optimizer_->step(gradients, step, learning_rate,
                     clip_scale(stats.gradient_norm, job_.optimizer.clip_norm));
  return stats;
}

EvaluationSums Replica::evaluate(const MicroBatches& batches) {
  const at::NoGradGuard no_grad;
  refresh_compute_copies();
  EvaluationSums sums;
  for (const MicroBatch& batch : batches.parts) {
    if (!batch.rows.counts) continue;
    const StepContext context{.seed = job_.seed, .first_row = batch.rows.first, .training = false};
    const at::Tensor loss = train::loss(model_, batch.inputs.to(device_), batch.targets.to(device_), context);
    sums.loss_sum += loss.item<double>();
    sums.num_targets += batch.targets.numel();
  }
  return sums;
}

Result<void> Replica::for_each_state(const StateVisitor& visit, bool primary) {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& parameter = *parameters_[i];
    StateTensor state{.name = parameter.name,
                      .role = "weight",
                      .shape = parameter.shape,
                      .offsets = std::vector<std::int64_t>(parameter.shape.size(), 0),
                      .piece = leaves_[i].detach(),
                      .primary = primary};
    SATURN_TRY_VOID(visit(state));
    for (const OptimizerState& own : optimizer_->state()) {
      state.role = own.role;
      state.piece = own.tensors[i];
      SATURN_TRY_VOID(visit(state));
    }
  }
  return {};
}

at::Tensor Replica::weight(std::size_t index) const {
  return leaves_[index].detach().cpu();
}

}  // namespace saturn::train

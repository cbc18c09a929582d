// AdamW and SGD through LibTorch's fused operators, clipping folded into their gradient scale; Lion.
//
// Source of Lion: Chen et al. 2023, algorithm 2.

#include "saturn/train/optimizer.h"

#include <ATen/ATen.h>

#include <cmath>

#include "saturn/base/check.h"

namespace saturn::train {
namespace {

void step_lion(at::Tensor& weight, at::Tensor gradient, at::Tensor& moment, const batch::Optimizer& settings,
               double weight_decay, double learning_rate, double gradient_scale) {
  if (gradient_scale != 1.0) gradient.mul_(gradient_scale);
  const at::Tensor direction = at::lerp(gradient, moment, settings.beta1).sign_();
  weight.mul_(1.0 - learning_rate * weight_decay).sub_(direction, learning_rate);
  moment.lerp_(gradient, 1.0 - settings.beta2);
}

}  // namespace

Optimizer::Optimizer(const batch::Optimizer& settings, const std::vector<OptimizedTensor>& tensors)
    : settings_(settings) {
  for (const std::string& role : roles(settings)) state_.push_back({role, {}});
  groups_.resize(2);
  groups_[0].weight_decay = settings.weight_decay;
  const at::TensorOptions fp32 =
      tensors.empty() ? at::TensorOptions() : tensors.front().weight.options().dtype(at::kFloat);
  step_ = at::zeros({}, fp32.requires_grad(false));
  scale_ = at::ones({}, fp32.requires_grad(false));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const at::Tensor weight = tensors[i].weight.detach();
    SATURN_CHECK(weight.scalar_type() == at::kFloat, "masters are fp32");
    const std::vector<at::Tensor>& given = tensors[i].state;
    SATURN_CHECK(given.empty() || given.size() == state_.size(), "a weight's state is given whole");
    for (std::size_t role = 0; role < state_.size(); ++role)
      state_[role].tensors.push_back(given.empty() ? at::zeros_like(weight) : given[role]);
    Group& group = groups_[tensors[i].decays ? 0 : 1];
    group.indices.push_back(i);
    group.weights.push_back(weight);
    if (!state_.empty()) group.first_moments.push_back(state_[0].tensors.back());
    if (state_.size() > 1) group.second_moments.push_back(state_[1].tensors.back());
    group.steps.push_back(step_);
  }
}

std::vector<std::string> Optimizer::roles(const batch::Optimizer& settings) {
  if (settings.kind == "lion") return {"exp_avg"};
  if (settings.kind == "sgd" && settings.momentum > 0.0) return {"momentum_buffer"};
  if (settings.kind == "sgd") return {};
  SATURN_CHECK(settings.kind == "adamw", "the batch reader knows every optimiser");
  return {"exp_avg", "exp_avg_sq"};
}

void Optimizer::step(const std::vector<at::Tensor>& gradients, std::int64_t step, double learning_rate,
                     double gradient_scale) {
  step_.fill_(static_cast<double>(step + 1));
  std::optional<at::Tensor> divisor;
  if (gradient_scale != 1.0) divisor = scale_.fill_(1.0 / gradient_scale);
  for (Group& group : groups_) {
    if (group.indices.empty()) continue;
    std::vector<at::Tensor> of_group;
    of_group.reserve(group.indices.size());
    for (std::size_t i : group.indices) of_group.push_back(gradients[i]);
    if (settings_.kind == "lion") {
      for (std::size_t i = 0; i < of_group.size(); ++i)
        step_lion(group.weights[i], of_group[i], group.first_moments[i], settings_, group.weight_decay,
                  learning_rate, gradient_scale);
      continue;
    }
    if (settings_.kind == "sgd") {
      // A buffer of zeros takes the first gradient as it is, so that no step is the first.
      at::_fused_sgd_(group.weights, of_group, group.first_moments, group.weight_decay, settings_.momentum,
                      learning_rate, /*dampening=*/0.0, settings_.nesterov, /*maximize=*/false,
                      /*is_first_step=*/false, divisor);
      continue;
    }
    at::_fused_adamw_(group.weights, of_group, group.first_moments, group.second_moments,
                      /*max_exp_avg_sqs=*/{}, group.steps, learning_rate, settings_.beta1, settings_.beta2,
                      group.weight_decay, settings_.eps, /*amsgrad=*/false, /*maximize=*/false, divisor);
  }
}

double global_norm(const std::vector<at::Tensor>& tensors) {
  if (tensors.empty()) return 0.0;
  const std::vector<at::Tensor> norms = at::_foreach_norm(tensors);
  return at::linalg_vector_norm(at::stack(norms).to(at::kDouble)).item<double>();
}

double clip_scale(double norm, double clip_norm) {
  return clip_norm > 0.0 && norm > clip_norm ? clip_norm / norm : 1.0;
}

}  // namespace saturn::train

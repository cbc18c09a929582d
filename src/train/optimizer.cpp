// AdamW through at::_fused_adamw_, clipping folded into the operator's gradient scale.

#include "saturn/train/optimizer.h"

#include <ATen/ATen.h>

#include <cmath>

#include "saturn/base/check.h"

namespace saturn::train {

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
    group.first_moments.push_back(state_[0].tensors.back());
    group.second_moments.push_back(state_[1].tensors.back());
    group.steps.push_back(step_);
  }
}

std::vector<std::string> Optimizer::roles(const batch::Optimizer& settings) {
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

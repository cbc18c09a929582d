// Whole copies: placement, forward, and the sum of gradients.

#include "saturn/train/whole_placement.h"

#include <ATen/ATen.h>

#include "saturn/base/check.h"
#include "saturn/batch/batch.h"
#include "train/gradient_reducer.h"

namespace saturn::train {

WholePlacement::WholePlacement(PlacementContext context)
    : Placement(context), computes_in_bf16_(context.job.precision == "bf16") {}

WholePlacement::~WholePlacement() = default;

Result<void> WholePlacement::place(WeightSource& source) {
  std::vector<std::string> names;
  for (const ParameterPtr& parameter : parameters()) {
    const Part part = part_of(*parameter);
    const at::Tensor on_host = at::empty(part.sizes, at::TensorOptions(at::kFloat));
    SATURN_TRY_VOID(read_part(source, *parameter, part, on_host));
    at::Tensor leaf = on_host.to(context_.device);
    leaf.requires_grad_(true);
    parameter->value = leaf;
    leaves_.push_back(leaf);
    names.push_back(parameter->name);
    held_.push_back({.parameter = parameter,
                     .part = part,
                     .weight = leaf.detach(),
                     .gradient = {},
                     .primary = context_.data.rank() == 0 && is_primary_slice(*parameter)});
  }
  if (context_.data.num_ranks() > 1)
    reducer_ = std::make_unique<GradientReducer>(leaves_, names, context_.data);
  return {};
}

void WholePlacement::refresh_compute_copies() {
  if (!computes_in_bf16_) return;
  for (std::size_t i = 0; i < leaves_.size(); ++i) parameters()[i]->value = leaves_[i].to(at::kBFloat16);
}

void WholePlacement::begin_step() {
  for (HeldTensor& held : held_) held.gradient = at::Tensor();
  for (at::Tensor& leaf : leaves_) leaf.mutable_grad() = at::Tensor();
  refresh_compute_copies();
}

void WholePlacement::begin_evaluation() {
  refresh_compute_copies();
}

at::Tensor WholePlacement::forward(std::size_t index, const at::Tensor& input, const StepContext& context) {
  Layer& layer = this->layer(index);
  if (!runs_again(context_.checkpointing, context_.model, index)) return layer.forward(input, context);
  std::vector<at::Tensor> weights;
  for (const ParameterPtr& parameter : layer.parameters()) weights.push_back(parameter->value);
  return recomputed([&layer, context](const at::Tensor& x) { return layer.forward(x, context); }, input,
                    weights);
}

at::Tensor WholePlacement::loss(const at::Tensor& input, const at::Tensor& targets,
                                const StepContext& context) {
  return context_.model.head->loss(input, targets, context);
}

void WholePlacement::expect_last_backward() {
  if (reducer_) reducer_->expect_last_backward();
}

void WholePlacement::finish_gradients() {
  if (reducer_) reducer_->finish();
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    SATURN_CHECK(leaves_[i].grad().defined(), "every parameter of a model takes part in its loss");
    held_[i].gradient = leaves_[i].grad();
  }
}

bool WholePlacement::holds_all() const {
  return context_.first_layer == 0 && context_.end_layer == context_.model.layers.size() &&
         context_.tensor.size == 1;
}

}  // namespace saturn::train

// Whole copies: placement, forward, and the sum of gradients.

#include "saturn/train/whole_placement.h"

#include <ATen/ATen.h>

#include "saturn/base/check.h"
#include "saturn/batch/batch.h"
#include "train/flat_layout.h"
#include "train/gradient_reducer.h"
#include "train/shard_exchange.h"

namespace saturn::train {

WholePlacement::WholePlacement(PlacementContext context, SharedWork shared)
    : Placement(context), shared_(shared), computes_in_bf16_(context.job.precision == "bf16") {}

WholePlacement::~WholePlacement() = default;

Result<void> WholePlacement::place(WeightSource& source) {
  SATURN_TRY_VOID(place_leaves(source));
  std::vector<std::string> names;
  std::vector<at::Tensor> trained;
  for (std::size_t i = 0; i < leaves_.size(); ++i) {
    if (!parameters()[i]->trains) continue;
    names.push_back(parameters()[i]->name);
    trained.push_back(leaves_[i]);
  }
  if (context_.data.num_ranks() == 1 || trained.empty()) return {};
  reducer_ = std::make_unique<GradientReducer>(trained, names, context_.data, shared_.compress_gradients);
  if (shared_.shard_optimizer) exchange_ = ShardExchange::make(context_.data, context_.device);
  return {};
}

Result<void> WholePlacement::place_leaves(WeightSource& source) {
  std::vector<Part> parts, trained;
  std::vector<std::size_t> leaf_of_trained;
  for (const ParameterPtr& parameter : parameters()) {
    if (parameter->trains) {
      trained.push_back(part_of(*parameter));
      leaf_of_trained.push_back(parts.size());
    }
    parts.push_back(part_of(*parameter));
  }
  if (shared_.shard_optimizer && !trained.empty()) {
    layout_ = std::make_unique<FlatLayout>(trained, context_.data.num_ranks());
    flat_ = at::zeros({layout_->num_elements()}, at::TensorOptions(at::kFloat).device(context_.device));
  }
  std::size_t num_in_layout = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const at::Tensor on_host = at::empty(parts[i].sizes, at::TensorOptions(at::kFloat));
    SATURN_TRY_VOID(read_part(source, *parameters()[i], parts[i], on_host));
    at::Tensor leaf = on_host.to(context_.device);
    const bool trains = parameters()[i]->trains;
    if (layout_ && trains) {
      leaf = layout_->view_of(flat_, num_in_layout++).copy_(leaf).variable_data();
    } else {
      held_.push_back({.parameter = parameters()[i],
                       .part = parts[i],
                       .weight = leaf.detach(),
                       .gradient = {},
                       .primary = context_.data.rank() == 0 && is_primary_slice(*parameters()[i])});
    }
    leaf.requires_grad_(trains);
    parameters()[i]->value = leaf;
    leaves_.push_back(leaf);
  }
  if (!layout_) return {};
  // Behind what is frozen and whole.
  leaf_of_held_.resize(held_.size());
  first_of_held_.resize(held_.size());
  const int rank = context_.data.rank();
  for (const FlatLayout::Slice& slice : layout_->slices_of(rank)) {
    const std::size_t leaf = leaf_of_trained[slice.index];
    held_.push_back({.parameter = parameters()[leaf],
                     .part = range_of(parts[leaf], slice.first, slice.count),
                     .weight = layout_->shard_of(flat_, rank).narrow(0, slice.at, slice.count),
                     .gradient = {},
                     .primary = is_primary_slice(*parameters()[leaf])});
    leaf_of_held_.push_back(leaf);
    first_of_held_.push_back(slice.first);
  }
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
  return recomputed(run_of(layer, context), input, weights);
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
  for (std::size_t i = 0; i < leaves_.size(); ++i)
    SATURN_CHECK(leaves_[i].grad().defined() || !parameters()[i]->trains,
                 "every parameter of a model takes part in its loss");
  for (std::size_t i = 0; i < held_.size(); ++i) {
    HeldTensor& held = held_[i];
    if (!held.parameter->trains) continue;
    held.gradient = layout_ ? leaves_[leaf_of_held_[i]].grad().reshape({-1}).narrow(0, first_of_held_[i],
                                                                                    held.weight.numel())
                            : leaves_[i].grad();
  }
}

void WholePlacement::weights_changed() {
  if (exchange_) exchange_->all_gather(flat_)->wait();
}

bool WholePlacement::holds_all() const {
  return !layout_ && context_.first_layer == 0 && context_.end_layer == context_.model.layers.size() &&
         context_.tensor.size == 1;
}

CommunicationTimes WholePlacement::communication() const {
  CommunicationTimes times = reducer_ ? reducer_->times() : CommunicationTimes{};
  if (exchange_) {
    times.all_s += exchange_->times().all_s;
    times.exposed_s += exchange_->times().exposed_s;
  }
  return times;
}

}  // namespace saturn::train

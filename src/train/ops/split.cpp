// Where a region that a tensor group splits begins and ends: each mark's gradient is the other's exchange.

#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "saturn/train/ops.h"
#include "saturn/train/tensor_group.h"

namespace saturn::train::ops {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class EnterSplit : public torch::autograd::Function<EnterSplit> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const TensorGroup* group) {
    context->saved_data["group"] = reinterpret_cast<std::int64_t>(group);
    return group->gather_sequence(x);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto* group = reinterpret_cast<const TensorGroup*>(context->saved_data["group"].toInt());
    return {group->sum_to_share(gradients[0]), at::Tensor()};
  }
};

class LeaveSplit : public torch::autograd::Function<LeaveSplit> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, const TensorGroup* group) {
    context->saved_data["group"] = reinterpret_cast<std::int64_t>(group);
    return group->sum_to_share(x);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto* group = reinterpret_cast<const TensorGroup*>(context->saved_data["group"].toInt());
    return {group->gather_sequence(gradients[0]), at::Tensor()};
  }
};

/// Zeros instead of the parameter, and zeros for its gradient.
class LeftOut : public torch::autograd::Function<LeftOut> {
 public:
  static at::Tensor forward(AutogradContext*, const at::Tensor& parameter) {
    return at::zeros_like(parameter);
  }
  static variable_list backward(AutogradContext*, variable_list gradients) {
    return {at::zeros_like(gradients[0])};
  }
};

}  // namespace

at::Tensor enter_split(const at::Tensor& x, const TensorGroup* group) {
  return group == nullptr ? x : EnterSplit::apply(x, group);
}

at::Tensor leave_split(const at::Tensor& x, const TensorGroup* group) {
  return group == nullptr ? x : LeaveSplit::apply(x, group);
}

at::Tensor added_once(const at::Tensor& parameter, const TensorGroup* group) {
  return group == nullptr || group->slice().rank == 0 ? parameter : LeftOut::apply(parameter);
}

}  // namespace saturn::train::ops

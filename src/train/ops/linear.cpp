// Linear maps: of Hugging Face's Conv1D, whose weight lies as [inputs, outputs], and of any parameter, with
// its adapter.

#include <ATen/ops/add.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>

#include "saturn/train/ops.h"
#include "saturn/train/parameter.h"

namespace saturn::train::ops {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(1);
  return at::addmm(bias, x.reshape({-1, x.size(-1)}), weight).view(shape);
}

at::Tensor linear_map(const at::Tensor& x, const Parameter& weight, const at::Tensor& bias) {
  const auto whole_map = [&] {
    if (weight.outputs != 1) return at::linear(x, weight.value, bias);
    return bias.defined() ? linear(x, weight.value, bias) : at::matmul(x, weight.value);
  };
  if (!weight.adapter) return whole_map();
  const Adapter& adapter = *weight.adapter;
  return at::add(whole_map(), at::linear(at::linear(x, adapter.a->value), adapter.b->value), adapter.scale);
}

}  // namespace saturn::train::ops

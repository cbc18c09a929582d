// The affine map of Hugging Face's Conv1D, whose weight lies as [inputs, outputs].

#include <ATen/ops/addmm.h>

#include "saturn/train/ops.h"

namespace saturn::train::ops {

at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(1);
  return at::addmm(bias, x.reshape({-1, x.size(-1)}), weight).view(shape);
}

}  // namespace saturn::train::ops

// GELU in its tanh form ("gelu_new"), with the slope that its gradient needs from the same exponential.

#pragma once

#include <ATen/core/Tensor.h>

namespace saturn::train::ops {

/// From `x` and a bias over its last dimension: returns gelu(x + bias) and, where `keep_slope`, turns `x`
/// into gelu'(x + bias). `x` is contiguous.
at::Tensor biased_gelu(at::Tensor& x, const at::Tensor& bias, bool keep_slope);

}  // namespace saturn::train::ops

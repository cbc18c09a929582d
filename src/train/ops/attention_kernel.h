// Causal attention on CPU threads, in fp32: one task a head, whose operands fit into the core's cache.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <utility>

namespace saturn::train::ops {

/// From queries, keys and values side by side, [B, T, 3 C]: the mixed values [B, T, C], and for the gradient
/// log(sum(exp(scores))) of every query, [B, heads, T].
std::pair<at::Tensor, at::Tensor> attention_forward(const at::Tensor& qkv, std::int64_t num_heads,
                                                    double scale);

/// The gradient of `qkv`, laid out as it is.
at::Tensor attention_backward(const at::Tensor& gradient, const at::Tensor& qkv, const at::Tensor& out,
                              const at::Tensor& log_sums, std::int64_t num_heads, double scale);

}  // namespace saturn::train::ops

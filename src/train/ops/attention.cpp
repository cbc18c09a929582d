// Causal attention over queries, keys and values that lie side by side, and a gradient that lies the same
// way.

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <torch/csrc/autograd/custom_function.h>

#include "saturn/train/ops.h"

namespace saturn::train::ops {
namespace {

struct Heads {
  at::Tensor queries;  // [B, heads, T, C / heads], views
  at::Tensor keys;
  at::Tensor values;
};

Heads heads_of(const at::Tensor& qkv, std::int64_t num_heads) {
  const at::Tensor parts = qkv.view({qkv.size(0), qkv.size(1), 3, num_heads, qkv.size(2) / 3 / num_heads})
                               .permute({2, 0, 3, 1, 4});
  return {parts.select(0, 0), parts.select(0, 1), parts.select(0, 2)};
}

at::Tensor side_by_side(const at::Tensor& of_heads) {
  return of_heads.transpose(1, 2).reshape({of_heads.size(0), of_heads.size(2), -1});
}

class FlashOnCpu : public torch::autograd::Function<FlashOnCpu> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& qkv,
                            std::int64_t num_heads, double scale) {
    const Heads heads = heads_of(qkv, num_heads);
    const auto [out, log_sums] = at::_scaled_dot_product_flash_attention_for_cpu(
        heads.queries, heads.keys, heads.values, /*dropout_p=*/0.0, /*is_causal=*/true, /*attn_mask=*/{},
        scale);
    context->save_for_backward({qkv, out, log_sums});
    context->saved_data["num_heads"] = num_heads;
    context->saved_data["scale"] = scale;
    return side_by_side(out);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const std::int64_t num_heads = context->saved_data["num_heads"].toInt();
    const Heads heads = heads_of(saved[0], num_heads);
    const at::Tensor gradient =
        gradients[0].view({saved[0].size(0), saved[0].size(1), num_heads, -1}).transpose(1, 2);
    const auto [queries, keys, values] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
        gradient, heads.queries, heads.keys, heads.values, saved[1], saved[2], /*dropout_p=*/0.0,
        /*is_causal=*/true,
        /*attn_mask=*/{}, context->saved_data["scale"].toDouble());
    at::Tensor whole = at::empty_like(saved[0]);
    Heads into = heads_of(whole, num_heads);
    into.queries.copy_(queries);
    into.keys.copy_(keys);
    into.values.copy_(values);
    return {whole, at::Tensor(), at::Tensor()};
  }
};

at::Tensor with_dropout(const at::Tensor& qkv, std::int64_t num_heads, double scale,
                        const DropoutSite& site) {
  const Heads heads = heads_of(qkv, num_heads);
  const std::int64_t tokens = qkv.size(1);
  const at::Tensor scores = at::matmul(heads.queries, heads.keys.transpose(2, 3)) * scale;
  const at::Tensor future = at::ones({tokens, tokens}, qkv.options().dtype(at::kBool)).triu_(1);
  const at::Tensor probabilities = at::softmax(scores.masked_fill(future, -INFINITY), -1);
  return side_by_side(at::matmul(dropout(probabilities, site), heads.values));
}

}  // namespace

at::Tensor causal_attention(const at::Tensor& qkv, std::int64_t num_heads, double scale,
                            const DropoutSite& site) {
  if (site.probability > 0.0) return with_dropout(qkv, num_heads, scale, site);
  if (qkv.is_cpu()) return FlashOnCpu::apply(qkv, num_heads, scale);
  const Heads heads = heads_of(qkv, num_heads);
  return side_by_side(at::scaled_dot_product_attention(heads.queries, heads.keys, heads.values,
                                                       /*attn_mask=*/{},
                                                       /*dropout_p=*/0.0, /*is_causal=*/true, scale));
}

}  // namespace saturn::train::ops

// Causal attention over queries, keys and values that lie side by side, and a gradient that lies the same
// way.

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/scaled_dot_product_attention.h>
#include <ATen/ops/softmax.h>
#include <torch/csrc/autograd/custom_function.h>

#include "saturn/train/ops.h"
#include "train/ops/attention_kernel.h"

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

class AttentionOnCpu : public torch::autograd::Function<AttentionOnCpu> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& qkv,
                            std::int64_t num_heads, double scale) {
    const auto [out, log_sums] = attention_forward(qkv, num_heads, scale);
    context->save_for_backward({qkv, out, log_sums});
    context->saved_data["num_heads"] = num_heads;
    context->saved_data["scale"] = scale;
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    return {
        attention_backward(gradients[0].contiguous(), saved[0], saved[1], saved[2],
                           context->saved_data["num_heads"].toInt(), context->saved_data["scale"].toDouble()),
        at::Tensor(), at::Tensor()};
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
  if (qkv.is_cpu() && qkv.scalar_type() == at::kFloat) {
    return AttentionOnCpu::apply(qkv.contiguous(), num_heads, scale);
  }
  const Heads heads = heads_of(qkv, num_heads);
  return side_by_side(at::scaled_dot_product_attention(heads.queries, heads.keys, heads.values,
                                                       /*attn_mask=*/{},
                                                       /*dropout_p=*/0.0, /*is_causal=*/true, scale));
}

}  // namespace saturn::train::ops

// Token and position embedding, whose token gradient stays as small as the batch where it can.

#include <ATen/ops/add.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/sparse_coo_tensor.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "saturn/train/ops.h"

namespace saturn::train::ops {
namespace {

class Embed : public torch::autograd::Function<Embed> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& tokens,
                            const at::Tensor& token_table, const at::Tensor& position_table, bool tied) {
    context->save_for_backward({tokens});
    context->saved_data["token_rows"] = token_table.size(0);
    context->saved_data["position_rows"] = position_table.size(0);
    context->saved_data["tied"] = tied;
    at::Tensor x = at::embedding(token_table, tokens);
    x.add_(position_table.narrow(0, 0, tokens.size(1)));
    return x;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const at::Tensor tokens = context->get_saved_variables()[0];
    const std::int64_t token_rows = context->saved_data["token_rows"].toInt();
    const std::int64_t position_rows = context->saved_data["position_rows"].toInt();
    const at::Tensor gradient = gradients[0].contiguous();
    const std::int64_t width = gradient.size(-1);
    at::Tensor token_gradient;
    if (context->saved_data["tied"].toBool()) {
      token_gradient =
          at::_sparse_coo_tensor_unsafe(tokens.reshape({1, -1}), gradient.view({-1, width}),
                                        {token_rows, width}, gradient.options().layout(at::kSparse));
    } else {
      token_gradient = at::embedding_dense_backward(gradient, tokens, token_rows, /*padding_idx=*/-1,
                                                    /*scale_grad_by_freq=*/false);
    }
    at::Tensor position_gradient = at::sum(gradient, 0);
    if (position_rows != tokens.size(1)) {
      at::Tensor whole = at::zeros({position_rows, width}, gradient.options());
      whole.narrow(0, 0, tokens.size(1)).copy_(position_gradient);
      position_gradient = whole;
    }
    return {at::Tensor(), token_gradient, position_gradient, at::Tensor()};
  }
};

}  // namespace

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& token_table, const at::Tensor& position_table,
                 bool tied) {
  return Embed::apply(tokens, token_table, position_table, tied);
}

}  // namespace saturn::train::ops

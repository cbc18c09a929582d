// Token and position embedding, whose token gradient stays as small as the batch where it can.

#include <ATen/TensorOperators.h>
#include <ATen/ops/add.h>
#include <ATen/ops/constant_pad_nd.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/embedding_dense_backward.h>
#include <ATen/ops/sparse_coo_tensor.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>

#include "saturn/train/ops.h"
#include "saturn/train/tensor_group.h"

namespace saturn::train::ops {
namespace {

/// The gradient of a table of `num_rows` from that of the rows looked up.
at::Tensor table_gradient(const at::Tensor& gradient, const at::Tensor& tokens, std::int64_t num_rows,
                          bool tied) {
  if (!tied) {
    return at::embedding_dense_backward(gradient, tokens, num_rows, /*padding_idx=*/-1,
                                        /*scale_grad_by_freq=*/false);
  }
  const std::int64_t width = gradient.size(-1);
  return at::_sparse_coo_tensor_unsafe(tokens.reshape({1, -1}), gradient.reshape({-1, width}),
                                       {num_rows, width}, gradient.options().layout(at::kSparse));
}

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
    const at::Tensor token_gradient =
        table_gradient(gradient, tokens, token_rows, context->saved_data["tied"].toBool());
    at::Tensor position_gradient = at::sum(gradient, 0);
    if (position_rows != tokens.size(1)) {
      at::Tensor whole = at::zeros({position_rows, width}, gradient.options());
      whole.narrow(0, 0, tokens.size(1)).copy_(position_gradient);
      position_gradient = whole;
    }
    return {at::Tensor(), token_gradient, position_gradient, at::Tensor()};
  }
};

class LookUp : public torch::autograd::Function<LookUp> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& tokens,
                            const at::Tensor& table, bool tied) {
    context->save_for_backward({tokens});
    context->saved_data["num_rows"] = table.size(0);
    context->saved_data["tied"] = tied;
    return at::embedding(table, tokens);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    return {at::Tensor(),
            table_gradient(gradients[0].contiguous(), context->get_saved_variables()[0],
                           context->saved_data["num_rows"].toInt(), context->saved_data["tied"].toBool()),
            at::Tensor()};
  }
};

/// Rows of a slice of the table that begins with token `first`; zeros for the tokens of other slices.
class LookUpInSlice : public torch::autograd::Function<LookUpInSlice> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& tokens,
                            const at::Tensor& slice, std::int64_t first, bool tied) {
    const at::Tensor places = tokens - first;
    const at::Tensor is_here = places.ge(0).logical_and_(places.lt(slice.size(0)));
    const at::Tensor rows = places.mul(is_here);  // row 0 for the others, and nothing of it
    context->save_for_backward({rows, is_here});
    context->saved_data["num_rows"] = slice.size(0);
    context->saved_data["tied"] = tied;
    return at::embedding(slice, rows).mul_(is_here.unsqueeze(-1));
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const at::Tensor gradient = gradients[0] * saved[1].unsqueeze(-1);
    return {at::Tensor(),
            table_gradient(gradient, saved[0], context->saved_data["num_rows"].toInt(),
                           context->saved_data["tied"].toBool()),
            at::Tensor(), at::Tensor()};
  }
};

at::Tensor look_up_in_group(const at::Tensor& tokens, const at::Tensor& token_slice, bool tied,
                            const TableSplit& split) {
  const Range rows = own_share(split.vocabulary, split.group);
  TORCH_CHECK(token_slice.size(0) == rows.count, "embed: a slice of the token table");
  return leave_split(LookUpInSlice::apply(tokens, token_slice, rows.first, tied), split.group);
}

at::Tensor embed_in_group(const at::Tensor& tokens, const at::Tensor& token_slice,
                          const at::Tensor& position_table, bool tied, const TableSplit& split) {
  const TensorGroup& group = *split.group;
  const at::Tensor of_tokens = look_up_in_group(tokens, token_slice, tied, split);
  const Range positions = group.positions_of(group.slice().rank);
  const at::Tensor of_positions = position_table.narrow(0, positions.first, positions.count);
  return of_tokens + at::constant_pad_nd(of_positions, {0, 0, 0, group.share_length() - positions.count});
}

}  // namespace

at::Tensor embed(const at::Tensor& tokens, const at::Tensor& token_table, const at::Tensor& position_table,
                 bool tied, const TableSplit& split) {
  if (split.group != nullptr) return embed_in_group(tokens, token_table, position_table, tied, split);
  return Embed::apply(tokens, token_table, position_table, tied);
}

at::Tensor embed_tokens(const at::Tensor& tokens, const at::Tensor& token_table, bool tied,
                        const TableSplit& split) {
  if (split.group != nullptr) return look_up_in_group(tokens, token_table, tied, split);
  return LookUp::apply(tokens, token_table, tied);
}

}  // namespace saturn::train::ops

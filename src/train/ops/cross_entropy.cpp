// The output head and its cross-entropy as one operator, some rows at a time: the logits of a large
// vocabulary never exist as a whole, and their gradient takes their place.

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/exp.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/logsumexp.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "saturn/train/ops.h"
#include "saturn/train/tensor_group.h"
#include "train/ops/vector_math.h"

namespace saturn::train::ops {
namespace {

// One piece of logits; large enough that the table's gradient is not read and written too often.
constexpr std::int64_t kPieceBytes = std::int64_t{96} << 20;

constexpr std::int64_t kSumBlock = 4096;

/// One row: its logits become exp(logit - top), whose sum is `sum`; top is the largest.
struct Exponentials {
  template <int L>
  SATURN_INLINE static void run(float* logits, std::int64_t size, float* top_out, double* sum_out) {
    const float nothing = -INFINITY;
    Floats<L> largest = Floats<L>{} + nothing;
    std::int64_t i = 0;
    for (; i + L <= size; i += L) {
      const Floats<L> v = load<L>(logits + i);
      largest = v > largest ? v : largest;
    }
    if (i < size) {
      const Floats<L> v = load_some<L>(logits + i, size - i, nothing);
      largest = v > largest ? v : largest;
    }
    const float top = largest_lane<L>(largest);
    double sum = 0.0;
    for (i = 0; i < size;) {  // in blocks, so that a large vocabulary does not outgrow the sums' precision
      const std::int64_t end = i + kSumBlock < size ? i + kSumBlock : size;
      Floats<L> sums{};
      for (; i + L <= end; i += L) {
        const Floats<L> e = exp_of<L>(load<L>(logits + i) - top);
        store<L>(logits + i, e);
        sums += e;
      }
      if (i < end) {
        const Floats<L> e = exp_of<L>(load_some<L>(logits + i, end - i, nothing) - top);
        store_some<L>(logits + i, e, end - i);
        sums += e;
        i = end;
      }
      sum += static_cast<double>(sum_of_lanes<L>(sums));
    }
    *top_out = top;
    *sum_out = sum;
  }
};

struct Scale {
  template <int L>
  SATURN_INLINE static void run(float* values, std::int64_t size, float factor) {
    std::int64_t i = 0;
    for (; i + L <= size; i += L) store<L>(values + i, load<L>(values + i) * factor);
    for (; i < size; ++i) values[i] *= factor;
  }
};

/// One row: its logits become weight * (softmax - one_hot(target)); gives log(sum(exp)) - logit[target].
struct SoftmaxInPlace {
  template <int L>
  SATURN_INLINE static void run(float* logits, std::int64_t size, std::int64_t target, float weight,
                                double* loss) {
    const float target_logit = logits[target];
    float top = 0.0f;
    double sum = 0.0;
    Exponentials::run<L>(logits, size, &top, &sum);
    Scale::run<L>(logits, size, static_cast<float>(static_cast<double>(weight) / sum));
    logits[target] -= weight;
    *loss = static_cast<double>(top) + std::log(sum) - static_cast<double>(target_logit);
  }
};

std::int64_t rows_at_once(std::int64_t row_size) {
  return 1 + 8192 / row_size;
}

void check_target(std::int64_t target, std::int64_t vocabulary) {
  TORCH_CHECK_INDEX(target >= 0 && target < vocabulary, "target ", target, " is not one of the model's ",
                    vocabulary, " tokens");
}

/// Sum of the rows' losses; `logits` become their gradient times `weight`.
double softmax_in_place(at::Tensor& logits, const at::Tensor& targets, double weight) {
  const std::int64_t num_rows = logits.size(0);
  const std::int64_t size = logits.size(1);
  float* const data = logits.mutable_data_ptr<float>();
  const std::int64_t* const target_data = targets.const_data_ptr<std::int64_t>();
  std::vector<double> losses(static_cast<std::size_t>(num_rows));
  at::parallel_for(0, num_rows, rows_at_once(size), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      check_target(target_data[row], size);
      run_kernel<SoftmaxInPlace>(data + row * size, size, target_data[row], static_cast<float>(weight),
                                 &losses[static_cast<std::size_t>(row)]);
    }
  });
  double sum = 0.0;  // in the order of the rows, whatever the number of threads
  for (const double loss : losses) sum += loss;
  return sum;
}

/// The same where every rank has the logits of its slice of the vocabulary: the ranks exchange three numbers
/// a row, and each turns its slice into its part of the gradient.
double softmax_in_place_of_slices(at::Tensor& logits, const at::Tensor& targets, double weight,
                                  const TableSplit& split) {
  const std::int64_t num_rows = logits.size(0);
  const std::int64_t size = logits.size(1);
  const std::int64_t first = own_share(split.vocabulary, split.group).first;
  float* const data = logits.mutable_data_ptr<float>();
  const std::int64_t* const target_data = targets.const_data_ptr<std::int64_t>();
  const auto is_here = [&](std::int64_t row) {
    return target_data[row] >= first && target_data[row] < first + size;
  };
  enum { kTop, kSum, kTarget, kNumbers };
  at::Tensor mine = at::empty({num_rows, kNumbers}, logits.options().dtype(at::kDouble));
  double* const numbers = mine.mutable_data_ptr<double>();
  at::parallel_for(0, num_rows, rows_at_once(size), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      check_target(target_data[row], split.vocabulary);
      double* const to = numbers + row * kNumbers;
      to[kTarget] = is_here(row) ? static_cast<double>(data[row * size + target_data[row] - first]) : 0.0;
      float top = 0.0f;
      run_kernel<Exponentials>(data + row * size, size, &top, to + kSum);
      to[kTop] = static_cast<double>(top);
    }
  });
  const at::Tensor all = split.group->gather(mine);
  const double* const of_ranks = all.const_data_ptr<double>();
  const std::int64_t num_ranks = all.size(0);
  std::vector<double> losses(static_cast<std::size_t>(num_rows));
  at::parallel_for(0, num_rows, rows_at_once(size), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const auto number = [&](std::int64_t rank, int which) {
        return of_ranks[(rank * num_rows + row) * kNumbers + which];
      };
      double top = -INFINITY;
      for (std::int64_t rank = 0; rank < num_ranks; ++rank) top = std::max(top, number(rank, kTop));
      double sum = 0.0;
      double target_logit = 0.0;  // of the one rank that has it
      for (std::int64_t rank = 0; rank < num_ranks; ++rank) {
        sum += number(rank, kSum) * std::exp(number(rank, kTop) - top);
        target_logit += number(rank, kTarget);
      }
      const double own_top = numbers[row * kNumbers + kTop];
      run_kernel<Scale>(data + row * size, size, static_cast<float>(weight / sum * std::exp(own_top - top)));
      if (is_here(row)) data[row * size + target_data[row] - first] -= static_cast<float>(weight);
      losses[static_cast<std::size_t>(row)] = top + std::log(sum) - target_logit;
    }
  });
  double sum = 0.0;
  for (const double loss : losses) sum += loss;
  return sum;
}

/// The same where the kernels do not apply: another device, or bf16 logits, which are computed with in fp32.
at::Tensor softmax_by_operators(at::Tensor& logits, const at::Tensor& targets, double weight,
                                bool with_gradient, const TableSplit& split) {
  const at::Tensor wide = logits.to(at::kFloat);
  at::Tensor column = targets.unsqueeze(1);
  at::Tensor log_sums = at::logsumexp(wide, 1);
  at::Tensor target_logits;
  at::Tensor is_here;  // a group's: whether the row's target lies in this rank's slice
  if (split.group == nullptr) {
    target_logits = wide.gather(1, column).squeeze(1);
  } else {
    column = column - own_share(split.vocabulary, split.group).first;
    is_here = column.ge(0).logical_and_(column.lt(wide.size(1)));
    column = column.mul(is_here);
    const at::Tensor own_target = wide.gather(1, column).mul_(is_here).squeeze(1);
    const at::Tensor all = split.group->gather(at::stack({log_sums, own_target}, 1));
    log_sums = at::logsumexp(all.select(2, 0), 0);
    target_logits = all.select(2, 1).sum(0);
  }
  const at::Tensor loss = (log_sums - target_logits).sum();
  if (with_gradient) {
    at::Tensor gradient = at::exp(wide - log_sums.unsqueeze(1)).mul_(weight);
    at::Tensor at_target = at::full_like(column, -weight, gradient.options());
    if (is_here.defined()) at_target.mul_(is_here);
    gradient.scatter_add_(1, column, at_target);
    logits.copy_(gradient);
  }
  return loss;
}

/// The same on every rank of a group, since they take as many pieces as each other.
std::int64_t largest_slice(std::int64_t own, const TableSplit& split) {
  if (split.group == nullptr) return own;
  TORCH_CHECK(own == own_share(split.vocabulary, split.group).count,
              "head_cross_entropy: a slice of the table");
  const std::int64_t size = split.group->slice().size;
  return (split.vocabulary + size - 1) / size;
}

struct LossAndGradients {
  at::Tensor loss;
  at::Tensor x;  ///< gradients; undefined unless asked for
  at::Tensor table;
  at::Tensor bias;
};

/// Which gradients are asked for.
struct Asked {
  bool x = false;
  bool table = false;
  bool bias = false;

  bool any() const { return x || table || bias; }
};

LossAndGradients cross_entropy(const at::Tensor& x, const at::Tensor& table, const at::Tensor& bias,
                               const at::Tensor& targets, double weight, Asked asked,
                               const TableSplit& split) {
  const std::int64_t num_rows = x.size(0);
  const std::int64_t vocabulary = table.size(0);
  const std::int64_t row_bytes = largest_slice(vocabulary, split) * x.element_size();
  const std::int64_t piece_rows = std::min(num_rows, std::max<std::int64_t>(64, kPieceBytes / row_bytes));
  const bool by_kernel = x.is_cpu() && x.scalar_type() == at::kFloat;

  LossAndGradients result;
  result.loss = at::zeros({}, x.options().dtype(at::kFloat));
  if (asked.x) result.x = at::empty_like(x);
  if (asked.table) result.table = at::empty_like(table);
  if (asked.bias) result.bias = at::zeros_like(bias);
  at::Tensor logits = at::empty({piece_rows, vocabulary}, x.options());
  double loss = 0.0;
  for (std::int64_t first = 0; first < num_rows; first += piece_rows) {
    const std::int64_t count = std::min(piece_rows, num_rows - first);
    const at::Tensor x_piece = x.narrow(0, first, count);
    const at::Tensor target_piece = targets.narrow(0, first, count);
    at::Tensor piece = logits.narrow(0, 0, count);
    at::mm_out(piece, x_piece, table.t());
    if (bias.defined()) piece.add_(bias);
    if (!by_kernel) {
      result.loss += softmax_by_operators(piece, target_piece, weight, asked.any(), split);
    } else if (split.group != nullptr) {
      loss += softmax_in_place_of_slices(piece, target_piece, weight, split);
    } else {
      loss += softmax_in_place(piece, target_piece, weight);
    }
    if (asked.x) {
      at::Tensor x_gradient = result.x.narrow(0, first, count);
      at::mm_out(x_gradient, piece, table);
    }
    if (asked.bias) result.bias.add_(at::sum(piece, 0));
    if (!asked.table) continue;
    if (first == 0) {
      at::mm_out(result.table, piece.t(), x_piece);
    } else {
      result.table.addmm_(piece.t(), x_piece);
    }
  }
  if (by_kernel) result.loss.fill_(loss);
  result.loss.mul_(weight);
  return result;
}

class HeadCrossEntropy : public torch::autograd::Function<HeadCrossEntropy> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& table, const std::optional<at::Tensor>& bias,
                            const at::Tensor& targets, double weight, const TableSplit& split) {
    const Asked asked{.x = x.requires_grad(),
                      .table = table.requires_grad(),
                      .bias = bias.has_value() && bias->requires_grad()};
    LossAndGradients result =
        cross_entropy(x, table, bias.value_or(at::Tensor()), targets, weight, asked, split);
    context->save_for_backward({result.x, result.table, result.bias});
    return result.loss;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    torch::autograd::variable_list saved = context->get_saved_variables();
    const at::Tensor& factor = gradients[0];
    // The usual factor is the 1 that backward() of a loss begins with; on a GPU asking would wait for it.
    if (!factor.is_cpu() || factor.item<double>() != 1.0) {
      for (at::Tensor& gradient : saved)
        if (gradient.defined()) gradient = gradient * factor.to(gradient.scalar_type());
    }
    return {saved[0], saved[1], saved[2], at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor head_cross_entropy(const at::Tensor& x, const at::Tensor& table, const at::Tensor& targets,
                              double weight, const TableSplit& split, const at::Tensor& bias) {
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
  const at::Tensor flat_targets = targets.reshape(-1).contiguous();
  const bool bias_trains = bias.defined() && bias.requires_grad();
  if (at::GradMode::is_enabled() && (x.requires_grad() || table.requires_grad() || bias_trains)) {
    return HeadCrossEntropy::apply(rows, table, bias.defined() ? std::optional(bias) : std::nullopt,
                                   flat_targets, weight, split);
  }
  return cross_entropy(rows.contiguous(), table, bias, flat_targets, weight, /*asked=*/{}, split).loss;
}

}  // namespace saturn::train::ops

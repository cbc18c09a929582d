// The two-layer perceptron of a transformer block as one operator: between its matrix products the hidden
// activation is touched once forward and once backward.

#include <ATen/Parallel.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <torch/csrc/autograd/custom_function.h>

#include "saturn/train/ops.h"
#include "saturn/train/parameter.h"
#include "train/ops/gelu.h"
#include "train/ops/vector_math.h"

namespace saturn::train::ops {
namespace {

// gradient *= slope, and the sum of the result's columns, over a range of columns.
struct ScaleAndSumColumns {
  template <int L>
  SATURN_INLINE static void run(float* gradient, const float* slope, float* sums, std::int64_t num_rows,
                                std::int64_t width, std::int64_t begin, std::int64_t end) {
    std::int64_t column = begin;
    for (; column + 2 * L <= end; column += 2 * L) {
      Floats<L> sum_0{};
      Floats<L> sum_1{};
      for (std::int64_t row = 0; row < num_rows; ++row) {
        float* const at = gradient + row * width + column;
        const Floats<L> scaled_0 = load<L>(at) * load<L>(slope + row * width + column);
        const Floats<L> scaled_1 = load<L>(at + L) * load<L>(slope + row * width + column + L);
        store<L>(at, scaled_0);
        store<L>(at + L, scaled_1);
        sum_0 += scaled_0;
        sum_1 += scaled_1;
      }
      store<L>(sums + column, sum_0);
      store<L>(sums + column + L, sum_1);
    }
    for (; column < end; column += L) {
      const std::int64_t count = end - column < L ? end - column : L;
      Floats<L> sum{};
      for (std::int64_t row = 0; row < num_rows; ++row) {
        float* const at = gradient + row * width + column;
        const Floats<L> scaled = load_some<L>(at, count) * load_some<L>(slope + row * width + column, count);
        store_some<L>(at, scaled, count);
        sum += scaled;
      }
      store_some<L>(sums + column, sum, count);
    }
  }
};

/// Scales `gradient` by `slope` in place and returns the sum over its rows: the gradient of the bias.
at::Tensor through_gelu(at::Tensor& gradient, const at::Tensor& slope) {
  if (!gradient.is_cpu() || gradient.scalar_type() != at::kFloat) {
    gradient.mul_(slope);
    return at::sum(gradient, 0);
  }
  const std::int64_t num_rows = gradient.size(0);
  const std::int64_t width = gradient.size(1);
  at::Tensor sums = at::empty({width}, gradient.options());
  float* const gradient_data = gradient.mutable_data_ptr<float>();
  const float* const slope_data = slope.const_data_ptr<float>();
  float* const sums_data = sums.mutable_data_ptr<float>();
  // Threads share out columns, not rows: each sum is then added up in one order whatever their number.
  at::parallel_for(0, (width + 63) / 64, 1, [&](std::int64_t begin, std::int64_t end) {
    run_kernel<ScaleAndSumColumns>(gradient_data, slope_data, sums_data, num_rows, width, begin * 64,
                                   std::min(end * 64, width));
  });
  return sums;
}

class GeluMlp : public torch::autograd::Function<GeluMlp> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const at::Tensor& fc_weight, const at::Tensor& fc_bias,
                            const at::Tensor& proj_weight, const at::Tensor& proj_bias, bool keep_slope) {
    at::Tensor hidden = at::mm(x, fc_weight);
    const at::Tensor active = biased_gelu(hidden, fc_bias, keep_slope);
    if (keep_slope) context->save_for_backward({x, fc_weight, proj_weight, active, hidden});
    return at::addmm(proj_bias, active, proj_weight);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list saved = context->get_saved_variables();
    const at::Tensor& x = saved[0];
    const at::Tensor& fc_weight = saved[1];
    const at::Tensor& proj_weight = saved[2];
    const at::Tensor& active = saved[3];
    const at::Tensor& slope = saved[4];
    const at::Tensor gradient = gradients[0].contiguous();
    at::Tensor hidden_gradient = at::mm(gradient, proj_weight.t());
    const auto asked = [&](std::size_t input, const auto& make) {
      return context->needs_input_grad(input) ? make() : at::Tensor();
    };
    const at::Tensor proj_weight_gradient = asked(3, [&] { return at::mm(active.t(), gradient); });
    const at::Tensor fc_bias_gradient = through_gelu(hidden_gradient, slope);
    return {asked(0, [&] { return at::mm(hidden_gradient, fc_weight.t()); }),
            asked(1, [&] { return at::mm(x.t(), hidden_gradient); }),
            fc_bias_gradient,
            proj_weight_gradient,
            asked(4, [&] { return at::sum(gradient, 0); }),
            at::Tensor()};
  }
};

}  // namespace

at::Tensor gelu_mlp(const at::Tensor& x, const at::Tensor& fc_weight, const at::Tensor& fc_bias,
                    const at::Tensor& proj_weight, const at::Tensor& proj_bias) {
  const bool keep_slope = at::GradMode::is_enabled() &&
                          (x.requires_grad() || fc_weight.requires_grad() || fc_bias.requires_grad() ||
                           proj_weight.requires_grad() || proj_bias.requires_grad());
  const at::Tensor rows = x.reshape({-1, x.size(-1)});
  const at::Tensor y = GeluMlp::apply(rows, fc_weight, fc_bias, proj_weight, proj_bias, keep_slope);
  std::vector<std::int64_t> shape = x.sizes().vec();
  shape.back() = proj_weight.size(-1);
  return y.view(shape);
}

at::Tensor gelu_mlp(const at::Tensor& x, const Parameter& fc, const at::Tensor& fc_bias,
                    const Parameter& proj, const at::Tensor& proj_bias) {
  if (fc.adapter || proj.adapter)
    return linear_map(at::gelu(linear_map(x, fc, fc_bias), "tanh"), proj, proj_bias);
  const auto by_outputs = [](const Parameter& weight) {
    return weight.outputs == 1 ? weight.value : weight.value.t();
  };
  return gelu_mlp(x, by_outputs(fc), fc_bias, by_outputs(proj), proj_bias);
}

}  // namespace saturn::train::ops

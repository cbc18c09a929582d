// BatchNorm by the statistics of the global batch: LibTorch's operator where one rank has it all, and its own
// where the rows lie on several.
//
// Shapes: B rows, C channels, H and W pixels.
// Source: Ioffe and Szegedy 2015; the gradient as in torch.nn.SyncBatchNorm.

#include <ATen/TensorOperators.h>
#include <ATen/ops/batch_norm.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/full.h>
#include <ATen/ops/rsqrt.h>
#include <ATen/ops/zeros_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include "saturn/base/check.h"
#include "saturn/train/communicator.h"
#include "saturn/train/model.h"
#include "saturn/train/ops.h"

namespace saturn::train::ops {
namespace {

at::Tensor by_channel(const at::Tensor& x_C) {
  return x_C.view({1, -1, 1, 1});
}

at::Tensor sum_of_channels(const at::Tensor& x_BCHW) {
  return x_BCHW.sum({0, 2, 3}, /*keepdim=*/false, at::kDouble);
}

class GlobalBatchNorm : public torch::autograd::Function<GlobalBatchNorm> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* saved, const at::Tensor& x_BCHW,
                            const at::Tensor& weight_C, const at::Tensor& bias_C,
                            const RunningStatistics& running, const StepContext& context) {
    const std::int64_t channels = x_BCHW.size(1);
    const double counted = context.rows_count ? 1.0 : 0.0;
    const double own_count = counted * static_cast<double>(x_BCHW.numel() / channels);
    // The mean first, and the variance around it: no difference of large numbers.
    at::Tensor sums = at::cat(
        {sum_of_channels(x_BCHW) * counted, at::full({1}, own_count, x_BCHW.options().dtype(at::kDouble))});
    if (context.rows != nullptr) context.rows->sum(sums);
    const double count = sums[channels].item<double>();
    const at::Tensor mean_C = sums.narrow(0, 0, channels) / count;
    const at::Tensor centred = x_BCHW - by_channel(mean_C).to(at::kFloat);
    at::Tensor squares_C = sum_of_channels(centred * centred) * counted;
    if (context.rows != nullptr) context.rows->sum(squares_C);
    const at::Tensor variance_C = squares_C / count;
    const at::Tensor inverse_C = at::rsqrt(variance_C + running.epsilon).to(at::kFloat);

    if (count > 1.0 && !context.again) {  // one value has no variance to remember
      running.mean.lerp_(mean_C.to(at::kFloat), running.momentum);
      running.variance.lerp_((squares_C / (count - 1.0)).to(at::kFloat), running.momentum);
    }

    const at::Tensor normal = centred * by_channel(inverse_C);
    saved->save_for_backward({normal, inverse_C, weight_C});
    saved->saved_data["rows"] = reinterpret_cast<std::int64_t>(context.rows);
    saved->saved_data["count"] = count;
    saved->saved_data["rows_count"] = context.rows_count;
    return normal * by_channel(weight_C) + by_channel(bias_C);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* saved,
                                                 torch::autograd::variable_list gradients) {
    const torch::autograd::variable_list tensors = saved->get_saved_variables();
    const at::Tensor& normal = tensors[0];
    const at::Tensor& inverse_C = tensors[1];
    const at::Tensor& weight_C = tensors[2];
    auto* const rows = reinterpret_cast<Communicator*>(saved->saved_data["rows"].toInt());
    const double count = saved->saved_data["count"].toDouble();
    const at::Tensor& gradient = gradients[0];
    // The parameters' gradients stay this rank's: they are summed over the ranks as all others are.
    const at::Tensor of_bias = sum_of_channels(gradient);
    const at::Tensor of_weight = sum_of_channels(gradient * normal);
    at::Tensor sums = at::cat({of_bias, of_weight});
    if (rows != nullptr) rows->sum(sums);
    const std::int64_t channels = of_bias.size(0);
    const auto mean = [&](std::int64_t first) {
      return by_channel((sums.narrow(0, first, channels) / count).to(at::kFloat));
    };
    // Rows that do not count have no part in the statistics, and no gradient.
    const at::Tensor of_x =
        saved->saved_data["rows_count"].toBool()
            ? (gradient - mean(0) - normal * mean(channels)) * by_channel(inverse_C * weight_C)
            : at::zeros_like(gradient);
    return {of_x, of_weight.to(at::kFloat), of_bias.to(at::kFloat), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor batch_norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      const RunningStatistics& running, const StepContext& context) {
  SATURN_CHECK(x.dim() == 4, "BatchNorm is of images");
  // Statistics need fp32, whatever the layers around compute in.
  const at::Tensor wide = x.to(at::kFloat), weight_C = weight.to(at::kFloat), bias_C = bias.to(at::kFloat);
  // LibTorch's operator remembers a variance of one value, which is no number.
  const bool own = context.training && (context.rows != nullptr || x.numel() == x.size(1));
  const bool remembers = !context.again;
  const at::Tensor y = own ? GlobalBatchNorm::apply(wide, weight_C, bias_C, running, context)
                           : at::batch_norm(wide, weight_C, bias_C, remembers ? running.mean : at::Tensor(),
                                            remembers ? running.variance : at::Tensor(), context.training,
                                            running.momentum, running.epsilon,
                                            /*cudnn_enabled=*/x.is_cuda());
  return y.to(x.scalar_type());
}

}  // namespace saturn::train::ops

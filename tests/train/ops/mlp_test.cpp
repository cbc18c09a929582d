#include <ATen/Parallel.h>

#include "saturn/train/ops.h"
#include "tests/train/ops/against.h"
#include "train/ops/gelu.h"

namespace saturn::train {
namespace {

using testing::check_against;
using testing::Inputs;

TEST_SUITE("ops") {
  TEST_CASE("ops/gelu: value and slope are those of ATen over the whole range") {
    at::Tensor x = at::linspace(-30.0, 30.0, 3 * 1003).view({3, 1003});  // no multiple of any vector width
    const at::Tensor bias = at::linspace(-0.5, 0.5, 1003);
    const at::Tensor sum = (x + bias).to(at::kDouble);
    at::Tensor slope = x.clone();
    const at::Tensor y = ops::biased_gelu(slope, bias, /*keep_slope=*/true);
    CHECK((y - at::gelu(sum, "tanh")).abs().max().item<double>() < 3e-6);
    CHECK((slope - at::gelu_backward(at::ones_like(sum), sum, "tanh")).abs().max().item<double>() < 3e-6);
    const at::Tensor without = ops::biased_gelu(x, bias, /*keep_slope=*/false);
    CHECK(at::equal(without, y));
  }

  TEST_CASE("ops/gelu: what is not a number stays so") {
    at::Tensor x = at::full({1, 40}, std::numeric_limits<float>::quiet_NaN());
    const at::Tensor y = ops::biased_gelu(x, at::zeros({40}), /*keep_slope=*/true);
    CHECK(at::isnan(y).all().item<bool>());
    CHECK(at::isnan(x).all().item<bool>());
  }

  TEST_CASE("ops/gelu_mlp: matches linear then gelu then linear with all gradients") {
    at::manual_seed(1);
    for (const std::int64_t hidden : {64, 37}) {
      CAPTURE(hidden);
      const Inputs inputs = {at::randn({2, 5, 24}), at::randn({24, hidden}) * 0.3, at::randn({hidden}) * 0.3,
                             at::randn({hidden, 24}) * 0.3, at::randn({24})};
      check_against([](const Inputs& in) { return ops::gelu_mlp(in[0], in[1], in[2], in[3], in[4]); },
                    [](const Inputs& in) {
                      return at::matmul(at::gelu(at::matmul(in[0], in[1]) + in[2], "tanh"), in[3]) + in[4];
                    },
                    inputs, 3e-6);
    }
  }

  TEST_CASE("ops/gelu_mlp: works in bf16 and without gradients") {
    at::manual_seed(1);
    const Inputs wide = {at::randn({2, 5, 24}), at::randn({24, 64}) * 0.3, at::randn({64}) * 0.3,
                         at::randn({64, 24}) * 0.3, at::randn({24})};
    Inputs narrow;
    for (const at::Tensor& input : wide) narrow.push_back(input.to(at::kBFloat16));
    const auto op = [](const Inputs& in) { return ops::gelu_mlp(in[0], in[1], in[2], in[3], in[4]); };
    const testing::Outcome got = testing::outcome_of(op, narrow);
    const testing::Outcome want = testing::outcome_of(op, wide);
    CHECK(testing::relative_difference(got.value, want.value) < 0.03);
    for (std::size_t i = 0; i < wide.size(); ++i) {
      CHECK(testing::relative_difference(got.gradients[i], want.gradients[i]) < 0.05);
    }
    CHECK(at::equal(op(wide), want.value));
  }

  TEST_CASE("ops/gelu_mlp: gradients do not depend on the number of threads") {
    at::manual_seed(1);
    const Inputs inputs = {at::randn({8, 16, 32}), at::randn({32, 200}), at::randn({200}),
                           at::randn({200, 32}), at::randn({32})};
    const auto op = [](const Inputs& in) { return ops::gelu_mlp(in[0], in[1], in[2], in[3], in[4]); };
    at::set_num_threads(1);
    const at::Tensor one = testing::outcome_of(op, inputs).gradients[2];
    at::set_num_threads(2);
    CHECK(testing::relative_difference(testing::outcome_of(op, inputs).gradients[2], one) < 1e-6);
  }

  TEST_CASE("ops/linear: is an affine map over the last dimension") {
    at::manual_seed(1);
    check_against([](const Inputs& in) { return ops::linear(in[0], in[1], in[2]); },
                  [](const Inputs& in) { return at::matmul(in[0], in[1]) + in[2]; },
                  {at::randn({2, 3, 8}), at::randn({8, 12}), at::randn({12})}, 2e-6);
  }
}

}  // namespace
}  // namespace saturn::train

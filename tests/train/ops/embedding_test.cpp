#include "saturn/train/ops.h"
#include "tests/train/ops/against.h"

namespace saturn::train {
namespace {

using testing::check_against;
using testing::Inputs;

TEST_SUITE("ops") {
  TEST_CASE("ops/embed: adds token and position rows and gathers their gradients") {
    at::manual_seed(4);
    const at::Tensor tokens = at::randint(6, {3, 5}, at::kLong);  // repeats are certain
    for (const bool tied : {false, true}) {
      CAPTURE(tied);
      check_against([&](const Inputs& in) { return ops::embed(tokens, in[0], in[1], tied); },
                    [&](const Inputs& in) {
                      return at::embedding(in[0], tokens) + at::embedding(in[1], at::arange(5)).unsqueeze(0);
                    },
                    {at::randn({6, 8}), at::randn({9, 8})}, 2e-6);
    }
  }

  TEST_CASE("ops/embed: a tied table receives one dense gradient of embedding and head") {
    at::manual_seed(4);
    const at::Tensor tokens = at::randint(6, {3, 5}, at::kLong);
    const at::Tensor positions = at::randn({5, 8});
    const auto gradient_of = [&](bool tied) {
      const at::Tensor table = at::randn({6, 8}, at::TensorOptions()).fill_(0.3).set_requires_grad(true);
      const at::Tensor x = ops::embed(tokens, table, positions, tied);
      torch::autograd::backward({ops::head_cross_entropy(x, table, tokens, 0.1)}, {});
      return table.grad();
    };
    const at::Tensor gradient = gradient_of(true);
    CHECK_FALSE(gradient.is_sparse());
    CHECK(testing::relative_difference(gradient, gradient_of(false)) < 1e-6);
    CHECK(at::equal(gradient, gradient_of(true)));
  }
}

}  // namespace
}  // namespace saturn::train

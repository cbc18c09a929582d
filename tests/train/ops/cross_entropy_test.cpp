#include "saturn/train/ops.h"
#include "tests/train/ops/against.h"

namespace saturn::train {
namespace {

using testing::check_against;
using testing::Inputs;

at::Tensor reference(const at::Tensor& x, const at::Tensor& table, const at::Tensor& targets, double weight) {
  const at::Tensor logits = at::matmul(x, table.t()).flatten(0, -2);
  return at::cross_entropy_loss(logits, targets.flatten(), {}, at::Reduction::Sum) * weight;
}

TEST_SUITE("ops") {
  TEST_CASE("ops/head_cross_entropy: matches logits then cross-entropy with all gradients") {
    at::manual_seed(2);
    for (const std::int64_t vocabulary : {5, 64, 1003}) {
      for (const double size : {0.1, 10.0}) {
        CAPTURE(vocabulary);
        CAPTURE(size);
        const at::Tensor targets = at::randint(vocabulary, {3, 7}, at::kLong);
        check_against([&](const Inputs& in) { return ops::head_cross_entropy(in[0], in[1], targets, 0.25); },
                      [&](const Inputs& in) { return reference(in[0], in[1], targets, 0.25); },
                      {at::randn({3, 7, 16}) * size, at::randn({vocabulary, 16})}, 5e-6);
      }
    }
  }

  TEST_CASE("ops/head_cross_entropy: a bias moves the logits and has its gradient") {
    at::manual_seed(2);
    const at::Tensor targets = at::randint(31, {2, 5}, at::kLong);
    check_against(
        [&](const Inputs& in) { return ops::head_cross_entropy(in[0], in[1], targets, 0.25, {}, in[2]); },
        [&](const Inputs& in) {
          const at::Tensor logits = (at::matmul(in[0], in[1].t()) + in[2]).flatten(0, -2);
          return at::cross_entropy_loss(logits, targets.flatten(), {}, at::Reduction::Sum) * 0.25;
        },
        {at::randn({2, 5, 16}), at::randn({31, 16}), at::randn({31}) * 3.0}, 5e-6);
  }

  TEST_CASE("ops/head_cross_entropy: a large vocabulary is taken in pieces") {
    at::manual_seed(2);
    const std::int64_t vocabulary = 300000;  // 80 rows of 1.2 MB are 64 at a time and the rest
    const at::Tensor targets = at::randint(vocabulary, {1, 90}, at::kLong);
    check_against([&](const Inputs& in) { return ops::head_cross_entropy(in[0], in[1], targets, 1.0 / 90); },
                  [&](const Inputs& in) { return reference(in[0], in[1], targets, 1.0 / 90); },
                  {at::randn({1, 90, 4}), at::randn({vocabulary, 4})}, 1e-5);
  }

  TEST_CASE("ops/head_cross_entropy: without gradients gives the same loss") {
    at::manual_seed(2);
    const at::Tensor x = at::randn({2, 6, 16});
    const at::Tensor table = at::randn({50, 16});
    const at::Tensor targets = at::randint(50, {2, 6}, at::kLong);
    const at::Tensor leaf = x.clone().set_requires_grad(true);
    const at::Tensor trained = ops::head_cross_entropy(leaf, table, targets, 0.5);
    CHECK(trained.requires_grad());
    CHECK(ops::head_cross_entropy(x, table, targets, 0.5).item<float>() == trained.item<float>());
  }

  TEST_CASE("ops/head_cross_entropy: works in bf16") {
    at::manual_seed(2);
    const at::Tensor targets = at::randint(100, {3, 7}, at::kLong);
    const Inputs wide = {at::randn({3, 7, 16}), at::randn({100, 16})};
    const Inputs narrow = {wide[0].to(at::kBFloat16), wide[1].to(at::kBFloat16)};
    const auto op = [&](const Inputs& in) { return ops::head_cross_entropy(in[0], in[1], targets, 0.1); };
    const testing::Outcome got = testing::outcome_of(op, narrow);
    const testing::Outcome want = testing::outcome_of(op, wide);
    CHECK((got.value.scalar_type() == at::kFloat));
    CHECK(testing::relative_difference(got.value, want.value) < 0.01);
    for (std::size_t i = 0; i < 2; ++i) {
      CHECK(testing::relative_difference(got.gradients[i], want.gradients[i]) < 0.03);
    }
  }

  TEST_CASE("ops/head_cross_entropy: a target outside the vocabulary is refused") {
    const at::Tensor x = at::randn({1, 2, 4});
    const at::Tensor table = at::randn({10, 4});
    CHECK_THROWS_AS(ops::head_cross_entropy(x, table, at::tensor({3, 10}, at::kLong).view({1, 2}), 1.0),
                    c10::IndexError);
    CHECK_THROWS_AS(ops::head_cross_entropy(x, table, at::tensor({-1, 3}, at::kLong).view({1, 2}), 1.0),
                    c10::IndexError);
  }

  TEST_CASE("ops/head_cross_entropy: what is not a number reaches the loss") {
    const at::Tensor x = at::full({1, 2, 4}, std::numeric_limits<float>::quiet_NaN());
    const at::Tensor loss = ops::head_cross_entropy(x, at::randn({10, 4}), at::zeros({1, 2}, at::kLong), 1.0);
    CHECK(std::isnan(loss.item<float>()));
  }
}

}  // namespace
}  // namespace saturn::train

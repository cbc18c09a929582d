#include "saturn/train/ops.h"
#include "tests/train/ops/against.h"

namespace saturn::train {
namespace {

TEST_SUITE("ops") {
  TEST_CASE("ops/dropout: drops its share and keeps the mean") {
    const at::Tensor x = at::ones({4, 100, 250});
    const at::Tensor y = ops::dropout(x, {.probability = 0.3, .key = ops::dropout_key(1, 2, "h.0")});
    CHECK((y == 0).to(at::kDouble).mean().item<double>() == doctest::Approx(0.3).epsilon(0.01));
    CHECK(y.mean().item<double>() == doctest::Approx(1.0).epsilon(0.01));
  }

  TEST_CASE("ops/dropout: a row's mask follows its place in the global batch and nothing else") {
    const std::uint64_t key = ops::dropout_key(1, 2, "h.0");
    const at::Tensor whole =
        ops::dropout(at::ones({6, 3, 7}), {.probability = 0.5, .key = key, .first_row = 0});
    const at::Tensor part =
        ops::dropout(at::ones({2, 3, 7}), {.probability = 0.5, .key = key, .first_row = 3});
    CHECK(at::equal(whole.narrow(0, 3, 2), part));
    CHECK_FALSE(at::equal(whole[0], whole[1]));
    for (const std::uint64_t other :
         {ops::dropout_key(2, 2, "h.0"), ops::dropout_key(1, 3, "h.0"), ops::dropout_key(1, 2, "h.1")}) {
      CHECK_FALSE(at::equal(whole, ops::dropout(at::ones({6, 3, 7}), {.probability = 0.5, .key = other})));
    }
  }

  TEST_CASE("ops/dropout: a part of a row draws what the whole row draws there") {
    const at::Tensor whole = ops::dropout(at::ones({2, 20001}), {.probability = 0.5, .key = 3});
    for (const std::int64_t first : {0, 1, 8, 8191, 9000}) {
      CAPTURE(first);
      const ops::DropoutSite site{.probability = 0.5, .key = 3, .first_element = first};
      const at::Tensor want = whole.narrow(1, first, 11001);
      CHECK(at::equal(ops::dropout(at::ones({2, 11001}), site), want));
      CHECK(at::equal(ops::dropout(at::ones({2, 11001}, at::kDouble), site).to(at::kFloat), want));
    }
  }

  TEST_CASE("ops/dropout: the gradient passes through the same mask") {
    at::manual_seed(5);
    const ops::DropoutSite site{.probability = 0.25, .key = 9, .first_row = 1, .first_element = 5};
    const at::Tensor mask = ops::dropout(at::ones({3, 5, 11}), site);
    testing::check_against([&](const testing::Inputs& in) { return ops::dropout(in[0], site); },
                           [&](const testing::Inputs& in) { return in[0] * mask; }, {at::randn({3, 5, 11})},
                           1e-7);
  }

  TEST_CASE("ops/dropout: the kernel and the operators for other devices draw one mask") {
    const ops::DropoutSite site{.probability = 0.3, .key = 77, .first_row = 4};
    const at::Tensor by_kernel = ops::dropout(at::ones({3, 5, 7}), site);
    const at::Tensor by_operators =
        ops::dropout(at::ones({3, 5, 7}, at::kDouble), site);  // no kernel for fp64
    CHECK(at::equal(by_kernel, by_operators.to(at::kFloat)));
    const at::Tensor narrow = ops::dropout(at::ones({3, 5, 7}, at::kBFloat16), site);
    CHECK(at::equal(narrow != 0, by_kernel != 0));
  }

  TEST_CASE("ops/dropout: probability zero is the tensor itself") {
    const at::Tensor x = at::randn({2, 3});
    CHECK(ops::dropout(x, {}).is_same(x));
  }
}

}  // namespace
}  // namespace saturn::train

#include "saturn/train/ops.h"
#include "tests/train/ops/against.h"

namespace saturn::train {
namespace {

using testing::check_against;
using testing::Inputs;

/// Heads, scores, mask and softmax, step by step; `mask` multiplies the probabilities.
at::Tensor reference(const at::Tensor& qkv, std::int64_t heads, double scale, const at::Tensor& mask) {
  const std::int64_t rows = qkv.size(0);
  const std::int64_t tokens = qkv.size(1);
  const std::vector<at::Tensor> parts = qkv.chunk(3, 2);
  const auto split = [&](const at::Tensor& part) {
    return part.reshape({rows, tokens, heads, -1}).transpose(1, 2);
  };
  at::Tensor scores = at::matmul(split(parts[0]), split(parts[1]).transpose(2, 3)) * scale;
  scores = scores.masked_fill(at::ones({tokens, tokens}, at::kBool).triu(1), -INFINITY);
  at::Tensor probabilities = at::softmax(scores, -1);
  if (mask.defined()) probabilities = probabilities * mask;
  return at::matmul(probabilities, split(parts[2])).transpose(1, 2).reshape({rows, tokens, -1});
}

TEST_SUITE("ops") {
  TEST_CASE("ops/causal_attention: matches attention written out with its gradient") {
    at::manual_seed(3);
    struct Row {
      std::int64_t rows, tokens, heads, head_width;
    };
    for (const Row& row :
         {Row{2, 16, 4, 16}, Row{1, 1, 1, 8}, Row{3, 37, 2, 5}, Row{1, 130, 2, 64}, Row{1, 67, 1, 80}}) {
      CAPTURE(row.tokens);
      CAPTURE(row.head_width);
      const at::Tensor qkv = at::randn({row.rows, row.tokens, 3 * row.heads * row.head_width});
      check_against([&](const Inputs& in) { return ops::causal_attention(in[0], row.heads, 0.3, {}); },
                    [&](const Inputs& in) { return reference(in[0], row.heads, 0.3, {}); }, {qkv}, 5e-6);
    }
  }

  TEST_CASE("ops/causal_attention: works in bf16") {
    at::manual_seed(3);
    const at::Tensor qkv = at::randn({2, 16, 96});
    const auto op = [](const Inputs& in) { return ops::causal_attention(in[0], 4, 0.3, {}); };
    const testing::Outcome got = testing::outcome_of(op, {qkv.to(at::kBFloat16)});
    const testing::Outcome want = testing::outcome_of(op, {qkv});
    CHECK(testing::relative_difference(got.value, want.value) < 0.02);
    CHECK(testing::relative_difference(got.gradients[0], want.gradients[0]) < 0.05);
  }

  TEST_CASE("ops/causal_attention: later tokens change nothing before them") {
    at::manual_seed(3);
    const at::Tensor qkv = at::randn({1, 20, 24});
    at::Tensor changed = qkv.clone();
    changed.narrow(1, 12, 8).fill_(5.0);
    const at::Tensor before = ops::causal_attention(qkv, 2, 0.5, {}).narrow(1, 0, 12);
    CHECK(at::allclose(before, ops::causal_attention(changed, 2, 0.5, {}).narrow(1, 0, 12), 1e-6, 1e-7));
  }

  TEST_CASE("ops/causal_attention: dropout falls on the probabilities") {
    at::manual_seed(3);
    const ops::DropoutSite site{.probability = 0.4, .key = 11, .first_row = 5};
    const at::Tensor mask = ops::dropout(at::ones({2, 3, 9, 9}), site);
    check_against([&](const Inputs& in) { return ops::causal_attention(in[0], 3, 0.3, site); },
                  [&](const Inputs& in) { return reference(in[0], 3, 0.3, mask); }, {at::randn({2, 9, 36})},
                  5e-6);
  }
}

}  // namespace
}  // namespace saturn::train

// Compares an operator with the same thing written in plain ATen: values and gradients of every input.

#pragma once

#include <torch/csrc/autograd/autograd.h>

#include <functional>
#include <vector>

#include "tests/support/torch_doctest.h"

namespace saturn::testing {

using Inputs = std::vector<at::Tensor>;
using Operator = std::function<at::Tensor(const Inputs&)>;

/// The largest difference, over the largest magnitude of `want`.
inline double relative_difference(const at::Tensor& got, const at::Tensor& want) {
  const at::Tensor wide = want.to(at::kDouble);
  const double magnitude = std::max(wide.abs().max().item<double>(), 1e-30);
  return (got.to_dense().to(at::kDouble) - wide).abs().max().item<double>() / magnitude;
}

struct Outcome {
  at::Tensor value;
  Inputs gradients;
};

/// Value and gradients under a fixed random weighting of the outputs.
inline Outcome outcome_of(const Operator& op, const Inputs& inputs) {
  Inputs leaves;
  for (const at::Tensor& input : inputs) leaves.push_back(input.clone().set_requires_grad(true));
  const at::Tensor value = op(leaves);
  at::manual_seed(7);
  const at::Tensor weighting = at::randn(value.sizes(), at::kFloat).to(value.scalar_type());
  return {value.detach(), torch::autograd::grad({(value * weighting).sum()}, leaves)};
}

/// Each value and gradient of `op` within `tolerance` of `reference`'s, which sees the same inputs in fp64.
inline void check_against(const Operator& op, const Operator& reference, const Inputs& inputs,
                          double tolerance) {
  const Outcome got = outcome_of(op, inputs);
  Inputs exact;
  for (const at::Tensor& input : inputs) exact.push_back(input.to(at::kDouble));
  const Outcome want = outcome_of(reference, exact);
  REQUIRE(got.value.sizes() == want.value.sizes());
  CHECK(relative_difference(got.value, want.value) <= tolerance);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    CAPTURE(i);
    REQUIRE(got.gradients[i].sizes() == want.gradients[i].sizes());
    CHECK(relative_difference(got.gradients[i], want.gradients[i]) <= tolerance);
  }
}

}  // namespace saturn::testing

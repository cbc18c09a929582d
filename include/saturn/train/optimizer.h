// The optimiser's step over any list of tensors: whole parameters, or the parts that a rank holds.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "saturn/batch/batch.h"

namespace saturn::train {

/// One tensor that the optimiser changes, in fp32.
struct OptimizedTensor {
  at::Tensor weight;
  bool decays = true;
  std::vector<at::Tensor> state =
      {};  ///< to be used, in the order of `Optimizer::roles`; empty: made of zeros
};

/// A tensor of the optimiser's own per weight, of the weight's shape.
struct OptimizerState {
  std::string role;  ///< as PyTorch names it: "exp_avg", "exp_avg_sq", "momentum_buffer"
  std::vector<at::Tensor> tensors;
};

/// AdamW and SGD by LibTorch's fused operators, as torch.optim has them; Lion as published.
class Optimizer {
 public:
  Optimizer(const batch::Optimizer& settings, const std::vector<OptimizedTensor>& tensors);

  /// Of the state that it keeps for each weight.
  static std::vector<std::string> roles(const batch::Optimizer& settings);

  /// One update. Gradients are multiplied by `gradient_scale` first (clipping); they may be changed.
  /// `step` counts from 0 and corrects the bias of the moments: nothing else needs to be remembered.
  void step(const std::vector<at::Tensor>& gradients, std::int64_t step, double learning_rate,
            double gradient_scale);

  const std::vector<OptimizerState>& state() const { return state_; }

 private:
  /// Tensors that share one call of the fused operator.
  struct Group {
    double weight_decay = 0.0;
    std::vector<std::size_t> indices;  ///< into the constructor's list
    std::vector<at::Tensor> weights, first_moments, second_moments, steps;
  };

  batch::Optimizer settings_;
  std::vector<OptimizerState> state_;
  std::vector<Group> groups_;
  at::Tensor step_;   ///< what the fused operator reads as the count of steps, this one included
  at::Tensor scale_;  ///< what it divides gradients by
};

/// Norm of all elements of `tensors` together, accumulated in fp64.
double global_norm(const std::vector<at::Tensor>& tensors);

/// What gradients of norm `norm` are multiplied by: 1 where `clip_norm` is 0 or not exceeded.
double clip_scale(double norm, double clip_norm);

}  // namespace saturn::train

// A whole copy of the layers on every rank of `data`, whose gradients are summed while backward runs.

#pragma once

#include <memory>
#include <vector>

#include "saturn/train/placement.h"

namespace saturn::train {

class GradientReducer;

/// Weights live in fp32 leaves; with bf16 the layers compute on copies that autograd makes of them each step,
/// so gradients arrive, add up and are reduced in fp32. Among one rank nothing is reduced.
class WholePlacement final : public Placement {
 public:
  explicit WholePlacement(PlacementContext context);
  ~WholePlacement() override;

  Result<void> place(WeightSource& source) override;
  void begin_step() override;
  void begin_evaluation() override;
  at::Tensor forward(std::size_t layer, const at::Tensor& input, const StepContext& context) override;
  at::Tensor loss(const at::Tensor& input, const at::Tensor& targets, const StepContext& context) override;
  void expect_last_backward() override;
  void finish_gradients() override;
  bool holds_all() const override;

 private:
  void refresh_compute_copies();

  bool computes_in_bf16_;
  std::vector<at::Tensor> leaves_;            ///< as parameters()
  std::unique_ptr<GradientReducer> reducer_;  ///< among several ranks
};

}  // namespace saturn::train

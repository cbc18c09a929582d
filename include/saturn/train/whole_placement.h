// A whole copy of the layers on every rank of `data`, whose gradients are summed while backward runs.

#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "saturn/train/placement.h"

namespace saturn::train {

class GradientReducer;
class ShardExchange;
struct FlatLayout;

/// How several ranks with whole copies share the work beyond the batch.
struct SharedWork {
  bool compress_gradients = false;  ///< gradients travel in bf16
  /// Each rank keeps the optimiser's state of its share of the weights, updates that, and sends it to the
  /// others.
  bool shard_optimizer = false;
};

/// Weights live in fp32 leaves; with bf16 the layers compute on copies that autograd makes of them each step,
/// so gradients arrive, add up and are reduced in fp32. Among one rank nothing is reduced.
class WholePlacement final : public Placement {
 public:
  explicit WholePlacement(PlacementContext context, SharedWork shared = {});
  ~WholePlacement() override;

  Result<void> place(WeightSource& source) override;
  void begin_step() override;
  void begin_evaluation() override;
  at::Tensor forward(std::size_t layer, const at::Tensor& input, const StepContext& context) override;
  at::Tensor loss(const at::Tensor& input, const at::Tensor& targets, const StepContext& context) override;
  void expect_last_backward() override;
  void finish_gradients() override;
  void weights_changed() override;
  bool holds_all() const override;
  CommunicationTimes communication() const override;

 private:
  Result<void> place_leaves(WeightSource& source);
  void refresh_compute_copies();

  SharedWork shared_;
  bool computes_in_bf16_;
  std::vector<at::Tensor> leaves_;            ///< as parameters()
  std::unique_ptr<GradientReducer> reducer_;  ///< among several ranks

  // With a sharded optimiser: all leaves that train in one buffer, of which held() has this rank's shard.
  std::unique_ptr<FlatLayout> layout_;
  at::Tensor flat_;
  std::vector<std::size_t> leaf_of_held_;    ///< where it trains
  std::vector<std::int64_t> first_of_held_;  ///< element of that leaf
  std::unique_ptr<ShardExchange> exchange_;
};

}  // namespace saturn::train

// Weights, gradients and optimiser state in shards over the ranks of `data`; a layer's weights are whole only
// while it runs.

#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "saturn/train/placement.h"

namespace saturn::train {

class ShardExchange;

/// One flat buffer a unit, dealt to the ranks in equal shards. A unit is a layer; layers that share a weight
/// (a tied head and its embedding) are one unit, and a weight that another stage of a pipeline has too is one
/// by itself, so that both stages hold the same ranges of it. Forward and backward of a layer gather its unit
/// while the layer before it still computes, and let go of it behind; the gradient of a unit is summed and
/// scattered as soon as backward has been through all its layers. So at most two blocks' weights and two
/// blocks' gradients are whole at a time, beside a unit of several layers, which stays from its first layer
/// to its last.
///
/// Masters, gradients and sums are fp32; with bf16 the layers compute on, and the ranks gather, bf16 copies.
/// Among one rank nothing is sent.
class ShardedPlacement final : public Placement {
 public:
  /// `reshard_after_forward`: backward gathers again what forward let go of (less memory); otherwise weights
  /// stay whole from a step's first use to its last (less traffic).
  ShardedPlacement(PlacementContext context, bool reshard_after_forward);
  ~ShardedPlacement() override;

  Result<void> place(WeightSource& source) override;
  void begin_step() override;
  void begin_evaluation() override;
  at::Tensor forward(std::size_t layer, const at::Tensor& input, const StepContext& context) override;
  at::Tensor loss(const at::Tensor& input, const at::Tensor& targets, const StepContext& context) override;
  void expect_last_backward() override;
  void finish_gradients() override;
  void weights_changed() override;
  CommunicationTimes communication() const override;

 private:
  struct Unit;
  class LayerNode;

  void add_unit(std::vector<ParameterPtr> members, const std::vector<std::size_t>& layers);
  const std::vector<Unit*>& units_of(std::size_t layer) const;
  /// Of the layer before (-1) or behind (1) `layer`.
  void begin_gathering_neighbour(std::size_t layer, int direction);
  void begin_gathering(Unit& unit);
  void gather(Unit& unit);
  void let_go(Unit& unit);
  at::Tensor run(std::size_t layer, const at::Tensor& input, RunOfInput body);
  void before_backward(std::size_t layer);
  void after_backward(std::size_t layer, std::vector<at::Tensor> gradients);
  void begin_gradient(Unit& unit);
  void add_gradient(std::size_t layer, const ParameterPtr& parameter, const at::Tensor& gradient);
  void reduce(Unit& unit);
  void wait_for_reductions(std::size_t leave);

  bool reshard_after_forward_;
  bool is_last_backward_ = false;
  std::unique_ptr<ShardExchange> exchange_;  ///< among several ranks
  std::vector<std::unique_ptr<Unit>> units_;
  std::vector<std::vector<Unit*>> units_of_layer_;  ///< by layer - first_layer
  std::size_t most_units_of_layer_ = 1;
  std::deque<Unit*> reducing_;
};

}  // namespace saturn::train

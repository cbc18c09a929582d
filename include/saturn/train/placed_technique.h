// What techniques that hold their parameters by a Placement share: the order of a step, the norm over all
// ranks, the update, state for checkpoints, and whole weights at the end.

#pragma once

#include <memory>
#include <optional>

#include "saturn/base/result.h"
#include "saturn/batch/model_spec.h"
#include "saturn/train/optimizer.h"
#include "saturn/train/placement.h"
#include "saturn/train/technique.h"

namespace saturn::train {

/// A micro-batch's place in the training: `num_targets` and `step` are the global batch's.
StepContext training_context(const batch::Job& job, const MicroBatches& batches, const MicroBatch& batch,
                             const TensorGroup* tensor = nullptr);

/// Forward and backward of one micro-batch through all layers; gradients add up. Returns the summed loss,
/// fp64, still on the device (zero where the rows do not count).
at::Tensor accumulate(Placement& placement, const Model& model, const MicroBatch& batch,
                      const StepContext& context, std::int64_t num_targets, c10::Device device);

/// Whether the layers of `model` can be split over `num_ranks` ranks.
///
/// Errors: Kind::input: no parameter of the model is split, there are too few heads or rows, or heads would
/// be cut.
Result<void> check_splits(const Model& model, const batch::ModelSpec& spec, int num_ranks);

/// After Placement::finish_gradients, once a step: each rank of a tensor group has seen its share of the
/// sequence, so what all of them hold whole has a part of its gradient on each. One exchange.
void sum_shared_gradients(const Placement& placement, const TensorGroup& group);

/// The optimiser over what a placement holds.
class HeldOptimizer {
 public:
  HeldOptimizer(const batch::Optimizer& settings, Placement& placement);

  /// Clips by the norm of the gradients of all ranks of `world` and updates, unless the norm is not finite.
  /// A collective. `stats.loss_sum` is `loss_sum`.
  StepStats update(std::int64_t step, double learning_rate, double loss_sum, Communicator& world);

  const Optimizer& optimizer() const { return optimizer_; }

 private:
  batch::Optimizer settings_;
  Placement& placement_;
  Optimizer optimizer_;
};

/// By default every rank runs the whole model over its micro-batches, one after the other: a technique then
/// only says how it holds the parameters. A pipeline replaces `step` and `evaluate` too.
class PlacedTechnique : public Technique {
 public:
  using Technique::Technique;

  Result<void> prepare(WeightSource& source) override;
  Result<StepStats> step(const MicroBatches& batches, double learning_rate) override;
  Result<EvaluationSums> evaluate(const MicroBatches& batches) override;
  Result<void> for_each_state(const StateVisitor& visit) override;
  void state_loaded() override;
  at::Tensor gather_weight(std::size_t index) override;
  /// Of a step on average: "communication_s", and "communication_exposed_s", the part of it in which this
  /// rank computed nothing meanwhile. Nothing where nothing is sent.
  std::map<std::string, double> measured() const override;

 protected:
  /// Called by `prepare`, once. Errors: Kind::input for knobs that cannot be.
  virtual Result<std::unique_ptr<Placement>> make_placement() = 0;

  /// Of all layers, with the knobs that every technique has: over all ranks, or over those of `data` that
  /// hold the same slice.
  Result<PlacementContext> whole_model_context();
  Result<PlacementContext> whole_model_context(Communicator& data, TensorSlice slice);

  /// The ranks that split each layer; all of them see the same rows, which count on the first.
  virtual TensorGroup* tensor_group() { return nullptr; }

  /// As Technique::micro_batches_of, with rows that do not count added where another rank has more
  /// micro-batches: for placements whose forward and backward are collectives.
  std::vector<RowRange> equally_many_micro_batches_of(std::int64_t num_rows) const;

  Placement& placement() { return *placement_; }
  HeldOptimizer& optimizer() { return *optimizer_; }

 private:
  /// Fills the model's buffers, which every rank has whole, and makes the group that BatchNorm sums over.
  Result<void> place_buffers(WeightSource& source);

  std::unique_ptr<Communicator> rows_;  ///< null where no layer takes statistics over the batch
  std::unique_ptr<Placement> placement_;
  std::optional<HeldOptimizer> optimizer_;
  std::int64_t num_steps_ = 0;
};

}  // namespace saturn::train

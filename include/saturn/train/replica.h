// A whole copy of a model on one device with its optimiser: what single and ddp are made of.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "saturn/base/result.h"
#include "saturn/train/optimizer.h"
#include "saturn/train/technique.h"

namespace saturn::train {

/// Weights live in fp32 leaves; with bf16 the layers compute on copies that autograd makes of them each step,
/// so gradients arrive, add up and are reduced in fp32.
class Replica {
 public:
  Replica(Model& model, const batch::Job& job, c10::Device device);

  /// Allocates every parameter and fills it from `source`; the optimiser starts at zero.
  Result<void> place(WeightSource& source);

  /// The fp32 leaves, in the order of Model::parameters().
  const std::vector<at::Tensor>& leaves() const { return leaves_; }

  /// Forgets the gradients of the last step, and with bf16 makes this step's copies.
  void begin_step();

  /// Forward and backward of one micro-batch; gradients add up. Returns the summed loss, still on the device
  /// (zero where the rows do not count). `num_targets` is that of the global batch.
  at::Tensor accumulate(const MicroBatch& batch, std::int64_t step, std::int64_t num_targets);

  /// Clips by the norm of all gradients and updates, unless the norm is not finite. `stats.loss_sum` stays as
  /// it is.
  StepStats update(std::int64_t step, double learning_rate, double loss_sum);

  EvaluationSums evaluate(const MicroBatches& batches);
  Result<void> for_each_state(const StateVisitor& visit, bool primary);
  at::Tensor weight(std::size_t index) const;  ///< as Technique::gather_weight

 private:
  void refresh_compute_copies();

  Model& model_;
  const batch::Job& job_;
  c10::Device device_;
  bool computes_in_bf16_;
  std::vector<ParameterPtr> parameters_;
  std::vector<at::Tensor> leaves_;
  std::optional<Optimizer> optimizer_;
};

}  // namespace saturn::train

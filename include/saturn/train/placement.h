// How a rank holds the parameters of its layers: whole, in shards, or streamed from a slower tier. A
// technique is a placement and an order in which micro-batches run through the layers; the model knows
// neither.
//
// One step, as a technique drives it (train/placed_technique.h does, for those that run the whole model):
//
//     begin_step()                       gradients are forgotten
//     for each micro-batch:
//       expect_last_backward()           before the backward passes that complete the step's gradients
//       forward() ... forward() loss()   one layer after the other, each as this placement does it
//       torch::autograd::backward        through what those returned
//     finish_gradients()                 every HeldTensor::gradient is that of the whole step, summed over
//     `data` Optimizer::step on held()          by the norm over the whole model weights_changed() whatever
//     was derived from the weights is made anew

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "saturn/base/result.h"
#include "saturn/train/communicator.h"
#include "saturn/train/model.h"
#include "saturn/train/recompute.h"
#include "saturn/train/tensor_group.h"

namespace saturn::batch {
struct Job;
}

namespace saturn::train {

/// A box of a whole parameter and where its elements lie in the tensor that a rank holds.
struct Box {
  std::vector<std::int64_t> offsets;  ///< in the whole parameter
  std::vector<std::int64_t> sizes;
  std::vector<std::int64_t> strides;  ///< in the held tensor, of elements
  std::int64_t first = 0;             ///< element of the held tensor that is the box's first

  /// The box in `held`: a view. `held` is contiguous and as large as the tensor the box was made for.
  at::Tensor of(const at::Tensor& held) const;
};

/// What of a parameter a rank holds: a contiguous tensor of `sizes`, made up of boxes that do not overlap.
/// A slice whose rows are interleaved (queries, keys and values side by side) is several.
struct Part {
  std::vector<std::int64_t> sizes;
  std::vector<Box> boxes;

  std::int64_t num_elements() const;
};

/// The whole of `parameter`.
Part whole_part(const Parameter& parameter);

/// What a rank of a tensor group holds of `parameter`, as Parameter::split says: the slices of its blocks
/// side by side.
Part slice_part(const Parameter& parameter, TensorSlice slice);

/// Elements [first, first + count) of `part`, counted row-major: a one-dimensional tensor.
Part range_of(const Part& part, std::int64_t first, std::int64_t count);

/// Fills `held`, of the part's sizes, in fp32 on the CPU.
Result<void> read_part(WeightSource& source, const Parameter& parameter, const Part& part, at::Tensor held);

/// One part of one parameter as this rank holds and updates it.
struct HeldTensor {
  ParameterPtr parameter;
  Part part;
  at::Tensor weight;    ///< the live master, fp32, of the part's sizes
  at::Tensor gradient;  ///< where it trains: defined and complete from finish_gradients() to begin_step()
  bool primary =
      true;  ///< of the ranks that hold these elements, this one counts them in norms and saves them
};

/// Seconds that this rank's transfers took, and of those the ones in which it computed nothing meanwhile.
struct CommunicationTimes {
  double all_s = 0.0;
  double exposed_s = 0.0;
};

struct PlacementContext {
  Model& model;
  const batch::Job& job;
  Communicator&
      data;  ///< the ranks that hold the same layers: gradients are summed, or shards dealt, over them
  c10::Device device{c10::kCPU};
  std::size_t first_layer = 0;  ///< this rank's layers (a pipeline stage's): [first_layer, end_layer)
  std::size_t end_layer = 0;
  Checkpointing checkpointing = Checkpointing::none;
  TensorSlice tensor = {};  ///< of the split parameters; the whole by default
};

/// All calls are made alike by every rank of `data`: each may be a collective.
class Placement {
 public:
  explicit Placement(PlacementContext context);
  virtual ~Placement() = default;
  Placement(const Placement&) = delete;
  Placement& operator=(const Placement&) = delete;

  /// Allocates what this rank holds and fills it from `source`. Once, before anything else.
  virtual Result<void> place(WeightSource& source) = 0;

  virtual void begin_step() = 0;
  /// Instead of begin_step() before forwards that only evaluate, under at::NoGradGuard.
  virtual void begin_evaluation() {}

  /// Output of layer `layer` (an index into Model::layers, of this rank's). Where gradients are asked for,
  /// the result carries the graph for one backward pass.
  virtual at::Tensor forward(std::size_t layer, const at::Tensor& input, const StepContext& context) = 0;

  /// Head::loss in the same way, where the last layer is this rank's.
  virtual at::Tensor loss(const at::Tensor& input, const at::Tensor& targets, const StepContext& context) = 0;

  /// The next backward pass of each layer is the step's last: sums over `data` may start as it goes.
  virtual void expect_last_backward() {}

  virtual void finish_gradients() = 0;

  /// The masters have new values: after an update, and after a checkpoint was read into them.
  virtual void weights_changed() {}

  /// In an order that is the same in every run of the configuration. Valid from place() on.
  const std::vector<HeldTensor>& held() const { return held_; }

  /// Since place(), of exchanges of weights and gradients.
  virtual CommunicationTimes communication() const { return {}; }

  /// Another rank that holds `parameter` too counts and saves it: no tensor of it here is primary. Once,
  /// after place().
  void leave_primary(const ParameterPtr& parameter);

  c10::Device device() const { return context_.device; }

  /// True where held() is Model::parameters(), each whole, on every rank of the job: norms and the weights at
  /// the end then need no collective.
  virtual bool holds_all() const { return false; }

 protected:
  /// Every parameter of this rank's layers once, in the order of first use.
  const std::vector<ParameterPtr>& parameters() const { return parameters_; }
  Layer& layer(std::size_t index) const { return *context_.model.layers[index]; }

  /// What of `parameter` the ranks of `data` hold together, each whole or a shard of it.
  Part part_of(const Parameter& parameter) const { return slice_part(parameter, context_.tensor); }

  /// Whether this rank's slice counts in norms and checkpoints: what every rank of a tensor group holds does
  /// on the first.
  bool is_primary_slice(const Parameter& parameter) const {
    return parameter.split.dimension >= 0 || context_.tensor.rank == 0;
  }

  PlacementContext context_;
  std::vector<HeldTensor> held_;

 private:
  std::vector<ParameterPtr> parameters_;
};

}  // namespace saturn::train

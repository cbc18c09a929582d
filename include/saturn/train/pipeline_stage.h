// One stage of a pipeline at work: its operation list carried out over a placement and the stages' group.
//
// Shapes: what passes between stages keeps the rows of its micro-batch in its first dimension.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <vector>

#include "saturn/batch/pipeline_balance.h"
#include "saturn/batch/pipeline_schedule.h"
#include "saturn/data/micro_batch.h"
#include "saturn/train/communicator.h"
#include "saturn/train/placement.h"
#include "saturn/train/point_to_point.h"
#include "saturn/train/technique.h"

namespace saturn::train {

/// A forward or backward pass as it was carried out. The clock is CLOCK_MONOTONIC, one for all processes.
struct TimedOperation {
  batch::PipelineOperation::Kind kind = batch::PipelineOperation::Kind::forward;
  int micro_batch = 0;
  double start_s = 0.0;
  double end_s = 0.0;
};

/// The layers [layers.first, layers.end) of a model, as rank `stages.rank()` of `stages`. One rank is a
/// pipeline too, without messages.
class PipelineStage {
 public:
  PipelineStage(Placement& placement, const Model& model, Communicator& stages, batch::LayerRange layers);

  using ContextOf = std::function<StepContext(const MicroBatch&)>;

  /// Forward and backward of every micro-batch, between begin_step() and finish_gradients() of the placement.
  /// Every stage is given the same micro-batches. Returns the sum of the losses as Head::loss weights them,
  /// in fp64 on the device; zero where the head is another stage's. A collective of the stages.
  at::Tensor accumulate(const MicroBatches& batches, const ContextOf& context_of, batch::PipelineOrder order);

  /// Loss and targets of the micro-batches that count, on the last stage; zero elsewhere. A collective of the
  /// stages, under at::NoGradGuard.
  EvaluationSums evaluate(const MicroBatches& batches, const ContextOf& context_of);

  /// Adds up the gradients of the parameters that several stages hold, the same to the bit on each, after
  /// finish_gradients(). A collective of the stages.
  void sum_shared_gradients();

  bool is_first() const { return stages_.rank() == 0; }
  bool is_last() const { return stages_.rank() == stages_.num_ranks() - 1; }

  /// Of the last `accumulate`.
  const std::vector<TimedOperation>& timeline() const { return timeline_; }

  /// Which stages hold parameters that others hold too; filled in by what knows all cuts.
  struct Shared {
    ParameterPtr parameter;
    std::vector<int> stages;  ///< ascending, this one among them
  };
  void set_shared(std::vector<Shared> shared) { shared_ = std::move(shared); }

 private:
  /// One micro-batch between its first and its last operation here.
  struct Passage {
    at::Tensor input;     ///< received; requires a gradient
    at::Tensor output;    ///< or the loss
    at::Tensor gradient;  ///< of the output, received; then of the input, to be sent
    PostedMessage receiving_input, receiving_gradient, sending_output, sending_gradient;
  };

  void forward(const MicroBatch& batch, Passage& passage, const StepContext& context);
  void backward(Passage& passage, bool last);
  at::Tensor run_layers(const MicroBatch& batch, const at::Tensor& input, const StepContext& context);

  void exchange(const std::vector<batch::PipelineTransfer>& transfers, const MicroBatches& batches,
                std::vector<Passage>& passages);
  /// The message of `transfer`, its tensor made or allocated.
  Message message_of(const batch::PipelineTransfer& transfer, const MicroBatches& batches, Passage& passage);
  static PostedMessage& place_of(const batch::PipelineTransfer& transfer, Passage& passage);
  /// Receives that the next exchange asks for, ahead of it, so that they arrive while this rank computes.
  void post_early(const std::vector<batch::PipelineTransfer>& transfers, const MicroBatches& batches,
                  std::vector<Passage>& passages);
  /// The shape of what the stage before sends, and telling it to the stage after: once.
  void learn_input();
  void announce_output(const at::Tensor& output);
  c10::Device message_device() const;

  Placement& placement_;
  const Model& model_;
  Communicator& stages_;
  batch::LayerRange layers_;
  std::vector<Shared> shared_;
  std::vector<std::int64_t> input_sizes_;  ///< of one row; empty: not known yet
  at::ScalarType input_type_ = at::kFloat;
  bool input_known_ = false;
  bool output_announced_ = false;
  std::deque<PostedMessage> sending_gradients_;
  at::Tensor loss_sum_;
  std::vector<TimedOperation> timeline_;
};

}  // namespace saturn::train

// The order of work in a pipeline, written down ahead: for every stage the list of its operations, and a
// replay that proves that the lists fit each other and says how long they take.
//
// K stages, M micro-batches. Stage 0 has the first layers.

#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/result.h"

namespace saturn::batch {

enum class PipelineOrder {
  one_forward_one_backward,  ///< after a warm-up in turns: stage k keeps at most min(K - k, M) micro-batches
  gpipe,                     ///< all forward passes, then all backward passes: keeps M
};
const char* name_of(PipelineOrder order);  ///< "1f1b", "gpipe": values of the knob "order"
std::optional<PipelineOrder> pipeline_order_named(const std::string& name);

/// One message to or from a neighbouring stage: an output goes to the next stage, a gradient to the one
/// before.
struct PipelineTransfer {
  enum class What { output, gradient };
  What what = What::output;
  bool send = false;
  int micro_batch = 0;

  bool operator==(const PipelineTransfer&) const = default;
};

struct PipelineOperation {
  enum class Kind { forward, backward, exchange };
  Kind kind = Kind::forward;
  int micro_batch = 0;  ///< of forward and backward
  std::vector<PipelineTransfer>
      transfers;  ///< of an exchange: posted together, and always with one neighbour

  bool operator==(const PipelineOperation&) const = default;
};
using PipelineOperations = std::vector<PipelineOperation>;

/// What stage `stage` does, in this order. Backward passes go through the micro-batches in ascending order
/// whatever `order` is, so gradients add up alike.
///
/// Source: the schedule of Megatron-LM without interleaving (PipeDream-flush), and GPipe's.
PipelineOperations pipeline_operations(PipelineOrder order, int stage, int num_stages, int num_micro_batches);
std::vector<PipelineOperations> pipeline_operations(PipelineOrder order, int num_stages,
                                                    int num_micro_batches);

/// How a message waits.
enum class PipelineMessages {
  rendezvous,  ///< a send ends when its receive does: the strictest reading, under which lists are proved
  eager,       ///< a send costs its stage nothing: what Gloo and a stream of its own do
};

/// What a replay is told of the machine.
struct PipelineCosts {
  /// Of a forward or a backward pass.
  std::function<double(int stage, PipelineOperation::Kind kind, int micro_batch)> compute_s;
  double message_s = 0.0;
};

struct PipelineReplay {
  double span_s = 0.0;         ///< from the first forward pass to the last operation
  std::vector<double> busy_s;  ///< of each stage, in forward and backward passes
  std::vector<int> most_kept;  ///< of each stage: micro-batches between forward and backward at once

  /// Share of the stages' time in which they compute nothing.
  double bubble() const;
};

/// Plays the lists against each other.
///
/// Errors: Kind::input, naming stage and operation, where they do not fit: a deadlock, a message without its
/// counterpart or out of turn, a pass without its input, a micro-batch that is left out or done twice.
Result<PipelineReplay> replay(const std::vector<PipelineOperations>& lists, const PipelineCosts& costs,
                              PipelineMessages messages);

/// (K - 1) / (M + K - 1): the bubble of both orders where stages are equal and messages free.
double ideal_bubble(int num_stages, int num_micro_batches);

}  // namespace saturn::batch

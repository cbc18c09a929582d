// Where a pipeline is cut: layers dealt to stages so that the slowest stage is as fast as it can be.

#pragma once

#include <cstdint>
#include <vector>

#include "saturn/base/result.h"

namespace saturn::batch {

/// One layer as the cut sees it; all of one micro-batch.
struct LayerCost {
  double time_s = 0.0;           ///< forward and backward
  double send_s = 0.0;           ///< its output to the next stage and the gradient back, if cut behind it
  std::int64_t state_bytes = 0;  ///< weights, gradients, optimiser
  std::int64_t kept_bytes = 0;   ///< between forward and backward, for each micro-batch under way
};

struct BalanceProblem {
  std::vector<LayerCost> layers;
  int num_stages = 1;
  /// Micro-batches that stage k has under way at most; of 1F1B min(K - k, M).
  std::vector<int> most_kept;
  std::int64_t memory_bytes = 0;  ///< of a stage at most; 0 = no bound
};

/// Stage k has the layers [first of k, first of k + 1).
struct Balance {
  std::vector<int> cuts;  ///< the first layer of stages 1, 2, ...; ascending, one less than there are stages
  double slowest_s = 0.0;
};

/// Exact, by dynamic programming over cuts: minimises the largest time of a stage (its layers, and what it
/// sends) among the cuts whose stages fit in memory; of equals, the one whose earlier cuts come first.
///
/// Errors: Kind::input for more stages than layers; Kind::infeasible where no cut fits, with the bytes that
/// the best one would need.
Result<Balance> balance(const BalanceProblem& problem);

/// Layers [first, end) of `stage`. Precondition: the cuts are those of a pipeline of `num_layers` layers.
struct LayerRange {
  int first = 0;
  int end = 0;

  bool operator==(const LayerRange&) const = default;
};
LayerRange layers_of_stage(const std::vector<int>& cuts, int stage, int num_layers);

/// Bytes that the stage with the layers `range` needs under `problem`.
std::int64_t stage_bytes(const BalanceProblem& problem, int stage, LayerRange range);

}  // namespace saturn::batch

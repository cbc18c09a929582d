// Sums gradients over ranks while backward still computes others: c10d's Reducer, set to sum and to buckets
// that do not change.

#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "saturn/train/communicator.h"
#include "saturn/train/placement.h"

namespace c10d {
class Reducer;
}

namespace saturn::train {

class GradientReducer {
 public:
  /// `leaves` in the order of first use in forward. `compress`: gradients travel, and are added, in bf16.
  GradientReducer(const std::vector<at::Tensor>& leaves, const std::vector<std::string>& names,
                  Communicator& communicator, bool compress);
  ~GradientReducer();

  /// The next backward pass sums. Gradients of passes before it stayed on this rank and count with it.
  void expect_last_backward();

  /// After that pass: every leaf's gradient is the sum.
  void finish();

  CommunicationTimes times() const;

 private:
  class BucketClock;

  std::shared_ptr<BucketClock> clock_;
  std::unique_ptr<c10d::Reducer> reducer_;
};

}  // namespace saturn::train

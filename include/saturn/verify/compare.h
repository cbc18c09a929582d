// What two trainings of one job did to its weights, from the checkpoints that they left: without LibTorch,
// and in the memory of a few rows at a time.

#pragma once

#include <string>

#include "saturn/base/result.h"

namespace saturn::verify {

/// Directories of the reference's checkpoints, before and after its steps.
struct Ends {
  std::string before;
  std::string after;
};

struct Differences {
  /// The largest over the tensors: norm of the difference between the two updates over the norm of the
  /// reference's. Elements whose gradient is zero but for rounding (a key's bias) move by noise that AdamW
  /// makes large; they are left out: those whose second moment is below a hundred-millionth of its tensor's
  /// mean.
  double update = 0.0;
  std::string update_tensor;
  /// The same of AdamW's first moment, which is a sum of gradients and has no such elements: the scale of a
  /// gradient, which an update by AdamW does not show.
  double gradient = 0.0;
  std::string gradient_tensor;
};

/// How far the training that left the checkpoint `other` went from `reference`'s. A number that is not
/// finite, or that no piece covers, is infinitely far.
///
/// Errors: checkpoints that cannot be read; tensors that one has and the other has not, or of another shape.
Result<Differences> compare(const Ends& reference, const std::string& other);

}  // namespace saturn::verify

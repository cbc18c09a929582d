// Tensor parallelism as models see it: which slice of a dimension a rank has, and what the ranks that split a
// layer exchange.
//
// Between split regions the ranks hold a share of the sequence each, so that norms, residual sums and dropout
// are split too; inside a region each rank has every position and a slice of the parameters.
//
// Shapes: B rows, T positions of the sequence, t positions of one rank's share, C width, W ranks.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "saturn/train/communicator.h"

namespace saturn::train {

/// Which slice of every split parameter a rank holds: slice `rank` of `size`.
struct TensorSlice {
  int rank = 0;
  int size = 1;
};

/// Consecutive indices of a dimension.
struct Range {
  std::int64_t first = 0;
  std::int64_t count = 0;
};

/// Slice `slice` of `extent` indices: sizes differ by at most one.
Range share_of(std::int64_t extent, TensorSlice slice);

/// The ranks that split each layer of a model. Its exchanges are collectives without a gradient (the
/// operators of train/ops.h have one); sums are taken in the order of the ranks, so that they are the same in
/// every run.
class TensorGroup {
 public:
  /// `communicator` outlives the group, and the group every backward pass of what was computed under it.
  explicit TensorGroup(Communicator& communicator) : communicator_(communicator) {}

  TensorSlice slice() const { return {communicator_.rank(), communicator_.num_ranks()}; }

  /// T of what is computed next. Shares have equal shapes: where W does not divide T, positions of zeros,
  /// which no gradient reaches, follow the last ones.
  void set_sequence_length(std::int64_t positions) { sequence_length_ = positions; }
  std::int64_t sequence_length() const { return sequence_length_; }
  /// t.
  std::int64_t share_length() const;
  /// The positions of a rank's share, those behind the sequence's end left out.
  Range positions_of(int rank) const;

  /// [B, t, ...] of each rank to [B, T, ...] on all.
  at::Tensor gather_sequence(const at::Tensor& share) const;
  /// [B, T, ...] on each rank to the sum over the ranks of this rank's share, [B, t, ...].
  at::Tensor sum_to_share(const at::Tensor& partial) const;
  /// Equal shapes of all ranks, stacked: [W, ...].
  at::Tensor gather(const at::Tensor& mine) const;
  /// In place over all ranks, in one exchange. All of one device and type.
  void sum(std::vector<at::Tensor>& tensors) const;

 private:
  Communicator& communicator_;
  std::int64_t sequence_length_ = 0;
};

/// This rank's share of `extent` indices: all of them without a group.
Range own_share(std::int64_t extent, const TensorGroup* group);
/// The first position of this rank's share of the sequence: 0 without a group.
std::int64_t first_position(const TensorGroup* group);

}  // namespace saturn::train

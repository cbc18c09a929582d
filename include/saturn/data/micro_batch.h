// The part of a global batch that one rank computes, cut into micro-batches.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace saturn::data {

/// Consecutive rows of a global batch. A rank without rows of its own still takes part in the collectives:
/// it computes one row that does not count.
struct RowRange {
  std::int64_t first = 0;
  std::int64_t count = 0;
  bool counts = true;

  bool operator==(const RowRange&) const = default;
};

/// `rows` cut into at most `parts` consecutive ranges whose sizes differ by at most one, the longer ones
/// first; fewer where there are fewer rows.
std::vector<RowRange> split_rows(RowRange rows, std::int64_t parts);

/// Samples of one forward and backward on this rank.
struct MicroBatch {
  RowRange rows;
  at::Tensor inputs;   ///< text: int64 tokens_BT
  at::Tensor targets;  ///< text: int64 next tokens_BT
};

/// This rank's part of one global batch.
struct MicroBatches {
  std::int64_t step = 0;
  std::int64_t num_rows = 0;     ///< of the global batch
  std::int64_t num_targets = 0;  ///< of the global batch
  std::vector<MicroBatch> parts;
};

}  // namespace saturn::data

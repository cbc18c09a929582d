// Parameters side by side in one flat buffer that is dealt to ranks in equal shards.

#pragma once

#include <cstdint>
#include <vector>

#include "saturn/train/placement.h"

namespace saturn::train {

/// Where each part begins, counted in elements. Parts begin at multiples of 64 bytes of fp32 and so do
/// shards, whatever the sizes: the last shards may hold little or nothing but padding.
struct FlatLayout {
  FlatLayout(std::vector<Part> parts_of_buffer, int num_shards_of_buffer);

  /// Elements [first, first + count) of part `index`, at `at` in the shard.
  struct Slice {
    std::size_t index = 0;
    std::int64_t first = 0;
    std::int64_t count = 0;
    std::int64_t at = 0;
  };
  /// What shard `shard` holds, in order.
  std::vector<Slice> slices_of(int shard) const;

  /// Part `index` of `flat`: a view of the part's sizes.
  at::Tensor view_of(const at::Tensor& flat, std::size_t index) const;
  /// Shard `shard` of `flat`: a view.
  at::Tensor shard_of(const at::Tensor& flat, int shard) const;

  std::int64_t num_elements() const { return shard_elements * num_shards; }

  std::vector<Part> parts;
  std::vector<std::int64_t> begins;
  std::int64_t shard_elements = 0;
  int num_shards = 1;
};

}  // namespace saturn::train

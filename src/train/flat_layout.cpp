// Rounding up, and cutting parts at the edges of shards.

#include "train/flat_layout.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace saturn::train {
namespace {

constexpr std::int64_t kAlignment = 16;  // elements

std::int64_t round_up(std::int64_t value, std::int64_t to) {
  return (value + to - 1) / to * to;
}

}  // namespace

FlatLayout::FlatLayout(std::vector<Part> parts_of_buffer, int num_shards_of_buffer)
    : parts(std::move(parts_of_buffer)), num_shards(num_shards_of_buffer) {
  std::int64_t end = 0;
  for (const Part& part : parts) {
    begins.push_back(end);
    end = round_up(end + part.num_elements(), kAlignment);
  }
  shard_elements = round_up(end, kAlignment * num_shards) / num_shards;
}

std::vector<FlatLayout::Slice> FlatLayout::slices_of(int shard) const {
  const std::int64_t shard_begin = shard * shard_elements;
  std::vector<Slice> slices;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const std::int64_t begin = std::max(begins[i], shard_begin);
    const std::int64_t end = std::min(begins[i] + parts[i].num_elements(), shard_begin + shard_elements);
    if (begin < end)
      slices.push_back(
          {.index = i, .first = begin - begins[i], .count = end - begin, .at = begin - shard_begin});
  }
  return slices;
}

at::Tensor FlatLayout::view_of(const at::Tensor& flat, std::size_t index) const {
  return flat.narrow(0, begins[index], parts[index].num_elements()).view(parts[index].sizes);
}

at::Tensor FlatLayout::shard_of(const at::Tensor& flat, int shard) const {
  return flat.narrow(0, shard * shard_elements, shard_elements);
}

}  // namespace saturn::train

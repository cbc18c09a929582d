// Data order: a keyed Feistel permutation of the samples, one per epoch.

#include "saturn/data/order.h"

#include <algorithm>
#include <bit>

#include "saturn/base/check.h"
#include "saturn/base/random.h"

namespace saturn::data {
namespace {
constexpr int kRounds = 4;
}

Permutation::Permutation(std::uint64_t size, std::uint64_t key) : size_(size), key_(key) {
  SATURN_CHECK(size >= 1, "a permutation has at least one element");
  // The smallest domain of two equal halves that holds `size`: at most four times as large.
  half_bits_ = std::max(1, static_cast<int>(std::bit_width(size - 1) + 1) / 2);
}

std::uint64_t Permutation::once(std::uint64_t value) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  std::uint64_t left = value >> half_bits_;
  std::uint64_t right = value & mask;
  for (int round = 0; round < kRounds; ++round) {
    const std::uint64_t mixed = left ^ (mix_key(key_, static_cast<std::uint64_t>(round), right) & mask);
    left = right;
    right = mixed;
  }
  return (left << half_bits_) | right;
}

std::uint64_t Permutation::operator()(std::uint64_t index) const {
  SATURN_CHECK(index < size_, "an index below the size is permuted");
  do index = once(index);
  while (index >= size_);
  return index;
}

SampleOrder::SampleOrder(std::uint64_t seed, std::int64_t num_samples, std::int64_t batch_size)
    : seed_(seed),
      num_samples_(num_samples),
      batch_size_(batch_size),
      steps_per_epoch_((num_samples + batch_size - 1) / batch_size) {
  SATURN_CHECK(num_samples >= 1 && batch_size >= 1, "there are samples and batches");
}

std::int64_t SampleOrder::rows_of(std::int64_t step) const {
  const std::int64_t first = (step % steps_per_epoch_) * batch_size_;
  return std::min(batch_size_, num_samples_ - first);
}

std::int64_t SampleOrder::sample(std::int64_t step, std::int64_t row) const {
  const Permutation permutation(static_cast<std::uint64_t>(num_samples_),
                                mix_key(seed_, static_cast<std::uint64_t>(epoch_of(step))));
  const std::int64_t index = (step % steps_per_epoch_) * batch_size_ + row;
  return static_cast<std::int64_t>(permutation(static_cast<std::uint64_t>(index)));
}

}  // namespace saturn::data

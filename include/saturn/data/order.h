// In which order a job sees its samples: a pure function of (seed, epoch, index), so that any technique, any
// restart and any width sees the same batches, and any step is found in O(1).

#pragma once

#include <cstdint>

namespace saturn::data {

/// A bijection on [0, size) chosen by a key: a balanced Feistel network, walked until it lands inside.
class Permutation {
 public:
  /// `size` is at least 1.
  Permutation(std::uint64_t size, std::uint64_t key);

  /// Where `index` < size goes; about four rounds on average.
  std::uint64_t operator()(std::uint64_t index) const;

 private:
  std::uint64_t once(std::uint64_t value) const;

  std::uint64_t size_;
  std::uint64_t key_;
  int half_bits_;
};

/// The samples of every step. The last batch of an epoch is short where the batch size does not divide.
class SampleOrder {
 public:
  SampleOrder(std::uint64_t seed, std::int64_t num_samples, std::int64_t batch_size);

  std::int64_t steps_per_epoch() const { return steps_per_epoch_; }
  std::int64_t epoch_of(std::int64_t step) const { return step / steps_per_epoch_; }
  std::int64_t rows_of(std::int64_t step) const;
  std::uint64_t seed() const { return seed_; }

  /// The sample at `row` of the global batch of `step`.
  std::int64_t sample(std::int64_t step, std::int64_t row) const;

 private:
  std::uint64_t seed_;
  std::int64_t num_samples_;
  std::int64_t batch_size_;
  std::int64_t steps_per_epoch_;
};

}  // namespace saturn::data

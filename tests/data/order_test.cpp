// The order of samples: a permutation of every epoch, the same whoever asks, and different where it should
// be.

#include "saturn/data/order.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

namespace saturn::data {

TEST_SUITE("data") {
  TEST_CASE("data/order: a permutation visits every element once whatever the size") {
    for (std::uint64_t size : {1ULL, 2ULL, 3ULL, 4ULL, 5ULL, 63ULL, 64ULL, 65ULL, 1000ULL, 4097ULL}) {
      CAPTURE(size);
      const Permutation permutation(size, 42);
      std::set<std::uint64_t> seen;
      for (std::uint64_t i = 0; i < size; ++i) {
        const std::uint64_t to = permutation(i);
        REQUIRE(to < size);
        seen.insert(to);
      }
      CHECK(seen.size() == size);
    }
  }

  TEST_CASE("data/order: permutations of different keys agree about as often as chance has it") {
    const std::uint64_t size = 5000;
    const Permutation one(size, 1), two(size, 2);
    int agree = 0;
    for (std::uint64_t i = 0; i < size; ++i) agree += one(i) == two(i);
    CHECK(agree < 10);  // 1 on average
  }

  TEST_CASE("data/order: neighbours are torn apart") {
    // The mean distance of two neighbours' images is a third of the size for a random permutation.
    const std::uint64_t size = 20000;
    const Permutation permutation(size, 7);
    double sum = 0.0;
    for (std::uint64_t i = 1; i < size; ++i)
      sum += std::abs(static_cast<double>(permutation(i)) - static_cast<double>(permutation(i - 1)));
    CHECK(sum / static_cast<double>(size) == doctest::Approx(static_cast<double>(size) / 3.0).epsilon(0.03));
  }

  TEST_CASE("data/order: every epoch sees every sample once and keeps the short last batch") {
    const SampleOrder order(/*seed=*/17, /*num_samples=*/103, /*batch_size=*/10);
    CHECK(order.steps_per_epoch() == 11);
    std::vector<std::vector<std::int64_t>> epochs;
    for (std::int64_t epoch = 0; epoch < 3; ++epoch) {
      std::vector<std::int64_t> samples;
      for (std::int64_t step = epoch * 11; step < (epoch + 1) * 11; ++step) {
        CHECK(order.epoch_of(step) == epoch);
        CHECK(order.rows_of(step) == (step % 11 == 10 ? 3 : 10));
        for (std::int64_t row = 0; row < order.rows_of(step); ++row)
          samples.push_back(order.sample(step, row));
      }
      epochs.push_back(samples);
      std::sort(samples.begin(), samples.end());
      REQUIRE(samples.size() == 103);
      for (std::int64_t i = 0; i < 103; ++i) REQUIRE(samples[static_cast<std::size_t>(i)] == i);
    }
    CHECK(epochs[0] != epochs[1]);
    CHECK(epochs[1] != epochs[2]);
  }

  TEST_CASE("data/order: the seed alone decides") {
    const auto first_steps = [](std::uint64_t seed) {
      const SampleOrder order(seed, 1000, 16);
      std::vector<std::int64_t> samples;
      for (std::int64_t step = 0; step < 5; ++step)
        for (std::int64_t row = 0; row < 16; ++row) samples.push_back(order.sample(step, row));
      return samples;
    };
    CHECK(first_steps(1) == first_steps(1));
    CHECK(first_steps(1) != first_steps(2));
  }
}

}  // namespace saturn::data

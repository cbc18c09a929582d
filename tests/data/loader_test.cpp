// Reading ahead: the same batches as reading in place, and faults where the step asks.

#include "saturn/data/loader.h"

#include <stdexcept>

#include "tests/support/torch_doctest.h"

namespace saturn::data {
namespace {

/// Sample i is {i}; reading sample `poison` fails as `how` says.
class Numbers final : public Dataset {
 public:
  enum class How { never, fault, exception };
  Numbers(std::int64_t size, How how, std::int64_t poison) : size_(size), how_(how), poison_(poison) {}
  std::int64_t num_samples(Part part) const override { return part == Part::training ? size_ : 5; }
  std::int64_t targets_per_sample() const override { return 1; }
  std::int64_t tokens_per_sample() const override { return 0; }
  Result<double> baseline_loss() const override { return 0.0; }
  Result<Samples> read(Part, const std::vector<std::int64_t>& samples, const Draw&) const override {
    for (std::int64_t sample : samples) {
      if (sample != poison_) continue;
      if (how_ == How::fault) return Diagnostic{.what = "poisoned"};
      if (how_ == How::exception) throw std::runtime_error("poisoned");
    }
    const at::Tensor rows = at::tensor(samples, at::kLong);
    return Samples{rows, rows};
  }

 private:
  std::int64_t size_;
  How how_;
  std::int64_t poison_;
};

std::vector<RowRange> whole(std::int64_t num_rows) {
  return {{0, num_rows}};
}

}  // namespace

TEST_SUITE("data") {
  TEST_CASE("data/loader: reads ahead what reading in place gives from any step on") {
    const Numbers numbers(23, Numbers::How::never, -1);
    const SampleOrder order(3, 23, 5);
    for (std::int64_t first : {0, 7}) {
      Loader loader(numbers, order, whole, first);
      for (std::int64_t step = first; step < first + 12; ++step) {
        const auto ahead = loader.next();
        REQUIRE(ahead.ok());
        const auto in_place = read_step(numbers, order, whole, step);
        REQUIRE(in_place.ok());
        CHECK(ahead.value().step == step);
        CHECK(ahead.value().num_rows == order.rows_of(step));
        CHECK(ahead.value().num_targets == order.rows_of(step));
        REQUIRE(ahead.value().parts.size() == 1);
        CHECK(ahead.value().parts[0].inputs.equal(in_place.value().parts[0].inputs));
      }
    }
  }

  TEST_CASE("data/loader: a fault and an exception reach the step that asks for the batch") {
    const SampleOrder order(3, 23, 5);
    std::int64_t bad_step = 0;
    const std::int64_t poison = order.sample(/*step=*/2, /*row=*/1);
    {
      const Numbers numbers(23, Numbers::How::fault, poison);
      Loader loader(numbers, order, whole, 0);
      for (; bad_step < 10; ++bad_step) {
        const auto batches = loader.next();
        if (batches.ok()) continue;
        CHECK(batches.faults()[0].what == "poisoned");
        break;
      }
      CHECK(bad_step == 2);
    }
    const Numbers numbers(23, Numbers::How::exception, poison);
    Loader loader(numbers, order, whole, 0);
    CHECK(loader.next().ok());
    CHECK(loader.next().ok());
    CHECK_THROWS_AS((void)loader.next(), std::runtime_error);
  }

  TEST_CASE("data/loader: validation batches hold every sample once in order") {
    const Numbers numbers(23, Numbers::How::never, -1);
    CHECK(num_validation_batches(numbers, 2) == 3);
    std::vector<std::int64_t> seen;
    for (std::int64_t i = 0; i < 3; ++i) {
      const auto batches = read_validation(numbers, 2, whole, i);
      REQUIRE(batches.ok());
      const at::Tensor rows = batches.value().parts[0].inputs;
      for (std::int64_t r = 0; r < rows.numel(); ++r) seen.push_back(rows[r].item<std::int64_t>());
    }
    CHECK(seen == std::vector<std::int64_t>{0, 1, 2, 3, 4});
  }

  TEST_CASE("data/loader: rows are split into nearly equal consecutive ranges") {
    CHECK((split_rows({0, 7}, 3) == std::vector<RowRange>{{0, 3}, {3, 2}, {5, 2}}));
    CHECK((split_rows({4, 2}, 3) == std::vector<RowRange>{{4, 1}, {5, 1}}));
    CHECK((split_rows({4, 6}, 1) == std::vector<RowRange>{{4, 6}}));
    CHECK(split_rows({0, 0}, 2).empty());
  }
}

}  // namespace saturn::data

// Each sample is a pure function of its part and index.

#include "tests/techniques/made_up.h"

#include <ATen/ATen.h>

#include <cmath>

#include "saturn/base/random.h"

namespace saturn::testing {
namespace {

class MadeUp : public data::Dataset {
 public:
  explicit MadeUp(std::int64_t num_samples) : num_samples_(num_samples) {}
  std::int64_t num_samples(data::Part part) const override {
    return part == data::Part::training ? num_samples_ : kValidationSamples;
  }
  Result<double> baseline_loss() const override { return 0.0; }

 protected:
  static Random random_of(data::Part part, std::int64_t sample) {
    return Random(mix_key(part == data::Part::training ? 1U : 2U, static_cast<std::uint64_t>(sample)));
  }

 private:
  std::int64_t num_samples_;
};

class Text final : public MadeUp {
 public:
  Text(std::int64_t num_samples, std::int64_t length) : MadeUp(num_samples), length_(length) {}
  std::int64_t targets_per_sample() const override { return length_; }
  std::int64_t tokens_per_sample() const override { return length_; }

  Result<data::Samples> read(data::Part part, const std::vector<std::int64_t>& samples,
                             const data::Draw&) const override {
    const auto rows = static_cast<std::int64_t>(samples.size());
    at::Tensor tokens = at::empty({rows, length_ + 1}, at::kLong);
    auto* value = tokens.mutable_data_ptr<std::int64_t>();
    for (const std::int64_t sample : samples) {
      Random random = random_of(part, sample);
      auto token = static_cast<std::int64_t>(random.below(kVocabulary));
      for (std::int64_t i = 0; i <= length_; ++i) {
        *value++ = token;
        token = random.uniform() < 0.8 ? (token * 5 + 3) % kVocabulary
                                       : static_cast<std::int64_t>(random.below(kVocabulary));
      }
    }
    return data::Samples{tokens.narrow(1, 0, length_).contiguous(),
                         tokens.narrow(1, 1, length_).contiguous()};
  }

 private:
  std::int64_t length_;
};

class Images final : public MadeUp {
 public:
  using MadeUp::MadeUp;
  std::int64_t targets_per_sample() const override { return 1; }
  std::int64_t tokens_per_sample() const override { return 0; }

  Result<data::Samples> read(data::Part part, const std::vector<std::int64_t>& samples,
                             const data::Draw&) const override {
    const auto rows = static_cast<std::int64_t>(samples.size());
    data::Samples read{at::empty({rows, 1, kImageSize, kImageSize}, at::kFloat),
                       at::empty({rows}, at::kLong)};
    auto* pixel = read.inputs.mutable_data_ptr<float>();
    auto* label = read.targets.mutable_data_ptr<std::int64_t>();
    for (const std::int64_t sample : samples) {
      Random random = random_of(part, sample);
      *label = static_cast<std::int64_t>(random.below(kClasses));
      const double angle = 3.1 * static_cast<double>(*label++) / kClasses;
      for (int y = 0; y < kImageSize; ++y)
        for (int x = 0; x < kImageSize; ++x)
          *pixel++ = static_cast<float>(std::sin(x * std::cos(angle) + y * std::sin(angle)) +
                                        0.5 * (random.uniform() - 0.5));
    }
    return read;
  }
};

}  // namespace

std::unique_ptr<data::Dataset> made_up_text(std::int64_t num_samples, std::int64_t length) {
  return std::make_unique<Text>(num_samples, length);
}

std::unique_ptr<data::Dataset> made_up_images(std::int64_t num_samples) {
  return std::make_unique<Images>(num_samples);
}

}  // namespace saturn::testing

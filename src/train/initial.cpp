// First values of parameters that are not loaded: a pure function of (seed, name, element).

#include <cmath>
#include <numbers>

#include "saturn/base/check.h"
#include "saturn/base/random.h"
#include "saturn/train/parameter.h"

namespace saturn::train {
namespace {

std::uint64_t hash_of(const std::string& name) {
  std::uint64_t h = 0;
  for (unsigned char c : name) h = mix64(h ^ c);
  return h;
}

/// Element `i` of a standard normal sequence (Box and Muller; two elements share one pair of uniforms).
float normal(std::uint64_t key, std::int64_t i) {
  const std::uint64_t bits = mix_key(key, static_cast<std::uint64_t>(i / 2));
  const double u = (static_cast<double>(bits >> 32) + 0.5) * 0x1.0p-32;
  const double v = static_cast<double>(bits & 0xffffffffULL) * 0x1.0p-32;
  const double radius = std::sqrt(-2.0 * std::log(u));
  const double angle = 2.0 * std::numbers::pi * v;
  return static_cast<float>(radius * (i % 2 == 0 ? std::cos(angle) : std::sin(angle)));
}

/// Element `i` of numbers from -1 to 1.
float uniform(std::uint64_t key, std::int64_t i) {
  const std::uint64_t bits = mix_key(key, static_cast<std::uint64_t>(i));
  return static_cast<float>((static_cast<double>(bits >> 32) + 0.5) * 0x1.0p-31 - 1.0);
}

}  // namespace

Result<void> RandomWeights::read(const Parameter& parameter, std::int64_t first_element, at::Tensor out) {
  SATURN_CHECK(out.is_contiguous() && out.scalar_type() == at::kFloat, "weights are read into fp32");
  switch (parameter.initial.kind) {
    case Initial::Kind::zeros:
      out.zero_();
      break;
    case Initial::Kind::ones:
      out.fill_(1.0);
      break;
    case Initial::Kind::normal: {
      const std::uint64_t key = mix_key(seed_, hash_of(parameter.name));
      const auto scale = static_cast<float>(parameter.initial.standard_deviation);
      float* values = out.data_ptr<float>();
      for (std::int64_t i = 0; i < out.numel(); ++i) values[i] = scale * normal(key, first_element + i);
      break;
    }
    case Initial::Kind::uniform: {
      const std::uint64_t key = mix_key(seed_, hash_of(parameter.name));
      const auto bound = static_cast<float>(parameter.initial.bound);
      float* values = out.data_ptr<float>();
      for (std::int64_t i = 0; i < out.numel(); ++i) values[i] = bound * uniform(key, first_element + i);
      break;
    }
  }
  return {};
}

}  // namespace saturn::train

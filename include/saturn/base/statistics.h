// Statistics that a few slow steps do not move, and normal deviates by key.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "saturn/base/random.h"

namespace saturn {

/// The middle value, or the mean of the two middle ones; `values` is not empty.
inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) return *middle;
  return (*std::max_element(values.begin(), middle) + *middle) / 2.0;
}

/// Median absolute deviation, scaled so that it estimates a normal distribution's standard deviation.
inline double robust_deviation(const std::vector<double>& values) {
  const double centre = median(values);
  std::vector<double> distances;
  for (const double value : values) distances.push_back(std::fabs(value - centre));
  return 1.4826 * median(distances);
}

/// Standard normal, a pure function of its key (Box-Muller).
inline double normal_of(std::uint64_t key) {
  Random random(key);
  const double radius = std::sqrt(-2.0 * std::log(1.0 - random.uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * random.uniform());
}

/// Lognormal with mean 1, likewise; `deviation` is of its logarithm.
inline double factor_of(double deviation, std::uint64_t key) {
  return deviation <= 0.0 ? 1.0 : std::exp(deviation * normal_of(key) - deviation * deviation / 2.0);
}

}  // namespace saturn

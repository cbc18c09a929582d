// Statistics that a few slow steps do not move.

#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

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

}  // namespace saturn

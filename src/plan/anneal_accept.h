// Temperatures and acceptance of the annealers, the same on every machine.

#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

namespace saturn::plan {

/// -ln(u) for u in (0, 1) without libm: ln(m 2^e) with m in [0.75, 1.5) by the series of
/// 2 artanh((m - 1) / (m + 1)).
inline double minus_log(double u) {
  int exponent = 0;
  while (u < 0.75) {
    u *= 2.0;
    ++exponent;
  }
  const double z = (u - 1.0) / (u + 1.0);
  const double z2 = z * z;
  double term = z;
  double sum = 0.0;
  for (int k = 1; k < 26; k += 2) {
    sum += term / k;
    term *= z2;
  }
  return 0.693147180559945309 * exponent - 2.0 * sum;
}

/// Exponential variates: a move that costs d is accepted at temperature T when d < T * variate, which happens
/// with probability exp(-d / T).
inline const std::array<double, 4096>& exponentials() {
  static const std::array<double, 4096> kTable = [] {
    std::array<double, 4096> table{};
    for (std::size_t i = 0; i < table.size(); ++i) {
      table[i] = minus_log((static_cast<double>(i) + 0.5) / static_cast<double>(table.size()));
    }
    return table;
  }();
  return kTable;
}

/// In shares of the makespan: what one task among many can change.
inline double start_temperature(std::size_t num_tasks) {
  return 0.35 / static_cast<double>(std::max<std::size_t>(num_tasks, 1));
}

/// From `hot` to a sixtieth of it in 256 steps of a constant factor.
class Cooling {
 public:
  Cooling(double hot, std::int64_t iterations)
      : temperature_(hot), stretch_(std::max<std::int64_t>(1, iterations / 256)) {}

  void step(std::int64_t iteration) {
    if (iteration % stretch_ == 0 && iteration > 0 && steps_++ < 256) temperature_ *= 0.98413;  // 60^(-1/256)
  }
  double threshold(std::uint64_t random) const { return temperature_ * variates_[random >> 52]; }

 private:
  double temperature_;
  std::int64_t stretch_;
  int steps_ = 0;
  const std::array<double, 4096>& variates_ = exponentials();
};

}  // namespace saturn::plan

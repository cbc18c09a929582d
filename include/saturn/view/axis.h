// Round steps for axes: times in seconds, minutes, hours or days, and plain numbers.

#pragma once

#include <string>
#include <vector>

namespace saturn::view {

struct Tick {
  double value = 0.0;
  std::string label;
};

/// Ticks from 0 to `end_s`, at most `most` of them (at least one), labelled with their unit: "0", "30 s",
/// "5m", "1h 30m".
std::vector<Tick> time_ticks(double end_s, int most);

/// Ticks at 1, 2 or 5 times a power of ten within [low, high].
std::vector<Tick> number_ticks(double low, double high, int most);

}  // namespace saturn::view

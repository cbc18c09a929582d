// Tick steps.

#include "saturn/view/axis.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "saturn/base/units.h"

namespace saturn::view {
namespace {

// The least of 1, 2, 5, 10, ... times `unit` that is at least `step`.
double round_up(double step, double unit) {
  double power = unit * std::pow(10.0, std::floor(std::log10(step / unit)));
  for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
    if (factor * power >= step * (1 - 1e-9)) return factor * power;
  }
  return 10.0 * power;
}

double time_step(double least_s) {
  constexpr std::array<double, 17> kSteps = {1,   2,   5,    10,   15,   30,    60,    120,  300,
                                             600, 900, 1800, 3600, 7200, 10800, 21600, 43200};
  if (least_s < 1) return round_up(least_s, 1.0);
  for (const double step : kSteps) {
    if (step >= least_s * (1 - 1e-9)) return step;
  }
  return round_up(least_s, 86400.0);
}

std::string time_label(double seconds, double step) {
  if (seconds == 0) return "0";
  if (step < 1) return format_number(seconds) + " s";
  const auto whole = std::llround(seconds);
  const long long days = whole / 86400;
  const long long hours = whole % 86400 / 3600;
  const long long minutes = whole % 3600 / 60;
  const long long rest = whole % 60;
  if (whole < 60 || (step < 60 && whole < 100)) return std::to_string(whole) + " s";
  std::string label;
  const auto add = [&](long long value, const char* unit) {
    if (value != 0) label += (label.empty() ? "" : " ") + std::to_string(value) + unit;
  };
  add(days, "d");
  add(hours, "h");
  add(minutes, "m");
  add(rest, "s");
  return label;
}

}  // namespace

std::vector<Tick> time_ticks(double end_s, int most) {
  std::vector<Tick> ticks = {{0.0, "0"}};
  if (!(end_s > 0) || !std::isfinite(end_s) || most < 2) return ticks;
  const double step = time_step(end_s / (most - 1));
  const int count = static_cast<int>(std::floor(end_s / step * (1 + 1e-9)));
  for (int i = 1; i <= count; ++i) ticks.push_back({i * step, time_label(i * step, step)});
  return ticks;
}

std::vector<Tick> number_ticks(double low, double high, int most) {
  if (!(high > low) || !std::isfinite(high - low) || most < 2) return {{low, format_number(low)}};
  const double step = round_up((high - low) / (most - 1), 1.0);
  std::vector<Tick> ticks;
  for (double i = std::ceil(low / step * (1 - 1e-12)); i * step <= high + step * 1e-9; ++i) {
    const double value = i == 0 ? 0.0 : i * step;
    ticks.push_back({value, format_number(value)});
  }
  return ticks;
}

}  // namespace saturn::view

// Nearest names, and quantities as people write and read them.

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>

#include "saturn/base/nearest.h"
#include "saturn/base/units.h"

namespace saturn {
namespace {

// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
std::size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) d[i][0] = i;
  for (std::size_t j = 0; j <= b.size(); ++j) d[0][j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    for (std::size_t j = 1; j <= b.size(); ++j) {
      d[i][j] =
          std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
    }
  }
  return d[a.size()][b.size()];
}

// A number and the unit behind it; nothing where the number does not start the text.
struct Quantity {
  double value;
  std::string unit;
};

std::optional<Quantity> parse_quantity(const std::string& text) {
  Quantity quantity{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), quantity.value);
  if (error != std::errc() || !std::isfinite(quantity.value) || quantity.value < 0) return std::nullopt;
  quantity.unit = std::string(end, text.data() + text.size());
  quantity.unit.erase(0, quantity.unit.find_first_not_of(' '));
  return quantity;
}

template <class... Args>
std::string formatted(const char* format, Args... args) {
  char text[64];
  std::snprintf(text, sizeof text, format, args...);
  return text;
}

}  // namespace

std::string nearest(const std::string& typed, const std::vector<std::string>& known) {
  constexpr std::size_t kLongestName = 64;  // hostile names cost nothing
  if (typed.size() > kLongestName) return "";
  std::string best;
  std::size_t best_distance = std::numeric_limits<std::size_t>::max();
  for (const std::string& name : known) {
    const std::size_t allowed = std::max<std::size_t>(1, std::max(name.size(), typed.size()) / 3);
    const std::size_t distance = edit_distance(typed, name);
    if (distance <= allowed && distance < best_distance) {
      best = name;
      best_distance = distance;
    }
  }
  return best;
}

std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (const std::string& name : names) out += (out.empty() ? "" : ", ") + name;
  return out;
}

std::string did_you_mean(const std::string& typed, const std::vector<std::string>& known) {
  const std::string name = nearest(typed, known);
  return name.empty() ? "" : "did you mean \"" + name + "\"?";
}

std::optional<double> parse_duration_s(const std::string& text) {
  const auto quantity = parse_quantity(text);
  if (!quantity) return std::nullopt;
  struct Unit {
    const char* name;
    double seconds;
  };
  constexpr std::array<Unit, 10> kUnits = {{{"", 1},
                                            {"s", 1},
                                            {"sec", 1},
                                            {"ms", 1e-3},
                                            {"m", 60},
                                            {"min", 60},
                                            {"h", 3600},
                                            {"hours", 3600},
                                            {"d", 86400},
                                            {"days", 86400}}};
  for (const Unit& unit : kUnits) {
    if (quantity->unit != unit.name) continue;
    const double seconds = quantity->value * unit.seconds;
    return std::isfinite(seconds) ? std::optional(seconds) : std::nullopt;
  }
  return std::nullopt;
}

std::optional<std::int64_t> parse_bytes(const std::string& text) {
  const auto quantity = parse_quantity(text);
  if (!quantity) return std::nullopt;
  struct Unit {
    const char* name;
    double bytes;
  };
  constexpr std::array<Unit, 10> kUnits = {{{"", 1},
                                            {"B", 1},
                                            {"KiB", 0x1p10},
                                            {"MiB", 0x1p20},
                                            {"GiB", 0x1p30},
                                            {"TiB", 0x1p40},
                                            {"kB", 1e3},
                                            {"MB", 1e6},
                                            {"GB", 1e9},
                                            {"TB", 1e12}}};
  for (const Unit& unit : kUnits) {
    if (quantity->unit != unit.name) continue;
    const double bytes = quantity->value * unit.bytes;
    return bytes < 0x1p62 ? std::optional(static_cast<std::int64_t>(bytes)) : std::nullopt;
  }
  return std::nullopt;
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return "-";
  if (seconds < 0) return "-" + format_duration(-seconds);
  if (seconds < 9.995) return formatted("%.2f s", seconds);
  if (seconds < 99.95) return formatted("%.1f s", seconds);
  const long long whole = std::llround(seconds);
  if (whole < 3600) return formatted("%lldm %02llds", whole / 60, whole % 60);
  if (whole < 86400) return formatted("%lldh %02lldm", whole / 3600, whole % 3600 / 60);
  return formatted("%lldd %02lldh", whole / 86400, whole % 86400 / 3600);
}

std::string format_bytes(double bytes) {
  constexpr std::array<const char*, 5> kNames = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kNames.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? formatted("%.0f B", bytes) : formatted("%.1f %s", bytes, kNames[unit]);
}

std::string format_count(double count) {
  if (count < 1000) return formatted("%.0f", count);
  if (count < 1e6) return formatted("%.1fk", count / 1e3);
  if (count < 1e9) return formatted("%.1fM", count / 1e6);
  return formatted("%.2fB", count / 1e9);
}

std::string format_number(double value, int significant_digits) {
  return formatted("%.*g", significant_digits, value);
}

std::string format_percent(double share, int decimals) {
  return formatted("%.*f %%", decimals, 100.0 * share);
}

std::string format_difference(double share, int decimals) {
  return formatted("%+.*f %%", decimals, 100.0 * share);
}

}  // namespace saturn

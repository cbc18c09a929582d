// Quantities as people write and read them: "5m", "4GiB", "1h 02m".

#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace saturn {

/// "90", "90s", "1.5m", "2h", "1d" to seconds; nothing where it is not a finite, non-negative duration.
std::optional<double> parse_duration_s(const std::string& text);

/// "512MiB", "4GiB", "2e9", "1.5GB" to bytes; nothing where it is not a size below 2^62.
std::optional<std::int64_t> parse_bytes(const std::string& text);

std::string format_duration(double seconds);  ///< "0.42 s", "17.3 s", "4m 05s", "1h 02m", "2d 03h"
std::string format_bytes(double bytes);       ///< "512 B", "1.5 GiB"
std::string format_count(double count);       ///< "950", "41.3k", "1.5M"
std::string format_number(double value, int significant_digits = 4);
/// A share: "12.3 %"; of a difference with its sign: "+12.3 %".
std::string format_percent(double share, int decimals = 1);
std::string format_difference(double share, int decimals = 1);

}  // namespace saturn

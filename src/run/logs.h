// The logs of a job's ranks: a heading for each attempt, and an end to their growth.

#pragma once

#include <cstdint>
#include <string>

#include "saturn/base/result.h"

namespace saturn::run {

/// What a log may grow to before it is cut, and what is kept of it then, beside it as "<path>.1".
struct LogLimits {
  std::int64_t most_bytes = std::int64_t{64} << 20;
  std::int64_t kept_bytes = std::int64_t{1} << 20;
};

/// Appends a line "---- heading", so that a reader sees where an attempt begins.
///
/// Errors: Kind::disk_full, Kind::machine; a symbolic link at `path` is refused.
Result<void> write_log_heading(const std::string& path, const std::string& heading);

/// Cuts a log that is over its limit: its end moves to "<path>.1" in place of what was there, and the log
/// begins anew by saying so. Ranks that append to it go on; a line they write meanwhile may get lost. Good
/// where it is short or absent. Returns whether it was cut.
Result<bool> shorten_log(const std::string& path, const LogLimits& limits = {});

}  // namespace saturn::run

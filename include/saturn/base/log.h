// Log lines on stderr through spdlog, set up once per process.

#pragma once

#include <string>

#include "saturn/base/result.h"

namespace saturn {

/// Levels: trace, debug, info, warn, error, off. Errors: Kind::input with the nearest level.
Result<void> set_log_level(const std::string& level);

void log_debug(const std::string& message);
void log_info(const std::string& message);
void log_warning(const std::string& message);

}  // namespace saturn

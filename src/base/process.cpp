// What belongs to the process as a whole: version, clocks, log.

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <ctime>

#include "saturn/base/clock.h"
#include "saturn/base/log.h"
#include "saturn/base/nearest.h"
#include "saturn/base/version.h"

namespace saturn {
namespace {

double read_clock_s(clockid_t id) {
  timespec now{};
  ::clock_gettime(id, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

spdlog::logger& logger() {
  static const std::shared_ptr<spdlog::logger> instance = [] {
    auto made = std::make_shared<spdlog::logger>("saturn", std::make_shared<spdlog::sinks::stderr_sink_st>());
    made->set_pattern("%H:%M:%S %l: %v");
    made->set_level(spdlog::level::warn);
    made->flush_on(spdlog::level::trace);
    return made;
  }();
  return *instance;
}

}  // namespace

const char* version() {
  return SATURN_VERSION;
}

double SystemClock::now_s() const {
  return read_clock_s(CLOCK_MONOTONIC);
}
double SystemClock::unix_s() const {
  return read_clock_s(CLOCK_REALTIME);
}

Result<void> set_log_level(const std::string& level) {
  const std::vector<std::string> levels = {"trace", "debug", "info", "warn", "error", "off"};
  for (const std::string& known : levels) {
    if (known != level) continue;
    logger().set_level(spdlog::level::from_str(level));
    return {};
  }
  return Diagnostic{.what = "log level " + in_quotes(level) + " does not exist",
                    .expected = "one of " + listed(levels),
                    .fix = did_you_mean(level, levels)};
}

void log_debug(const std::string& message) {
  logger().debug("{}", message);
}
void log_info(const std::string& message) {
  logger().info("{}", message);
}
void log_warning(const std::string& message) {
  logger().warn("{}", message);
}

}  // namespace saturn

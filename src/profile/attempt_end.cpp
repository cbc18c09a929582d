// From errors, deaths and deadlines to outcomes.

#include "saturn/profile/attempt_end.h"

#include <algorithm>
#include <cmath>

#include "saturn/base/units.h"

namespace saturn::profile {

using worker::ErrorClass;

void AttemptEnd::hear(const worker::Error& told) {
  const bool is_cause = told.error_class != ErrorClass::peer_lost;
  if (!error || (error->error_class == ErrorClass::peer_lost && is_cause)) error = told;
}

std::optional<AttemptFailure> failure_of(const AttemptEnd& end, double timeout_s, const std::string& log) {
  const std::string see = "; see " + log;
  // A peer that says its neighbour is gone names no cause where the neighbour's own end is known.
  const bool consequence = end.error && end.error->error_class == ErrorClass::peer_lost;
  if (end.error && !(consequence && (end.host_memory_died || !end.death.empty()))) {
    const std::string& message = end.error->message;
    switch (end.error->error_class) {
      case ErrorClass::out_of_memory:
      case ErrorClass::host_out_of_memory:
        return AttemptFailure{Outcome::out_of_memory, message, end.error->needed_bytes};
      case ErrorClass::unsupported:
        return AttemptFailure{Outcome::unsupported, message, 0};
      default:
        return AttemptFailure{Outcome::failed,
                              worker::to_string(end.error->error_class) + ": " + message + see, 0};
    }
  }
  if (end.host_memory_died)
    return AttemptFailure{Outcome::out_of_memory, "the system ended it for want of host memory", 0};
  if (end.timed_out) {
    return AttemptFailure{Outcome::failed,
                          "not done after " + format_duration(timeout_s) + " ([profile] trial_timeout)" + see,
                          0};
  }
  if (!end.finished)
    return AttemptFailure{Outcome::failed, (end.death.empty() ? "it ended too early" : end.death) + see, 0};
  return std::nullopt;
}

double time_of(const worker::Finished& finished, const char* name) {
  const auto at = finished.times.find(name);
  return at == finished.times.end() || !std::isfinite(at->second) ? 0.0 : std::max(0.0, at->second);
}

}  // namespace saturn::profile

// How an attempt that measures or verifies ended, as an outcome with its reason.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "saturn/profile/profile.h"
#include "saturn/worker/messages.h"

namespace saturn::profile {

/// What was heard of an attempt until all its ranks had ended.
struct AttemptEnd {
  std::optional<worker::Error> error;        ///< the first that is a cause, not a consequence
  std::optional<worker::Finished> finished;  ///< of rank 0
  std::string death;                         ///< "rank 1 ended with signal 9 (Killed)"; empty where none did
  bool host_memory_died = false;
  bool timed_out = false;

  /// A peer that says its neighbour is gone names no cause, and gives way to who does.
  void hear(const worker::Error& told);
};

struct AttemptFailure {
  Outcome outcome = Outcome::failed;
  std::string reason;
  std::int64_t needed_bytes = 0;  ///< out_of_memory, where the allocator said so
};

/// Why the attempt did not do what it was asked; nothing where it did. `log` is named where the reason is in
/// it.
std::optional<AttemptFailure> failure_of(const AttemptEnd& end, double timeout_s, const std::string& log);

/// Seconds of one of the times in `finished`; 0 where it is not there.
double time_of(const worker::Finished& finished, const char* name);

}  // namespace saturn::profile

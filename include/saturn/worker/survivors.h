// Ranks of a controller that died: found by what was recorded of them, never by name.

#pragma once

#include <vector>

#include "saturn/worker/launcher.h"

namespace saturn::worker {

/// Kills the process group of every rank that still lives and is the process that was recorded (pid and start
/// time). Returns how many there were.
int end_survivors(const std::vector<RankProcess>& ranks);

}  // namespace saturn::worker

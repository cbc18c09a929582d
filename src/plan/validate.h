// Validation under the key names of the document that a problem was read from.

#pragma once

#include "saturn/plan/problem.h"

namespace saturn::plan {

inline constexpr double kLongestTime_s = 1e15;  ///< sums of a million of these still order as doubles
inline constexpr int kMostDevices = 4096;       ///< of one node

/// How the document spells what a fault points at.
struct Words {
  const char* node_devices = "num_devices";
  const char* configurations = "configurations";
  const char* devices = "num_devices";
  const char* ranks = "num_ranks";
  const char* time = "time_s";
};

Diagnostics validate(const PlanProblem& problem, const Words& words);

}  // namespace saturn::plan

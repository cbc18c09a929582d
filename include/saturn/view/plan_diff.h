// What changed from one plan to another, job by job.

#pragma once

#include <string>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/plan/plan.h"
#include "saturn/view/terminal.h"

namespace saturn::view {

enum class Change {
  added,
  removed,
  configuration,  ///< technique, width, ranks, knobs, or how it is cut into segments
  devices,        ///< the same configuration elsewhere
  times,          ///< only its start or its duration
};

const char* to_string(Change change);

struct JobChange {
  std::string job;
  Change change = Change::times;
  std::vector<plan::Assignment> left;  ///< its segments, in order; empty where it was added
  std::vector<plan::Assignment> right;
};

/// Jobs that are planned differently, in the order of `left`, then the added ones. Times count as equal
/// within 1e-6 of their size.
std::vector<JobChange> changes(const plan::Plan& left, const plan::Plan& right);

/// A line per changed job, then both makespans.
std::string changes_text(const plan::Plan& left, const plan::Plan& right, const Terminal& terminal);

/// {"makespan_s": [a, b], "changes": [{"job", "change", "left": [...], "right": [...]}]}.
Json changes_json(const plan::Plan& left, const plan::Plan& right);

}  // namespace saturn::view

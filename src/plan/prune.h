// Modes that no better plan can use are left out: those at least as long as the best plan, and those whose
// reduced cost in the pattern LP lifts the bound to it.

#pragma once

#include <vector>

#include "plan/bounds.h"
#include "plan/reduced.h"

namespace saturn::plan {

/// The problem of finding a plan that ends before `upper_s`. Solutions of one are turned into the other's.
struct Pruned {
  Reduced reduced;
  std::vector<std::vector<int>> origin;  ///< per task and kept mode: its position in the whole problem
  bool possible = true;  ///< false: some task has no mode left, so no plan ends before `upper_s`

  Solution to_whole(const Solution& solution) const;

  /// Modes that are left out are replaced by the least in device time that runs on the same node, else
  /// anywhere.
  Solution from_whole(const Reduced& whole, const Solution& solution) const;
};

Pruned prune(const Reduced& reduced, const AllotmentBound& bound, double upper_s);

/// The modes that a search should look at first: of those left, the ones that cost a plan at most `slack`
/// times the bound more than the task's best mode. No proof; a plan of many tasks has room for few that cost
/// more.
Pruned focus(const Reduced& reduced, const AllotmentBound& bound, double upper_s, double slack);

}  // namespace saturn::plan

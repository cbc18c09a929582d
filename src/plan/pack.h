// Packing one node after another up to a common end, for many nodes, where only widths and times matter.

#pragma once

#include <cstdint>

#include "plan/anneal.h"
#include "plan/bounds.h"
#include "plan/reduced.h"

namespace saturn::plan {

struct PackOptions {
  std::uint64_t seed = 1;
  double end_s = 0.0;  ///< no node ends later than this, unless tasks are left that fit nowhere
};

struct PackResult {
  Solution solution;  ///< of every task; empty where the bound has no prices
  double makespan_s = 0.0;
  int num_left = 0;  ///< tasks that found no room by `end_s`
  std::int64_t iterations = 0;
};

/// Each node gets, by annealing, those of the tasks left that are worth most together; a task is worth what
/// the prices of `bound` ask for it where it is cheapest. The evaluations are shared out over the nodes.
PackResult pack(const Reduced& reduced, const AllotmentBound& bound, const PackOptions& options,
                const Budget& budget);

}  // namespace saturn::plan

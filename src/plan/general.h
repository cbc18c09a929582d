// Local search under every constraint and for every objective: slower, one global order, each candidate
// decoded.

#pragma once

#include <cstdint>
#include <functional>

#include "plan/anneal.h"
#include "plan/decode.h"
#include "plan/reduced.h"

namespace saturn::plan {

struct GeneralResult {
  Solution solution;  ///< never worse than where it started
  Value value;
  std::int64_t iterations = 0;
};

/// Annealing over the order, the nodes and the modes of `start`, which places every task.
GeneralResult anneal_general(const Reduced& reduced, const Solution& start, std::uint64_t seed,
                             const Budget& budget);

/// A bound on the objective (not the makespan) that no plan beats.
double objective_bound(const Reduced& reduced);

}  // namespace saturn::plan

// Local search over one list of jobs per node, for problems where only widths and times matter.

#pragma once

#include <cstdint>
#include <functional>

#include "plan/reduced.h"

namespace saturn::plan {

/// How long a search may go on. `out_of_time` is asked every few hundred evaluations.
struct Budget {
  std::int64_t iterations = 0;
  std::function<bool()> out_of_time;
};

struct AnnealOptions {
  std::uint64_t seed = 1;
  double bound_s = 0.0;      ///< scales the temperature; reaching it ends the search
  double idle_weight = 0.5;  ///< of the mean finish of the devices beside the makespan
  double heat = 1.0;         ///< share of the usual start temperature
  /// Value of a device-second of each class; all equal where empty.
  std::vector<double> class_price = {};
};

struct AnnealResult {
  Solution solution;  ///< never worse than where it started
  double makespan_s = 0.0;
  std::int64_t iterations = 0;
};

/// The same over one order of all tasks, each going to the node where it starts first; for few nodes. The
/// start's nodes are not kept, so the result may be worse than the start.
AnnealResult anneal_global(const Reduced& reduced, const Solution& start, const AnnealOptions& options,
                           const Budget& budget);

/// The same on the node that ends last with one or two others, again and again; for several nodes.
AnnealResult anneal_groups(const Reduced& reduced, const Solution& start, const AnnealOptions& options,
                           const Budget& budget);

/// One annealing run of `budget.iterations` evaluations from `start`, which places every task.
AnnealResult anneal(const Reduced& reduced, const Solution& start, const AnnealOptions& options,
                    const Budget& budget);

}  // namespace saturn::plan

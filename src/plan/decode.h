// Solution to starts and devices, under every constraint of the problem. The slow, exact counterpart of the
// search's own evaluation.

#pragma once

#include <vector>

#include "plan/reduced.h"
#include "saturn/plan/plan.h"

namespace saturn::plan {

/// Where and when one choice of a solution runs.
struct Placement {
  Choice choice;
  double start_s = 0.0;
  double end_s = 0.0;
  std::vector<int> devices;  ///< of the node, ascending
};

/// What a decoded solution is worth.
struct Value {
  bool feasible = false;  ///< every task placed, deadlines and cost limit kept
  double objective = kNever;
  double makespan_s = kNever;
  double cost = kNever;
  double lateness_s = 0.0;  ///< sum over tasks; kNever where one could not be placed at all
  int num_moves = 0;        ///< jobs that run and do not go on where they are
};

struct Decoded {
  std::vector<Placement> placements;  ///< in the order they were placed
  Value value;
};

/// Places the choices in order (a task before those it waits for is put off until they are placed), each at
/// the first moment at which its devices, memory and predecessors are there.
Decoded decode(const Reduced& reduced, const Solution& solution);

/// Decodes, moves every job as far left as it goes, and names devices so that a job tends to take over those
/// that the job before it on the node leaves together.
Plan build_plan(const Reduced& reduced, const Solution& solution);

/// The solution of a plan for the same problem; empty where it has segments or does not belong to it.
Solution solution_of(const Reduced& reduced, const Plan& plan);

/// Whether `left` is better than `right`: feasible, less late, smaller objective, smaller makespan, fewer
/// moves.
bool better(const Value& left, const Value& right);

}  // namespace saturn::plan

// Lower bounds on the makespan.
//
// A node of G devices is a cumulative resource. At any moment the jobs on it form a pattern: a multiset of
// widths that fits into G. If y[p] is how long pattern p is in force, the time spent at width w must be
// covered: sum over p of count(p, w) y[p] >= sum of t over the jobs that run at width w, and sum of y <= T.
// With x[j, m] the choice of modes, the least T is a linear program; its dual prices widths by a function
// f(w) >= 0 with F = the most that f adds up to within G, and any such f proves T >= sum of min over m of
// f(w_m) t_m / F.

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "plan/construct.h"
#include "plan/reduced.h"

namespace saturn::plan {

/// The largest of: total least area over all devices; the longest fastest task; the longest chain of releases
/// and predecessors.
double simple_bound_s(const Reduced& reduced);

struct AllotmentBound {
  double bound_s = 0.0;              ///< proved by the prices below, whatever the solver's tolerance
  std::vector<Allotment> roundings;  ///< allotments near the fractional optimum, the nearest first
  /// Per task and mode: what the same prices prove for plans in which the task runs in that mode; infinite
  /// for modes that were not considered. Empty where there was no LP.
  std::vector<std::vector<double>> with_mode_s;
  std::vector<std::vector<double>> width_price;  ///< f: per node group (patterns.h) and width
  std::vector<double> class_price;  ///< of one device of each class, 1 on average; empty for one class
};

/// The pattern LP over all nodes. Only modes faster than `upper_s` are considered, so the bound is one for
/// plans that beat `upper_s`.
AllotmentBound allotment_bound(const Reduced& reduced, double upper_s = kNever);

/// How the integer bounds are asked for.
struct MilpBudget {
  double left_s = 10.0;
  int node_limit = -1;   ///< per solve; with it and `solve_limit` the bounds do not depend on the clock
  int solve_limit = -1;  ///< of each bisection
  std::function<double()> elapsed_s;
  std::function<bool()> stop;                                        ///< asked between solves
  std::function<double()> upper_s;                                   ///< of the best plan by now
  std::function<void(double bound_s, const std::string& by)> raise;  ///< told every proved bound
};

/// The pattern MILP (whole choices of modes) with the incumbent as cutoff, then destructive bisection: a T is
/// refuted when no choice satisfies the pattern rows for the times and for their dual feasible functions.
void milp_bounds(const Reduced& reduced, double lower_s, const MilpBudget& budget);

}  // namespace saturn::plan

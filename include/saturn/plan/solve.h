// PlanProblem to Plan: the one entry to the solver, and the list of policies.

#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "saturn/plan/plan.h"
#include "saturn/plan/problem.h"

namespace saturn::plan {

/// A better plan or a better bound was found.
struct Progress {
  double elapsed_s = 0.0;
  double makespan_s = 0.0;
  double lower_bound_s = 0.0;
  std::string by;  ///< the stage
};

struct SolveOptions {
  std::string policy = "saturn";
  double time_limit_s = 60.0;  ///< wall seconds: a stop, never a schedule when `iterations` is given
  /// Evaluations of the local search. Given: same problem, seed and iterations, same plan and bound, on any
  /// machine that reaches them before the time limit.
  std::optional<std::int64_t> iterations;
  std::uint64_t seed = 1;
  double gap = 0.0;      ///< stop when the plan is proven within this share of the best, as 0.01
  int num_threads = 2;   ///< 1: everything in this process; 2: bounds and a second search in a child process
  bool proves = true;    ///< false: no time goes into bounds beyond those that finding plans gives anyway
  int max_segments = 1;  ///< per job; more than 1 lets a job change its configuration on the way
  const std::atomic<bool>* stop = nullptr;  ///< set by a signal handler: return the best plan so far
  std::function<void(const Progress&)> on_progress;
  const Plan* start_from = nullptr;  ///< a plan for the same problem, kept where nothing better is found
  bool baselines = true;             ///< fill Plan::baselines
};

/// A plan that `check` accepts.
///
/// Errors: Kind::input for a problem that `validate` refuses or an unknown policy; Kind::infeasible with the
/// job and the reason where no plan exists or none was found.
Result<Plan> solve(const PlanProblem& problem, const SolveOptions& options = {});

/// A policy is a way to choose a plan; all but saturn and published answer at once.
struct Policy {
  std::string name;
  std::string summary;
};

/// saturn, current-practice, minimal, random, optimus-greedy, best-list, published.
const std::vector<Policy>& policies();

/// A proven lower bound on the makespan of `problem` that costs no search: area with width functions,
/// longest job, releases and chains.
double quick_bound_s(const PlanProblem& problem);

}  // namespace saturn::plan

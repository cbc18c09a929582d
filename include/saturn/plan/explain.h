// Why a plan is as it is: what each other choice would cost, what fixes the makespan, what would shorten it.

#pragma once

#include <string>
#include <vector>

#include "saturn/plan/solve.h"

namespace saturn::plan {

/// One configuration of the job, and the best plan found with it forced.
struct Alternative {
  std::string technique;
  int num_devices = 0;
  int num_ranks = 0;
  std::string device_class;
  double time_s = 0.0;
  bool chosen = false;
  bool feasible = false;
  double makespan_s = 0.0;     ///< of the best plan found with this configuration forced
  double lower_bound_s = 0.0;  ///< of every plan with this configuration forced
  std::string reason;          ///< why it lost, as a sentence
};

/// A link of the chain of jobs, each waiting for the one before it, that ends at the makespan.
struct ChainLink {
  std::string job;
  double start_s = 0.0;
  double end_s = 0.0;
  std::string waits_for;  ///< "devices of <job>", "release", "after <job>", or empty at the origin
};

/// What one more device of a class, or on one node, would do to the lower bound.
struct ShadowPrice {
  std::string device_class;
  int num_devices = 0;              ///< there are now
  double bound_s_per_device = 0.0;  ///< change of the LP bound for one device more; never positive
};

struct Explanation {
  std::string job;
  std::vector<Alternative> alternatives;  ///< in the order of the job's configurations
  std::vector<ChainLink> chain;           ///< in time order
  std::vector<ShadowPrice> prices;        ///< most useful class first
};

/// Errors: Kind::input with the nearest name where `job` is not one of the problem's; those of `solve`.
Result<Explanation> explain(const PlanProblem& problem, const Plan& plan, const std::string& job,
                            const SolveOptions& options);

std::string to_text(const Explanation& explanation);
Json to_json(const Explanation& explanation);

}  // namespace saturn::plan

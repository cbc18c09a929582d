// `saturn plan BATCH`: profile, problem, solver, plan.json.

#pragma once

#include <string>

#include "cli/plan_table.h"

namespace saturn::cli {

struct PlanBatchArgs {
  std::string batch;
  std::string directory;  ///< of the run; empty = runs/<batch name>
  std::string profile;    ///< named by the user: refused where it is stale; empty = the run directory's
  std::string out;        ///< empty = the next plan.NNN.json of the run directory
  bool detailed_exitcode = false;
};

/// Measures what the profile lacks, solves for what is left of the batch, draws the plan and writes it. A
/// plan equal to the one in force is not written again.
Result<int> plan_batch(const PlanBatchArgs& args, const SolverArgs& solver, const Context& context);

}  // namespace saturn::cli

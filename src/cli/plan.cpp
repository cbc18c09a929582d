// saturn plan: solves for the schedule with the shortest makespan.

#include "cli/plan_batch.h"
#include "cli/plan_table.h"

namespace saturn::cli {
namespace {

struct PlanArgs {
  PlanBatchArgs batch;
  std::string table;
  SolverArgs solver;

  void declare(Options& options) {
    options.optional_positional("BATCH", batch.batch, "the batch file");
    options.option("--dir", "RUN", batch.directory, "the run directory", "runs/<batch name>");
    options.option("--profile", "FILE", batch.profile, "measurements to plan from", "the run directory's");
    options.option("--table", "FILE", table, "plan from a bare table of measured configurations instead");
    options.option("--out", "FILE", batch.out, "write the plan here", "the run directory's next");
    solver.declare(options);
    options.flag("--detailed-exitcode", batch.detailed_exitcode,
                 "exit 10 where the plan differs from the one in force");
  }

  Result<int> run(const Context& context) {
    const bool both =
        !table.empty() && !(batch.batch.empty() && batch.profile.empty() && batch.directory.empty());
    if (both || (table.empty() && batch.batch.empty())) {
      return Diagnostic{
          .what = both ? "a batch and a table cannot be planned together" : "nothing to plan was given",
          .expected = "BATCH, or --table FILE",
          .fix = "saturn plan configs/kjv-sweep.toml"};
    }
    return table.empty() ? plan_batch(batch, solver, context) : plan_table(table, batch.out, solver, context);
  }
};

}  // namespace

CommandEntry plan() {
  return {.name = "plan",
          .summary = "Solve for the schedule with the shortest makespan and write it to plan.json.",
          .example = "saturn plan configs/kjv-sweep.toml --time-limit 10",
          .declare = &make_action<PlanArgs>};
}

}  // namespace saturn::cli

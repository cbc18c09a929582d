// saturn plan: solves for the schedule with the shortest makespan.

#include "cli/plan_table.h"

namespace saturn::cli {
namespace {

struct PlanArgs {
  std::string table;
  std::string out;
  SolverArgs solver;

  void declare(Options& options) {
    options.option("--table", "FILE", table, "plan from a bare table of measured configurations");
    options.option("--out", "FILE", out, "write plan.json here");
    solver.declare(options);
  }

  Result<int> run(const Context& context) {
    if (table.empty()) {
      return Diagnostic{
          .what = "nothing to plan was given", .expected = "--table FILE", .fix = "saturn plan --help"};
    }
    return plan_table(table, out, solver, context);
  }
};

}  // namespace

CommandEntry plan() {
  return {.name = "plan",
          .summary = "Solve for the schedule with the shortest makespan and write it to plan.json.",
          .example = "saturn plan --table instance.json --time-limit 10 --out plan.json",
          .declare = &make_action<PlanArgs>};
}

}  // namespace saturn::cli

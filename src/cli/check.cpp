// saturn check: whether a plan is one, found out without the solver.

#include "saturn/plan/check.h"

#include "cli/command.h"
#include "saturn/base/units.h"
#include "saturn/plan/plan.h"

namespace saturn::cli {
namespace {

struct CheckArgs {
  std::string path;
  std::string table;

  void declare(Options& options) {
    options.positional("PLAN", path, "plan.json");
    options.option("--table", "FILE", table, "the table it was made from: times and configurations too");
  }

  Result<int> run(const Context& context) {
    SATURN_TRY(const plan::Plan plan, plan::read_plan(path));
    Diagnostics faults;
    if (table.empty()) {
      faults = plan::check_alone(plan, path);
    } else {
      SATURN_TRY(const plan::PlanProblem problem, plan::read_table(table));
      faults = plan::check(problem, plan, path);
    }
    if (!faults.empty()) return faults;
    if (context.json) {
      Json document = Json::object();
      document["plan"] = path;
      document["checked_against"] = table.empty() ? Json(nullptr) : Json(table);
      document["assignments"] = plan.assignments.size();
      document["makespan_s"] = plan.makespan_s;
      print_json(document);
      return 0;
    }
    print(path + ": good: " + std::to_string(plan.assignments.size()) + " assignments, makespan " +
          format_duration(plan.makespan_s) + (table.empty() ? "" : ", as " + table + " has it") + "\n");
    return 0;
  }
};

}  // namespace

CommandEntry check() {
  return {.name = "check",
          .summary = "Check that a plan is feasible and that its times add up.",
          .example = "saturn check runs/sweep/plan.000.json",
          .declare = &make_action<CheckArgs>};
}

}  // namespace saturn::cli

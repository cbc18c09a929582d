// saturn show: an artefact as a person reads it.

#include <unistd.h>

#include "cli/artefact.h"
#include "cli/command.h"
#include "saturn/plan/plan.h"
#include "saturn/view/gantt_text.h"

namespace saturn::cli {
namespace {

Result<int> show_plan(const std::string& path, const Json& document, bool table, const Context& context) {
  SATURN_TRY(const plan::Plan plan, plan::plan_from_json(document, path));
  if (context.json) {
    print_json(document);
    return 0;
  }
  view::Schedule schedule = view::schedule_of(plan);
  schedule.title = path;
  const view::Terminal terminal = view::terminal_of(STDOUT_FILENO);
  if (table) {
    print(view::legend_text(schedule, terminal, {.most_legend = schedule.bars.size()}));
  } else {
    print(view::schedule_text(schedule, terminal));
  }
  return 0;
}

struct ShowArgs {
  std::string path;
  bool table = false;

  void declare(Options& options) {
    options.positional("FILE", path, "plan.json");
    options.flag("--table", table, "every line, without the drawing");
  }

  Result<int> run(const Context& context) {
    SATURN_TRY(const Artefact artefact, open_artefact(path));
    return show_plan(path, artefact.document, table, context);
  }
};

}  // namespace

CommandEntry show() {
  return {.name = "show",
          .summary = "Draw a plan.",
          .example = "saturn show runs/sweep/plan.000.json",
          .declare = &make_action<ShowArgs>};
}

}  // namespace saturn::cli

// saturn show: an artefact as a person reads it.

#include <unistd.h>

#include "cli/artefact.h"
#include "cli/command.h"
#include "cli/profile_text.h"
#include "saturn/plan/plan.h"
#include "saturn/view/gantt_text.h"

namespace saturn::cli {
namespace {

Result<std::string> plan_text(const std::string& path, const Json& document, bool table) {
  SATURN_TRY(const plan::Plan plan, plan::plan_from_json(document, path));
  view::Schedule schedule = view::schedule_of(plan);
  schedule.title = path;
  const view::Terminal terminal = view::terminal_of(STDOUT_FILENO);
  if (table) return view::legend_text(schedule, terminal, {.most_legend = schedule.bars.size()});
  return view::schedule_text(schedule, terminal);
}

struct ShowArgs {
  std::string path;
  bool table = false;

  void declare(Options& options) {
    options.positional("FILE", path, "plan.json or profile.json");
    options.flag("--table", table, "every line, and nothing else");
  }

  Result<int> run(const Context& context) {
    SATURN_TRY(const Artefact artefact, open_artefact(path));
    std::string text;
    if (artefact.kind == "saturn.plan") {
      SATURN_TRY(text, plan_text(path, artefact.document, table));
    } else {
      SATURN_TRY(const profile::Profile profile, profile::profile_from_json(artefact.document, path));
      const view::Terminal terminal = view::terminal_of(STDOUT_FILENO);
      text = table ? trials_text(profile, terminal) : profile_text(profile, terminal);
    }
    if (context.json)
      print_json(artefact.document);
    else
      print(text);
    return 0;
  }
};

}  // namespace

CommandEntry show() {
  return {.name = "show",
          .summary = "Draw a plan, or list what a profile measured.",
          .example = "saturn show runs/sweep/plan.000.json",
          .declare = &make_action<ShowArgs>};
}

}  // namespace saturn::cli

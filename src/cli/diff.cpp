// saturn diff: what changed from one plan to another.

#include <unistd.h>

#include "cli/artefact.h"
#include "cli/command.h"
#include "saturn/view/plan_diff.h"

namespace saturn::cli {
namespace {

struct DiffArgs {
  std::string left;
  std::string right;
  bool detailed_exitcode = false;

  void declare(Options& options) {
    options.positional("A", left, "plan.json");
    options.positional("B", right, "another");
    options.flag("--detailed-exitcode", detailed_exitcode, "exit 10 where they differ, 0 where they do not");
  }

  Result<int> run(const Context& context) {
    SATURN_TRY(const Artefact a, open_artefact(left));
    SATURN_TRY(const Artefact b, open_artefact(right));
    SATURN_TRY(const plan::Plan before, plan::plan_from_json(a.document, left));
    SATURN_TRY(const plan::Plan after, plan::plan_from_json(b.document, right));
    if (context.json)
      print_json(view::changes_json(before, after));
    else
      print(view::changes_text(before, after, view::terminal_of(STDOUT_FILENO)));
    const bool differ = !view::changes(before, after).empty();
    return differ && detailed_exitcode ? 10 : 0;
  }
};

}  // namespace

CommandEntry diff() {
  return {.name = "diff",
          .summary = "Compare two plans, job by job.",
          .example = "saturn diff runs/sweep/plan.000.json runs/sweep/plan.001.json",
          .declare = &make_action<DiffArgs>};
}

}  // namespace saturn::cli

// saturn diff: what changed from one plan, or one profile, to another.

#include <unistd.h>

#include "cli/artefact.h"
#include "cli/command.h"
#include "cli/profile_text.h"
#include "saturn/view/plan_diff.h"

namespace saturn::cli {
namespace {

struct Difference {
  bool any = false;
  Json document;
  std::string text;
};

Result<Difference> between_plans(const std::string& left, const Json& a, const std::string& right,
                                 const Json& b) {
  SATURN_TRY(const plan::Plan before, plan::plan_from_json(a, left));
  SATURN_TRY(const plan::Plan after, plan::plan_from_json(b, right));
  return Difference{.any = !view::changes(before, after).empty(),
                    .document = view::changes_json(before, after),
                    .text = view::changes_text(before, after, view::terminal_of(STDOUT_FILENO))};
}

Result<Difference> between_profiles(const std::string& left, const Json& a, const std::string& right,
                                    const Json& b) {
  SATURN_TRY(const profile::Profile before, profile::profile_from_json(a, left));
  SATURN_TRY(const profile::Profile after, profile::profile_from_json(b, right));
  return Difference{.any = differ(before, after),
                    .document = profile_changes_json(before, after),
                    .text = profile_changes_text(before, after, view::terminal_of(STDOUT_FILENO))};
}

struct DiffArgs {
  std::string left;
  std::string right;
  bool detailed_exitcode = false;

  void declare(Options& options) {
    options.positional("A", left, "plan.json or profile.json");
    options.positional("B", right, "another of its kind");
    options.flag("--detailed-exitcode", detailed_exitcode, "exit 10 where they differ, 0 where they do not");
  }

  Result<int> run(const Context& context) {
    SATURN_TRY(const Artefact a, open_artefact(left));
    SATURN_TRY(const Artefact b, open_artefact(right));
    if (a.kind != b.kind) {
      return Diagnostic{.where = right + "#/format",
                        .what = "this is a " + b.kind + " and " + left + " is a " + a.kind,
                        .expected = "two plans, or two profiles"};
    }
    SATURN_TRY(const Difference difference, a.kind == "saturn.plan"
                                                ? between_plans(left, a.document, right, b.document)
                                                : between_profiles(left, a.document, right, b.document));
    if (context.json)
      print_json(difference.document);
    else
      print(difference.text);
    return difference.any && detailed_exitcode ? 10 : 0;
  }
};

}  // namespace

CommandEntry diff() {
  return {.name = "diff",
          .summary = "Compare two plans or two profiles, job by job.",
          .example = "saturn diff runs/sweep/plan.000.json runs/sweep/plan.001.json",
          .declare = &make_action<DiffArgs>};
}

}  // namespace saturn::cli

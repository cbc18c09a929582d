// saturn report: the run directory as one page.

#include "saturn/view/report.h"

#include "cli/command.h"

namespace saturn::cli {
namespace {

struct ReportArgs {
  std::string run_directory;

  void declare(Options& options) {
    options.positional("RUN", run_directory, "the run directory, as runs/sweep");
  }

  Result<int> run(const Context& context) {
    SATURN_TRY(const std::string path, view::write_report(journal::RunPaths(run_directory)));
    if (context.json) {
      print_json({{"report", path}});
    } else {
      print(path + "\n");
    }
    return 0;
  }
};

}  // namespace

CommandEntry report() {
  return {.name = "report",
          .summary = "Write report.html: summary, schedule planned and measured, loss curves.",
          .example = "saturn report runs/sweep",
          .declare = &make_action<ReportArgs>};
}

}  // namespace saturn::cli

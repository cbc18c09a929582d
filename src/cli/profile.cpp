// saturn profile: measures every speed class under every configuration, and writes profile.json.

#include "saturn/profile/profile.h"

#include <unistd.h>

#include "cli/profile_text.h"
#include "cli/stage.h"
#include "saturn/base/units.h"
#include "saturn/journal/run_directory.h"
#include "saturn/run/artefacts.h"
#include "saturn/view/terminal.h"

namespace saturn::cli {
namespace {

struct ProfileArgs {
  std::string batch;
  std::string directory;
  std::string out;
  std::string budget;

  void declare(Options& options) {
    options.positional("BATCH", batch, "the batch file");
    options.option("--dir", "RUN", directory, "the run directory", "runs/<batch name>");
    options.option("--out", "FILE", out, "write the profile here", "the run directory's");
    options.option("--budget", "TIME", budget, "start no trial after TIME, such as 90s or 5m", "the batch's");
  }

  Result<int> run(const Context& context) const {
    std::optional<double> budget_s;
    if (!budget.empty()) {
      budget_s = parse_duration_s(budget);
      if (!budget_s) {
        return Diagnostic{.what = "--budget " + in_quotes(budget) + " is not a duration",
                          .expected = "a number with a unit, such as 90s, 5m or 1h",
                          .fix = "--budget 5m"};
      }
    }
    SATURN_TRY(const Stage stage, open_stage(batch, directory, context.quiet));
    const SystemClock clock;
    SATURN_TRY(const journal::RunDirectory held, journal::RunDirectory::open(stage.directory, clock));
    StopSignals signals;
    SATURN_TRY(const std::unique_ptr<worker::Launcher> launcher, open_launcher(clock));
    launcher->set_wake_fds({signals.fd()});
    TrialProgress progress(context.quiet, clock);
    const std::string path = out.empty() ? held.paths().profile() : out;
    const Result<profile::Profile> measured = run::ensure_profile({.batch = &stage.batch,
                                                                   .machine = &stage.machine,
                                                                   .path = path,
                                                                   .trials_directory = held.paths().trials(),
                                                                   .budget_s = budget_s,
                                                                   .measure_failed = true,
                                                                   .stop =
                                                                       [&signals] {
                                                                         signals.drain();
                                                                         return StopSignals::count() > 0;
                                                                       }},
                                                                  *launcher, clock, progress);
    progress.finish();
    if (!measured.ok()) {
      if (measured.faults().front().kind != Kind::interrupted) return measured.faults();
      std::fputs(to_text(measured.faults()).c_str(), stderr);
      return exit_code_of_signal();
    }
    if (context.json) {
      print_json(profile::to_json(*measured));
    } else {
      print(profile_text(*measured, view::terminal_of(STDOUT_FILENO)) + "\nwritten to " + path + "\n");
    }
    return 0;
  }
};

}  // namespace

CommandEntry profile() {
  return {.name = "profile",
          .summary = "Measure every job under every technique and device count, and write profile.json.",
          .example = "saturn profile configs/kjv-sweep.toml --budget 5m",
          .declare = &make_action<ProfileArgs>};
}

}  // namespace saturn::cli

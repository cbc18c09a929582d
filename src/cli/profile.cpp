// saturn profile: measures what the plan of a batch depends on, and writes profile.json; lists what is kept.

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
  std::optional<double> gap;
  bool everything = false;
  bool list = false;

  void declare(Options& options) {
    options.optional_positional("BATCH", batch, "the batch file");
    options.option("--dir", "RUN", directory, "the run directory", "runs/<batch name>");
    options.option("--out", "FILE", out, "write the profile here", "the run directory's");
    options.option("--budget", "TIME", budget, "end within TIME, such as 90s or 5m", "the batch's");
    options.option("--gap", "SHARE", gap, "end where no trial improves the plan by more", "0.01");
    options.flag("--all", everything, "measure also what cannot win");
    options.flag("--list", list, "list the trials that are kept for other batches");
  }

  Result<int> run(const Context& context) const {
    const SystemClock clock;
    const std::optional<profile::TrialCache> cache = open_trial_cache(clock);
    if (list) return list_cache(cache, clock, context);
    if (batch.empty()) {
      return Diagnostic{.what = "nothing to measure was given",
                        .expected = "BATCH, or --list",
                        .fix = "saturn profile configs/kjv-sweep.toml"};
    }
    if (gap && !(*gap >= 0.0 && *gap < 1.0)) {
      return Diagnostic{.what = "--gap " + format_number(*gap, 6) + " is no share",
                        .expected = "0 or more and less than 1",
                        .fix = "--gap 0.01"};
    }
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
    SATURN_TRY_VOID(require_jobs(stage.batch));
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
                                                                   .gap = gap,
                                                                   .everything = everything,
                                                                   .cache = cache ? &*cache : nullptr,
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

  Result<int> list_cache(const std::optional<profile::TrialCache>& cache, const Clock& clock,
                         const Context& context) const {
    if (!cache) {
      return Diagnostic{.kind = Kind::machine,
                        .what = "no trials are kept: SATURN_TRIAL_CACHE is empty, or there is no HOME",
                        .fix = "unset SATURN_TRIAL_CACHE"};
    }
    const auto kept =
        cache->list([](const std::string& sentence) { std::fprintf(stderr, "%s\n", sentence.c_str()); });
    if (context.json) {
      print_json(cache_json(kept));
    } else {
      print(cache_text(kept, cache->directory(), clock.unix_s(), view::terminal_of(STDOUT_FILENO)));
    }
    return 0;
  }
};

}  // namespace

CommandEntry profile() {
  return {.name = "profile",
          .summary = "Measure what the plan of a batch depends on, and write profile.json.",
          .example = "saturn profile configs/kjv-sweep.toml --budget 5m",
          .declare = &make_action<ProfileArgs>};
}

}  // namespace saturn::cli

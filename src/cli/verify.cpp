// saturn verify: the same training under every configuration, proved by a few steps of each.

#include "saturn/verify/verify.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "cli/stage.h"
#include "saturn/base/files.h"
#include "saturn/base/units.h"
#include "saturn/journal/run_directory.h"
#include "saturn/view/terminal.h"
#include "saturn/view/text.h"

namespace saturn::cli {
namespace {

using profile::Outcome;
using view::Align;

std::string scientific(double value) {
  if (!std::isfinite(value)) return "infinite";
  char text[32];
  std::snprintf(text, sizeof text, "%.1e", value);
  return text;
}

std::string verdict_of(const verify::Compared& compared) {
  if (compared.outcome != Outcome::ok) return profile::name_of(compared.outcome);
  return compared.within ? "same" : "DIFFERS";
}

/// Shows what runs on stderr.
class Progress final : public verify::Observer {
 public:
  Progress(bool quiet, const Clock& clock) : display_(view::stderr_screen(quiet), clock) {}

  void on_begin(int num_configurations) override {
    num_configurations_ = num_configurations;
    display_.begin(num_configurations, 0);
  }
  void on_started(const std::string& job, const batch::Configuration& configuration,
                  const std::string&) override {
    now_ = job + " " + batch::to_text(configuration);
    display_.started(now_);
  }
  void on_step(int step, int num_steps) override { display_.step(now_, step, num_steps); }
  void on_ended(const std::string&, const verify::Compared& compared, const verify::Tolerance&) override {
    std::string result = verdict_of(compared);
    if (compared.outcome == Outcome::ok) {
      result += ", loss " + scientific(compared.loss_difference) + ", update " +
                scientific(compared.differences.update);
    } else {
      result += ": " + compared.reason;
    }
    display_.ended(now_, result, ++num_ended_, num_configurations_, -1.0);
  }
  void on_tick(double elapsed_s) override { display_.tick(elapsed_s); }
  void finish() { display_.finish(); }

 private:
  view::TrialDisplay display_;
  std::string now_;
  int num_configurations_ = 0;
  int num_ended_ = 0;
};

std::string report_text(const verify::Report& report, int num_steps, const view::Terminal& terminal) {
  std::string out;
  const auto say = [&](const std::string& text) {
    for (const std::string& line : view::wrapped(text, terminal.width, terminal.unicode)) out += line + "\n";
  };
  for (const verify::JobReport& job : report.jobs) {
    say("job " + job.name +
        (job.jobs.size() > 1 ? " and " + std::to_string(job.jobs.size() - 1) + " like it" : "") + ": " +
        std::to_string(num_steps) + " steps, compared with " +
        (job.reference.empty() ? "nothing" : job.reference));
    view::Table table({{.title = "configuration", .shrinks = true},
                       {.title = "result"},
                       {.title = "loss", .align = Align::right},
                       {.title = "update", .align = Align::right},
                       {.title = "gradient", .align = Align::right},
                       {.title = "worst tensor", .drop_order = 1}});
    for (const verify::Compared& one : job.configurations) {
      const bool ok = one.outcome == Outcome::ok;
      table.add({batch::to_text(one.configuration), verdict_of(one),
                 ok ? scientific(one.loss_difference) : "", ok ? scientific(one.differences.update) : "",
                 ok ? scientific(one.differences.gradient) : "", one.differences.update_tensor});
    }
    table.add({"tolerance", "", scientific(job.tolerance.loss), scientific(job.tolerance.update),
               scientific(job.tolerance.gradient), ""});
    out += table.text(terminal);
    for (const verify::Compared& one : job.configurations) {
      if (!one.reason.empty()) say(batch::to_text(one.configuration) + ": " + one.reason);
    }
    for (const std::string& warning : job.warnings) say("warning: " + warning);
    out += "\n";
  }
  say(report.passed() ? "every configuration that ran trains as its reference does"
                      : "some configuration does not train as its reference does");
  return out;
}

struct VerifyArgs {
  std::string batch;
  std::string directory;
  std::optional<std::int64_t> steps;

  void declare(Options& options) {
    options.positional("BATCH", batch, "the batch file");
    options.option("--steps", "N", steps, "steps of each training", "5");
    options.option("--dir", "RUN", directory, "the run directory, for what failed", "runs/<batch name>");
  }

  Result<int> run(const Context& context) const {
    constexpr std::int64_t kMostSteps = 1000;
    const std::int64_t num_steps = steps.value_or(5);
    if (num_steps < 1 || num_steps > kMostSteps) {
      return Diagnostic{.what = "--steps " + std::to_string(num_steps) + " cannot be verified",
                        .expected = "1 to " + std::to_string(kMostSteps),
                        .fix = "--steps 5"};
    }
    SATURN_TRY(const Stage stage, open_stage(batch, directory, context.quiet));
    const SystemClock clock;
    SATURN_TRY(const journal::RunDirectory held, journal::RunDirectory::open(stage.directory, clock));
    StopSignals signals;
    SATURN_TRY(const std::unique_ptr<worker::Launcher> launcher, open_launcher(clock));
    launcher->set_wake_fds({signals.fd()});
    Progress progress(context.quiet, clock);
    const Result<verify::Report> report = verify::verify({.batch = &stage.batch,
                                                          .machine = &stage.machine,
                                                          .num_steps = static_cast<int>(num_steps),
                                                          .directory = join_path(stage.directory, "verify"),
                                                          .stop =
                                                              [&signals] {
                                                                signals.drain();
                                                                return StopSignals::count() > 0;
                                                              }},
                                                         *launcher, clock, progress);
    progress.finish();
    if (!report.ok()) {
      if (report.faults().front().kind != Kind::interrupted) return report.faults();
      std::fputs(to_text(report.faults()).c_str(), stderr);
      return exit_code_of_signal();
    }
    if (context.json) {
      print_json(verify::to_json(*report));
    } else {
      print(report_text(*report, static_cast<int>(num_steps), view::terminal_of(STDOUT_FILENO)));
    }
    return report->passed() ? 0 : 1;
  }
};

}  // namespace

CommandEntry verify() {
  return {.name = "verify",
          .summary = "Train a few steps under every configuration and compare each with single.",
          .example = "saturn verify configs/kjv-sweep.toml --steps 5",
          .declare = &make_action<VerifyArgs>};
}

}  // namespace saturn::cli

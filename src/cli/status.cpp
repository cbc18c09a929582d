// saturn status: where a run stands, from its journal; also while another saturn runs it.

#include <unistd.h>

#include "cli/command.h"
#include "saturn/base/units.h"
#include "saturn/journal/run_directory.h"
#include "saturn/journal/summary.h"
#include "saturn/view/terminal.h"
#include "saturn/view/text.h"

namespace saturn::cli {
namespace {

std::string loss_text(const std::map<std::string, double>& metrics, const std::optional<double>& train_loss) {
  const auto validation = metrics.find("validation_loss");
  if (validation != metrics.end()) return format_number(validation->second) + " validation";
  return train_loss ? format_number(*train_loss) : "";
}

std::string configuration_of(const journal::JobRecord& record) {
  const journal::Attempt* const attempt = record.last_attempt();
  return attempt == nullptr ? "" : attempt->technique + " x" + std::to_string(attempt->num_devices);
}

struct StatusArgs {
  std::string directory;

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
  }

  Result<int> run(const Context& context) const {
    const journal::RunPaths paths(directory);
    SATURN_TRY(const journal::RunState state, journal::read_run_state(paths));
    const bool held = journal::is_locked(paths);
    // The journal's clock stands at its last event; a live run's jobs are measured up to that.
    const journal::Summary summary = journal::summarise(state);
    if (context.json) {
      Json document = journal::to_json(summary);
      document["outcome"] = held ? "running" : state.ended ? state.outcome : "stopped";
      print_json(document);
      return 0;
    }
    view::Table table({{.title = "job"},
                       {.title = "state"},
                       {.title = "as"},
                       {.title = "step", .align = view::Align::right},
                       {.title = "time", .align = view::Align::right},
                       {.title = "loss", .align = view::Align::right},
                       {.title = "why"}});
    for (const journal::JobRecord& record : state.jobs) {
      table.add({record.name, journal::to_string(record.state), configuration_of(record),
                 std::to_string(record.step) + "/" + std::to_string(record.num_steps),
                 record.attempts.empty() ? "" : format_duration(record.time_s(state.time_s)),
                 loss_text(record.metrics, record.train_loss),
                 record.state == journal::JobState::done ? "" : record.reason});
    }
    const std::string who =
        held ? "running, pid " + std::to_string(state.controller_pid) + " on " + state.controller_host
        : state.ended ? state.outcome
                      : "its controller is gone; `saturn run` goes on";
    print(state.batch_name + ": " + who + "\n\n" + table.text(view::terminal_of(STDOUT_FILENO)));
    return 0;
  }
};

}  // namespace

CommandEntry status() {
  return {.name = "status",
          .summary = "Show where a run stands, also while it runs.",
          .example = "saturn status runs/kjv-sweep",
          .declare = &make_action<StatusArgs>};
}

}  // namespace saturn::cli

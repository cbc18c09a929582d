// saturn status: where a run stands, from its journal; also while another saturn runs it.

#include <poll.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <sstream>

#include "cli/command.h"
#include "saturn/base/signals.h"
#include "saturn/base/units.h"
#include "saturn/journal/run_directory.h"
#include "saturn/journal/summary.h"
#include "saturn/run/progress.h"
#include "saturn/view/live_area.h"
#include "saturn/view/terminal.h"
#include "saturn/view/text.h"

namespace saturn::cli {
namespace {

constexpr int kWatchMs = 250;

std::string loss_text(const std::map<std::string, double>& metrics, const std::optional<double>& train_loss) {
  const auto validation = metrics.find("validation_loss");
  if (validation != metrics.end()) return format_number(validation->second) + " validation";
  return train_loss ? format_number(*train_loss) : "";
}

std::string configuration_of(const journal::JobRecord& record) {
  const journal::Attempt* const attempt = record.last_attempt();
  return attempt == nullptr ? "" : attempt->technique + " x" + std::to_string(attempt->num_devices);
}

// "1.9x as measured, 12 % slower lately"; empty while too few steps are timed, or nothing is out of order.
std::string pace_text(const journal::JobRecord& record) {
  const journal::Attempt* const attempt = record.last_attempt();
  if (attempt == nullptr || !journal::is_running(record.state)) return "";
  constexpr double kWorthTelling = 0.05;
  std::string text;
  const std::optional<double> slowdown = run::slowdown_of(*attempt, attempt->pace);
  if (slowdown && std::abs(*slowdown - 1.0) > kWorthTelling)
    text = format_number(std::round(100.0 * *slowdown) / 100.0) + "x the measured step";
  if (slowdown && std::abs(attempt->pace.drift) > kWorthTelling) {
    text += (text.empty() ? "" : ", ") + format_number(std::round(100.0 * std::abs(attempt->pace.drift))) +
            " % " + (attempt->pace.drift > 0.0 ? "slower" : "faster") + " lately";
  }
  return text;
}

// By its own steps; evaluations and saves not counted.
std::optional<double> left_s(const journal::JobRecord& record) {
  const journal::Attempt* const attempt = record.last_attempt();
  if (attempt == nullptr || !journal::is_running(record.state) || attempt->pace.num_timed == 0)
    return std::nullopt;
  return static_cast<double>(record.num_steps - record.step) * attempt->pace.typical_s;
}

// One look at a run.
struct Look {
  journal::RunState state;
  bool held = false;
};

Result<Look> look_at(const journal::RunPaths& paths) {
  SATURN_TRY(journal::RunState state, journal::read_run_state(paths));
  return Look{.state = std::move(state), .held = journal::is_locked(paths)};
}

std::string outcome_of(const Look& look) {
  return look.held ? "running" : look.state.ended ? look.state.outcome : "stopped";
}

// The journal's clock stands at its last event; a live run's jobs are measured up to that.
Json document_of(const Look& look) {
  Json document = journal::to_json(journal::summarise(look.state));
  document["outcome"] = outcome_of(look);
  for (std::size_t i = 0; i < look.state.jobs.size(); ++i) {
    const journal::JobRecord& record = look.state.jobs[i];
    const std::optional<double> left = left_s(record);
    if (!left) continue;
    const journal::Attempt& attempt = *record.last_attempt();
    document["jobs"][i]["pace"] = {{"step_time_s", attempt.pace.typical_s},
                                   {"planned_step_time_s", attempt.predicted_step_s},
                                   {"drift", attempt.pace.drift},
                                   {"num_timed", attempt.pace.num_timed},
                                   {"left_s", *left}};
  }
  Json& drained = document["drained"] = Json::array();
  for (const plan::Device& device : look.state.drained)
    drained.push_back(device.node + ":" + std::to_string(device.index));
  return document;
}

std::string text_of(const Look& look, const view::Terminal& terminal) {
  const journal::RunState& state = look.state;
  view::Table table({{.title = "job"},
                     {.title = "state"},
                     {.title = "as"},
                     {.title = "step", .align = view::Align::right},
                     {.title = "time", .align = view::Align::right},
                     {.title = "left", .align = view::Align::right, .drop_order = 1},
                     {.title = "loss", .align = view::Align::right},
                     {.title = "why"}});
  const journal::Summary summary = journal::summarise(state);
  for (std::size_t i = 0; i < state.jobs.size(); ++i) {
    const journal::JobRecord& record = state.jobs[i];
    std::string why = summary.jobs[i].reason;
    if (const std::string trouble = summary.jobs[i].trouble(); !trouble.empty())
      why += (why.empty() ? "" : "; ") + trouble;
    if (const std::string pace = pace_text(record); !pace.empty()) why += (why.empty() ? "" : "; ") + pace;
    const std::optional<double> left = left_s(record);
    table.add({record.name, journal::to_string(record.state), configuration_of(record),
               std::to_string(record.step) + "/" + std::to_string(record.num_steps),
               record.attempts.empty() ? "" : format_duration(record.time_s(state.time_s)),
               left ? format_duration(*left) : "", loss_text(record.metrics, record.train_loss), why});
  }
  std::string who =
      look.held     ? "running, pid " + std::to_string(state.controller_pid) + " on " + state.controller_host
      : state.ended ? state.outcome
                    : "its controller is gone; `saturn run` goes on";
  for (const plan::Device& device : state.drained)
    who += "; " + device.node + ":" + std::to_string(device.index) + " is drained";
  return state.batch_name + ": " + who + "\n\n" + table.text(terminal);
}

struct StatusArgs {
  std::string directory;
  bool watch = false;

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
    options.flag("--watch", watch, "go on showing it until the run ends; with --json a line per change");
  }

  Result<int> run(const Context& context) const {
    const journal::RunPaths paths(directory);
    if (watch) return follow(paths, context);
    SATURN_TRY(const Look look, look_at(paths));
    if (context.json) {
      print_json(document_of(look));
    } else {
      print(text_of(look, view::terminal_of(STDOUT_FILENO)));
    }
    return 0;
  }

  // Draws in place on a terminal; elsewhere prints what has changed, whole, each time.
  static Result<int> follow(const journal::RunPaths& paths, const Context& context) {
    StopSignals signals;
    view::LiveArea area([](const std::string& bytes) { return view::write_if_ready(STDOUT_FILENO, bytes); });
    std::uintmax_t known_bytes = 0;
    std::string shown;
    for (;;) {
      std::error_code ignored;
      const std::uintmax_t bytes = std::filesystem::file_size(paths.events(), ignored);
      const bool ended = StopSignals::count() > 0 || !journal::is_locked(paths);
      if (bytes != known_bytes || ended) {
        known_bytes = bytes;
        SATURN_TRY(const Look look, look_at(paths));
        show(look, context, area, shown);
      }
      if (ended) return 0;
      pollfd wake{.fd = signals.fd(), .events = POLLIN, .revents = 0};
      ::poll(&wake, 1, kWatchMs);
    }
  }

  static void show(const Look& look, const Context& context, view::LiveArea& area, std::string& shown) {
    const view::Terminal terminal = view::terminal_of(STDOUT_FILENO);
    const std::string now = context.json ? to_line(document_of(look)) + "\n" : text_of(look, terminal);
    if (now == shown) return;
    shown = now;
    if (context.json || !terminal.interactive) {
      print(now);
      return;
    }
    std::vector<std::string> lines;
    std::istringstream stream(now);
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    area.draw(lines, terminal);
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

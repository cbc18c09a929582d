// saturn accuracy: how good the predictions of a run were.

#include "saturn/run/accuracy.h"

#include <unistd.h>

#include "cli/command.h"
#include "saturn/base/units.h"
#include "saturn/journal/run_directory.h"
#include "saturn/view/terminal.h"
#include "saturn/view/text.h"

namespace saturn::cli {
namespace {

using run::Accuracy;
using run::AttemptAccuracy;
using run::Prediction;

struct Quantity {
  const char* title;
  const char* key;
  std::optional<Prediction> AttemptAccuracy::*of;
  std::string (*format)(double);
  int drop_order = 0;
};

constexpr Quantity kQuantities[] = {
    {"step", "step_time_s", &AttemptAccuracy::step_s, &format_duration, 5},
    {"start", "start_s", &AttemptAccuracy::start_s, &format_duration, 2},
    {"save", "save_s", &AttemptAccuracy::save_s, &format_duration, 1},
    {"whole", "total_s", &AttemptAccuracy::total_s, &format_duration, 4},
    {"memory", "memory_bytes", &AttemptAccuracy::memory_bytes, &format_bytes, 3},
};

Json to_json(const std::optional<Prediction>& prediction) {
  if (!prediction) return nullptr;
  return {{"predicted", prediction->predicted},
          {"measured", prediction->measured},
          {"error", prediction->error()}};
}

Json to_json(const Accuracy& accuracy) {
  Json document = {{"makespan_s", to_json(accuracy.makespan_s)}};
  Json& typical = document["typical_error"] = Json::object();
  for (const Quantity& quantity : kQuantities) {
    const std::optional<double> error = run::typical_error(accuracy, quantity.of);
    typical[quantity.key] = error ? Json(*error) : Json(nullptr);
  }
  Json& attempts = document["attempts"] = Json::array();
  for (const AttemptAccuracy& attempt : accuracy.attempts) {
    Json entry = {{"job", attempt.job},
                  {"attempt", attempt.number},
                  {"technique", attempt.technique},
                  {"num_devices", attempt.num_devices}};
    for (const Quantity& quantity : kQuantities) entry[quantity.key] = to_json(attempt.*quantity.of);
    attempts.push_back(std::move(entry));
  }
  return document;
}

std::string to_text(const Accuracy& accuracy, const view::Terminal& terminal) {
  std::vector<view::Column> columns = {{.title = "job", .shrinks = true}, {.title = "as"}};
  for (const Quantity& quantity : kQuantities)
    columns.push_back(
        {.title = quantity.title, .align = view::Align::right, .drop_order = quantity.drop_order});
  view::Table table(std::move(columns));
  for (const AttemptAccuracy& attempt : accuracy.attempts) {
    std::vector<std::string> row = {attempt.job,
                                    attempt.technique + " x" + std::to_string(attempt.num_devices)};
    for (const Quantity& quantity : kQuantities) {
      const std::optional<Prediction>& prediction = attempt.*quantity.of;
      row.push_back(prediction ? quantity.format(prediction->measured) + " (" +
                                     format_difference(prediction->error()) + ")"
                               : "");
    }
    table.add(std::move(row));
  }
  std::string text = table.text(terminal) + "\n";
  for (const Quantity& quantity : kQuantities) {
    if (const std::optional<double> error = run::typical_error(accuracy, quantity.of))
      text += std::string(text.ends_with("\n") ? "typical error: " : ", ") + quantity.title + " " +
              format_percent(*error);
  }
  if (!text.ends_with("\n")) text += "\n";
  if (accuracy.makespan_s)
    text += "makespan " + format_duration(accuracy.makespan_s->measured) + ", predicted " +
            format_duration(accuracy.makespan_s->predicted) + " (" +
            format_difference(accuracy.makespan_s->error()) + ")\n";
  return text;
}

struct AccuracyArgs {
  std::string directory;

  void declare(Options& options) {
    options.positional("RUN", directory, "the run directory, such as runs/sweep");
  }

  Result<int> run(const Context& context) const {
    const journal::RunPaths paths(directory);
    SATURN_TRY(const journal::RunState state, journal::read_run_state(paths));
    SATURN_TRY(const profile::Profile profile, profile::read_profile(paths.profile()));
    const Accuracy accuracy = run::accuracy_of(state, profile);
    if (context.json) {
      print_json(to_json(accuracy));
    } else {
      print(to_text(accuracy, view::terminal_of(STDOUT_FILENO)));
    }
    return 0;
  }
};

}  // namespace

CommandEntry accuracy() {
  return {.name = "accuracy",
          .summary = "Compare what was predicted of a run with what it came to.",
          .example = "saturn accuracy runs/kjv-sweep",
          .declare = &make_action<AccuracyArgs>};
}

}  // namespace saturn::cli

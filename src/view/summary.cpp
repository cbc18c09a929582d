// The closing table of a run.

#include "saturn/view/summary.h"

#include <cmath>
#include <cstdio>

#include "saturn/base/units.h"
#include "saturn/view/schedule.h"
#include "saturn/view/text.h"
#include "view/paint.h"

namespace saturn::view {
namespace {

std::string loss_text(std::optional<double> loss) {
  if (!loss) return "";
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", *loss);
  return text;
}

std::optional<double> metric(const journal::JobSummary& job, const std::string& name) {
  const auto found = job.validation.find(name);
  return found == job.validation.end() ? std::nullopt : std::optional(found->second);
}

// Predicted over measured, minus 1.
std::optional<double> error_of(const journal::JobSummary& job) {
  if (!job.predicted_time_s || !job.last_attempt_s || *job.last_attempt_s <= 0) return std::nullopt;
  return *job.predicted_time_s / *job.last_attempt_s - 1;
}

std::string techniques_text(const journal::JobSummary& job) {
  std::string text;
  for (const std::string& technique : job.techniques) text += (text.empty() ? "" : ", then ") + technique;
  return text;
}

// "0-1", or "n0:0-1" where the run used more than one node.
std::string devices_text(const journal::Summary& summary, const journal::JobSummary& job) {
  Schedule schedule;
  std::string first_node;
  bool several = false;
  for (const journal::JobSummary& other : summary.jobs) {
    for (const plan::Device& device : other.devices) {
      if (first_node.empty()) first_node = device.node;
      several |= device.node != first_node;
    }
  }
  std::vector<std::size_t> lanes;
  for (const plan::Device& device : job.devices) {
    lanes.push_back(schedule.lanes.size());
    schedule.lanes.push_back({device.node, device.index});
  }
  return lanes_text(schedule, lanes, several);
}

std::string accuracy_text(const journal::JobSummary& job) {
  const std::optional<double> accuracy = metric(job, "accuracy");
  return accuracy ? format_percent(*accuracy) : "";
}

std::string counted(std::size_t count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

}  // namespace

std::string summary_text(const journal::Summary& summary, const Terminal& terminal) {
  Table table({{.title = ""},
               {.title = "job", .shrinks = true},
               {.title = "state", .drop_order = 6},
               {.title = "technique", .shrinks = true, .drop_order = 5},
               {.title = "on", .shrinks = true, .drop_order = 3},
               {.title = "steps", .align = Align::right, .drop_order = 1},
               {.title = "planned", .align = Align::right, .drop_order = 4},
               {.title = "took", .align = Align::right, .drop_order = 8},
               {.title = "error", .align = Align::right, .drop_order = 2},
               {.title = "train", .align = Align::right, .drop_order = 7},
               {.title = "valid", .align = Align::right, .drop_order = 10},
               {.title = "unigram", .align = Align::right, .drop_order = 9},
               {.title = "accuracy", .align = Align::right, .drop_order = 11}});
  std::size_t num_done = 0;
  bool any_unigram = false;
  for (const journal::JobSummary& job : summary.jobs) {
    const bool best = summary.best_job == job.name;
    const std::optional<double> error = error_of(job);
    const std::optional<double> loss = metric(job, "loss");
    const std::optional<double> unigram = metric(job, "unigram_loss");
    const bool has_ratio = loss && unigram && *unigram > 0;
    const bool whole = job.state == journal::JobState::done;
    num_done += whole ? 1 : 0;
    any_unigram |= has_ratio;
    table.add({best ? glyphs(terminal.unicode).best : "", job.name, journal::to_string(job.state),
               techniques_text(job), devices_text(summary, job),
               std::to_string(job.steps) + (whole ? "" : " of " + std::to_string(job.num_steps)),
               job.predicted_time_s ? format_duration(*job.predicted_time_s) : "",
               job.attempts > 0 ? format_duration(job.last_attempt_s.value_or(job.time_s)) : "",
               error ? format_difference(*error) : "", loss_text(job.train_loss), loss_text(loss),
               has_ratio ? format_difference(*loss / *unigram - 1) : "", accuracy_text(job)});
  }
  std::string out = table.text(terminal);
  const auto say = [&](const std::string& text) {
    for (const std::string& line : wrapped(text, terminal.width, terminal.unicode)) out += line + "\n";
  };

  if (any_unigram) say("unigram: validation loss against that of a unigram model");
  out += "\n";
  for (const journal::JobSummary& job : summary.jobs) {
    if (const std::string trouble = job.trouble(); !trouble.empty()) say(job.name + ": " + trouble);
    if (job.reason.empty() || job.state == journal::JobState::done) continue;
    say(job.name + " " + journal::to_string(job.state) + ": " + job.reason);
  }
  std::string makespan = std::to_string(num_done) + " of " + counted(summary.jobs.size(), "job") +
                         " done; makespan " + format_duration(summary.makespan_s);
  if (summary.predicted_makespan_s) {
    makespan += ", predicted " + format_duration(*summary.predicted_makespan_s);
    const auto error = summary.prediction_error();  // says nothing of a run that is not whole
    if (error && num_done == summary.jobs.size()) makespan += " (error " + format_difference(*error) + ")";
  }
  say(makespan + ".");
  for (const journal::IntrospectionSummary& one : summary.introspections) {
    std::string text = "At " + format_duration(one.time_s) + ", " + one.trigger + ": " + one.reason;
    if (one.predicted_gain_s) text += " (predicted " + format_duration(*one.predicted_gain_s);
    if (one.realised_gain_s) {
      text += *one.realised_gain_s < 0.0 ? ", lost " : ", gained ";
      text += format_duration(std::abs(*one.realised_gain_s));
    }
    say(text + (one.predicted_gain_s ? ")." : "."));
  }
  if (summary.best_job) {
    for (const journal::JobSummary& job : summary.jobs) {
      if (job.name != *summary.best_job) continue;
      const std::optional<double> loss = metric(job, "loss");
      say("Best: " + job.name +
          (loss             ? ", validation loss " + loss_text(loss)
           : job.train_loss ? ", train loss " + loss_text(job.train_loss)
                            : "") +
          (job.model_dir.empty() ? "" : ", weights in " + job.model_dir) + ".");
    }
  }
  return out;
}

}  // namespace saturn::view

// Trials in columns.

#include "cli/profile_text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>
#include <tuple>

#include "saturn/base/files.h"
#include "saturn/base/units.h"
#include "saturn/view/text.h"

namespace saturn::cli {
namespace {

using profile::Outcome;
using profile::Profile;
using profile::Trial;
using view::Align;

/// A technique on so many devices, for a class of jobs; whatever its knobs.
using Way = std::tuple<std::string, std::string, std::string, int>;

Way way_of(const Trial& trial) {
  const batch::Configuration& one = trial.configuration;
  return {trial.job_class, one.technique, one.device_class, one.num_devices};
}

std::string milliseconds(double seconds) {
  if (seconds <= 0) return "";
  char text[32];
  std::snprintf(text, sizeof text, 1e3 * seconds < 100 ? "%.2f" : "%.0f", 1e3 * seconds);
  return text;
}

// "gpt2-1e-3-b8 +3": the jobs that share a trial.
std::string jobs_text(const Trial& trial) {
  if (trial.jobs.empty()) return trial.job_class;
  return trial.jobs.front() + (trial.jobs.size() > 1 ? " +" + std::to_string(trial.jobs.size() - 1) : "");
}

// "14.2", or what it is estimated at with its bounds: "~14.2 (11.9 to 17.0)".
std::string step_text(const Trial& trial) {
  if (trial.step_time_high_s <= 0) return milliseconds(trial.step_time_s);
  return "~" + milliseconds(trial.step_time_s) + " (" + milliseconds(trial.step_time_low_s) + " to " +
         milliseconds(trial.step_time_high_s) + ")";
}

std::string seconds_text(double seconds) {
  return seconds > 0 ? format_duration(seconds) : "";
}

// What a rank used; what it would need at least where that was too much.
std::string memory_text(const Trial& trial) {
  if (trial.outcome == Outcome::ok) return format_bytes(static_cast<double>(trial.memory_peak_bytes));
  return trial.needed_bytes > 0 ? "> " + format_bytes(static_cast<double>(trial.needed_bytes)) : "";
}

// A trial with its counterpart in the other profile; nullptr where that has none.
struct Pair {
  const Trial* left = nullptr;
  const Trial* right = nullptr;

  const Trial& any() const { return left != nullptr ? *left : *right; }
};

std::vector<Pair> paired(const Profile& left, const Profile& right) {
  std::vector<Pair> pairs;
  for (const Trial& trial : left.trials) pairs.push_back({&trial, right.find_id(trial.id)});
  for (const Trial& trial : right.trials) {
    if (left.find_id(trial.id) == nullptr) pairs.push_back({nullptr, &trial});
  }
  return pairs;
}

bool same(const Pair& pair) {
  if (pair.left == nullptr || pair.right == nullptr) return false;
  return pair.left->outcome == pair.right->outcome && pair.left->step_time_s == pair.right->step_time_s &&
         pair.left->memory_peak_bytes == pair.right->memory_peak_bytes;
}

std::string side_text(const Trial* trial) {
  if (trial == nullptr) return "-";
  return trial->outcome == Outcome::ok ? milliseconds(trial->step_time_s) : profile::name_of(trial->outcome);
}

std::string change_text(const Pair& pair) {
  if (pair.left == nullptr) return "added";
  if (pair.right == nullptr) return "removed";
  if (pair.left->outcome != Outcome::ok || pair.right->outcome != Outcome::ok)
    return same(pair) ? "" : "outcome";
  if (pair.left->step_time_s <= 0) return "";
  return format_difference(pair.right->step_time_s / pair.left->step_time_s - 1);
}

}  // namespace

std::string trials_text(const Profile& profile, const view::Terminal& terminal) {
  view::Table table({{.title = "jobs", .shrinks = true},
                     {.title = "configuration", .shrinks = true},
                     {.title = "on"},
                     {.title = "outcome"},
                     {.title = "ms/step", .align = Align::right},
                     {.title = "spread", .align = Align::right, .drop_order = 4},
                     {.title = "samples/s", .align = Align::right, .drop_order = 7},
                     {.title = "memory", .align = Align::right, .drop_order = 8},
                     {.title = "start", .align = Align::right, .drop_order = 6},
                     {.title = "save", .align = Align::right, .drop_order = 3},
                     {.title = "load", .align = Align::right, .drop_order = 2},
                     {.title = "meanwhile", .drop_order = 5},
                     {.title = "source", .drop_order = 1}});
  for (const Trial& trial : profile.trials) {
    const bool ok = trial.outcome == Outcome::ok;
    const bool has_spread = ok && trial.step_time_s > 0 && trial.is_measured();
    table.add({jobs_text(trial), batch::to_text(trial.configuration), trial.configuration.device_class,
               profile::name_of(trial.outcome), ok ? step_text(trial) : "",
               has_spread ? format_percent(trial.step_time_spread_s / trial.step_time_s) : "",
               ok ? format_number(trial.samples_per_s, 4) : "", memory_text(trial),
               seconds_text(trial.start_time_s), seconds_text(trial.save_time_s),
               seconds_text(trial.load_time_s), trial.concurrency, profile::name_of(trial.source)});
  }
  return table.empty() ? "no trials\n" : table.text(terminal);
}

std::string profile_text(const Profile& profile, const view::Terminal& terminal) {
  std::string out;
  const auto say = [&](const std::string& text) {
    for (const std::string& line : view::wrapped(text, terminal.width, terminal.unicode)) out += line + "\n";
  };
  const int num_devices = profile.machine.num_devices();
  const auto num_estimated =
      std::count_if(profile.trials.begin(), profile.trials.end(),
                    [](const Trial& trial) { return trial.outcome == Outcome::ok && !trial.is_measured(); });
  const auto num_trials = static_cast<std::ptrdiff_t>(profile.trials.size()) - num_estimated;
  say(std::to_string(num_trials) + (num_trials == 1 ? " trial" : " trials") +
      (num_estimated > 0 ? " and " + std::to_string(num_estimated) + " estimated" : "") + " on " +
      std::to_string(num_devices) + (num_devices == 1 ? " device of " : " devices of ") +
      profile.machine.cpu_model);
  out += "\n" + trials_text(profile, terminal);
  bool first = true;
  for (const Trial& trial : profile.trials) {
    if (trial.outcome == Outcome::ok || trial.reason.empty()) continue;
    if (first) out += "\n";
    first = false;
    say(trial.id + ": " + trial.reason);
  }
  if (!profile.untried.empty()) out += "\n";
  std::size_t num_left_out = 0, num_settled = 0, num_other_knobs = 0;
  std::set<Way> ways;  // that were measured, or told here to have not been
  for (const Trial& trial : profile.trials) ways.insert(way_of(trial));
  for (const profile::Untried& untried : profile.untried) {
    if (untried.why == profile::Untried::Why::budget) {
      ++num_left_out;
      continue;
    }
    if (untried.why == profile::Untried::Why::settled) {
      ++num_settled;
      continue;
    }
    if (!ways.insert(way_of(untried.trial)).second) {
      ++num_other_knobs;
      continue;
    }
    say("not tried: " + batch::to_text(untried.trial.configuration) + " for " + jobs_text(untried.trial) +
        ": " + untried.reason);
  }
  if (num_other_knobs > 0) {
    say("not tried: " + std::to_string(num_other_knobs) + " other " +
        (num_other_knobs == 1 ? "setting" : "settings") +
        " of their knobs, which could not win; profile.json tells each");
  }
  if (num_left_out > 0) {
    say(std::to_string(num_left_out) + (num_left_out == 1 ? " configuration was" : " configurations were") +
        " left out: the budget was spent");
  }
  if (num_settled > 0)
    say(std::to_string(num_settled) + (num_settled == 1 ? " configuration was" : " configurations were") +
        " left out");
  if (profile.decision) {
    say("measuring ended: " + profile.decision->reason);
    if (profile.decision->num_predicted > 0) {
      say("of " + std::to_string(profile.decision->num_predicted) + " trials estimated before they ran " +
          std::to_string(profile.decision->num_missed) +
          " came out of their bounds; the estimates were off by " +
          format_percent(profile.decision->typical_error) + " in the median");
    }
  }
  return out;
}

std::string cache_text(const std::vector<profile::CachedConditions>& kept, const std::string& directory,
                       double now_unix_s, const view::Terminal& terminal) {
  if (kept.empty()) return "no trials are kept in " + directory + "\n";
  view::Table table({{.title = "hardware", .shrinks = true},
                     {.title = "trials", .align = Align::right},
                     {.title = "corrected", .align = Align::right, .drop_order = 2},
                     {.title = "models", .shrinks = true},
                     {.title = "saturn", .drop_order = 1},
                     {.title = "age", .align = Align::right},
                     {.title = "folder"}});
  for (const profile::CachedConditions& one : kept) {
    std::string classes, models;
    for (const std::string& name : one.device_classes) classes += (classes.empty() ? "" : ", ") + name;
    for (const std::string& name : one.job_classes) models += (models.empty() ? "" : ", ") + name;
    table.add({std::to_string(one.num_devices) + " " + classes + " of " + one.cpu_model,
               std::to_string(one.num_trials), std::to_string(one.num_corrected), models,
               one.conditions.saturn, format_duration(std::max(0.0, now_unix_s - one.newest_unix_s)),
               file_name_of(one.folder)});
  }
  return table.text(terminal) + "\nin " + directory + "; `rm -r` of a folder forgets it\n";
}

Json cache_json(const std::vector<profile::CachedConditions>& kept) {
  Json all = Json::array();
  for (const profile::CachedConditions& one : kept) {
    Json entry = {{"folder", one.folder},
                  {"fingerprint", one.conditions.fingerprint},
                  {"saturn", one.conditions.saturn},
                  {"warmup_steps", one.conditions.warmup_steps},
                  {"trial_steps", one.conditions.trial_steps},
                  {"cpu_model", one.cpu_model},
                  {"num_devices", one.num_devices},
                  {"num_trials", one.num_trials},
                  {"num_corrected", one.num_corrected},
                  {"newest_unix_s", one.newest_unix_s}};
    entry["device_classes"] = one.device_classes;
    entry["job_classes"] = one.job_classes;
    all.push_back(std::move(entry));
  }
  return {{"kept", std::move(all)}};
}

bool differ(const Profile& left, const Profile& right) {
  const std::vector<Pair> pairs = paired(left, right);
  return !std::all_of(pairs.begin(), pairs.end(), same);
}

std::string profile_changes_text(const Profile& left, const Profile& right, const view::Terminal& terminal) {
  view::Table table({{.title = "jobs", .shrinks = true},
                     {.title = "configuration", .shrinks = true},
                     {.title = "before", .align = Align::right},
                     {.title = "after", .align = Align::right},
                     {.title = "change", .align = Align::right}});
  for (const Pair& pair : paired(left, right)) {
    if (same(pair)) continue;
    table.add({jobs_text(pair.any()), batch::to_text(pair.any().configuration), side_text(pair.left),
               side_text(pair.right), change_text(pair)});
  }
  return table.empty() ? "No trial differs.\n" : table.text(terminal) + "times in ms a step\n";
}

Json profile_changes_json(const Profile& left, const Profile& right) {
  const auto side = [](const Trial* trial) -> Json {
    if (trial == nullptr) return nullptr;
    return {{"id", trial->id},
            {"outcome", profile::name_of(trial->outcome)},
            {"step_time_s", trial->step_time_s},
            {"memory_peak_bytes", trial->memory_peak_bytes}};
  };
  Json changes = Json::array();
  for (const Pair& pair : paired(left, right)) {
    if (same(pair)) continue;
    changes.push_back({{"job_class", pair.any().job_class},
                       {"configuration", batch::to_text(pair.any().configuration)},
                       {"left", side(pair.left)},
                       {"right", side(pair.right)}});
  }
  return {{"changes", std::move(changes)}};
}

}  // namespace saturn::cli

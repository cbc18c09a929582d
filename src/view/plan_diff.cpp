// Two plans side by side.

#include "saturn/view/plan_diff.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "saturn/base/units.h"
#include "saturn/view/schedule.h"
#include "saturn/view/text.h"

namespace saturn::view {
namespace {

using Segments = std::vector<plan::Assignment>;

// Jobs in order of appearance, with their segments in order.
std::vector<std::pair<std::string, Segments>> by_job(const plan::Plan& plan) {
  std::vector<std::pair<std::string, Segments>> jobs;
  std::map<std::string, std::size_t> index;
  for (const plan::Assignment& assignment : plan.assignments) {
    const auto [found, is_new] = index.emplace(assignment.job, jobs.size());
    if (is_new) jobs.emplace_back(assignment.job, Segments{});
    jobs[found->second].second.push_back(assignment);
  }
  for (auto& [job, segments] : jobs) {
    std::stable_sort(segments.begin(), segments.end(),
                     [](const auto& a, const auto& b) { return a.segment < b.segment; });
  }
  return jobs;
}

bool same_time(double a, double b) {
  return std::abs(a - b) <= 1e-6 * std::max({1.0, std::abs(a), std::abs(b)});
}

bool same_configuration(const plan::Assignment& a, const plan::Assignment& b) {
  return a.technique == b.technique && a.devices.size() == b.devices.size() && a.num_ranks == b.num_ranks &&
         a.knobs == b.knobs && a.from_step == b.from_step && a.to_step == b.to_step;
}

bool same_devices(const plan::Assignment& a, const plan::Assignment& b) {
  return std::is_permutation(a.devices.begin(), a.devices.end(), b.devices.begin(), b.devices.end());
}

template <class Same>
bool all_same(const Segments& left, const Segments& right, const Same& same) {
  return std::equal(left.begin(), left.end(), right.begin(), right.end(), same);
}

std::string assignments_text(const Segments& segments) {
  std::string text;
  for (const plan::Assignment& assignment : segments) {
    Schedule schedule;
    Bar bar{.technique = assignment.technique, .num_ranks = assignment.num_ranks};
    for (const plan::Device& device : assignment.devices) {
      bar.lanes.push_back(schedule.lanes.size());
      schedule.lanes.push_back({device.node, device.index});
    }
    text += (text.empty() ? "" : ", then ") + configuration_text(bar) + " on " +
            lanes_text(schedule, bar.lanes, true) + " at " + format_duration(assignment.start_s) + " for " +
            format_duration(assignment.duration_s);
  }
  return text.empty() ? "-" : text;
}

Json assignments_json(const Segments& segments) {
  Json out = Json::array();
  for (const plan::Assignment& assignment : segments) {
    Json devices = Json::array();
    for (const plan::Device& device : assignment.devices)
      devices.push_back(device.node + ":" + std::to_string(device.index));
    out.push_back({{"technique", assignment.technique},
                   {"devices", std::move(devices)},
                   {"num_ranks", assignment.num_ranks},
                   {"start_s", assignment.start_s},
                   {"duration_s", assignment.duration_s}});
  }
  return out;
}

}  // namespace

const char* to_string(Change change) {
  switch (change) {
    case Change::added:
      return "added";
    case Change::removed:
      return "removed";
    case Change::configuration:
      return "configuration";
    case Change::devices:
      return "devices";
    case Change::times:
      return "times";
  }
  return "";
}

std::vector<JobChange> changes(const plan::Plan& left, const plan::Plan& right) {
  std::map<std::string, Segments> rights;
  for (auto& [job, segments] : by_job(right)) rights.emplace(job, std::move(segments));
  std::vector<JobChange> out;
  std::map<std::string, bool> in_left;
  for (auto& [job, segments] : by_job(left)) {
    in_left[job] = true;
    const auto found = rights.find(job);
    if (found == rights.end()) {
      out.push_back({job, Change::removed, std::move(segments), {}});
      continue;
    }
    const Segments& others = found->second;
    const auto same_times = [](const auto& a, const auto& b) {
      return same_time(a.start_s, b.start_s) && same_time(a.duration_s, b.duration_s);
    };
    if (!all_same(segments, others, same_configuration))
      out.push_back({job, Change::configuration, std::move(segments), others});
    else if (!all_same(segments, others, same_devices))
      out.push_back({job, Change::devices, std::move(segments), others});
    else if (!all_same(segments, others, same_times))
      out.push_back({job, Change::times, std::move(segments), others});
  }
  for (auto& [job, segments] : by_job(right)) {
    if (!in_left[job]) out.push_back({job, Change::added, {}, std::move(segments)});
  }
  return out;
}

std::string changes_text(const plan::Plan& left, const plan::Plan& right, const Terminal& terminal) {
  const std::vector<JobChange> all = changes(left, right);
  Table table({{.title = "job", .shrinks = true},
               {.title = "changed", .drop_order = 1},
               {.title = "before", .shrinks = true},
               {.title = "after", .shrinks = true}});
  for (const JobChange& one : all)
    table.add({one.job, to_string(one.change), assignments_text(one.left), assignments_text(one.right)});
  std::string out = table.empty() ? "No job is planned differently.\n" : table.text(terminal);
  std::string makespans =
      "makespan " + format_duration(left.makespan_s) + ", then " + format_duration(right.makespan_s);
  if (left.makespan_s > 0) {
    char change[32];
    std::snprintf(change, sizeof change, " (%+.1f %%)", 100 * (right.makespan_s / left.makespan_s - 1));
    makespans += change;
  }
  for (const std::string& line : wrapped(makespans, terminal.width, terminal.unicode)) out += line + "\n";
  return out;
}

Json changes_json(const plan::Plan& left, const plan::Plan& right) {
  Json document = Json::object();
  document["makespan_s"] = {left.makespan_s, right.makespan_s};
  document["changes"] = Json::array();
  for (const JobChange& one : changes(left, right)) {
    document["changes"].push_back({{"job", one.job},
                                   {"change", to_string(one.change)},
                                   {"left", assignments_json(one.left)},
                                   {"right", assignments_json(one.right)}});
  }
  return document;
}

}  // namespace saturn::view

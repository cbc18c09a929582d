// A schedule from a plan or from a run, and what every drawing asks of it.

#include "saturn/view/schedule.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "saturn/base/units.h"

namespace saturn::view {
namespace {

// Finds jobs and lanes by name, and adds those that are new.
class Builder {
 public:
  explicit Builder(Schedule& schedule) : schedule_(schedule) {
    for (std::size_t j = 0; j < schedule.jobs.size(); ++j) jobs_.emplace(schedule.jobs[j], j);
    for (const Lane& lane : schedule.lanes) add_lane(lane.node, lane.device);
  }

  std::size_t job(const std::string& name) {
    const auto [found, is_new] = jobs_.emplace(name, schedule_.jobs.size());
    if (is_new) schedule_.jobs.push_back(name);
    return found->second;
  }

  void add_lane(const std::string& node, int device) {
    const auto [found, is_new] = devices_.try_emplace(node);
    if (is_new) nodes_.push_back(node);
    found->second.insert(device);
  }

  void add(Bar bar, std::vector<plan::Device> devices) {
    for (const plan::Device& device : devices) add_lane(device.node, device.index);
    schedule_.bars.push_back(std::move(bar));
    bar_devices_.push_back(std::move(devices));
  }

  /// Lays the lanes out, by node in order of appearance, and puts the bars that were added on them. Devices
  /// below one that is used exist too (but an index from a file is no reason to make millions of lanes).
  void finish() {
    constexpr int kMostFilled = 64;
    std::map<std::pair<std::string, int>, std::size_t> lanes;
    schedule_.lanes.clear();
    for (const std::string& node : nodes_) {
      std::set<int>& devices = devices_[node];
      if (!devices.empty() && *devices.rbegin() < kMostFilled) {
        for (int d = 0; d < *devices.rbegin(); ++d) devices.insert(d);
      }
      for (const int device : devices) {
        lanes.emplace(std::pair(node, device), schedule_.lanes.size());
        schedule_.lanes.push_back({node, device});
      }
    }
    const std::size_t first_bar = schedule_.bars.size() - bar_devices_.size();
    for (std::size_t i = 0; i < bar_devices_.size(); ++i) {
      std::vector<std::size_t>& of_bar = schedule_.bars[first_bar + i].lanes;
      for (const plan::Device& device : bar_devices_[i])
        of_bar.push_back(lanes.at({device.node, device.index}));
      std::sort(of_bar.begin(), of_bar.end());
    }
  }

 private:
  Schedule& schedule_;
  std::map<std::string, std::size_t> jobs_;
  std::vector<std::string> nodes_;
  std::map<std::string, std::set<int>> devices_;
  std::vector<std::vector<plan::Device>> bar_devices_;  // of the bars added
};

std::string outcome_of(const journal::Attempt& attempt) {
  if (!attempt.end_s) return "running";
  if (attempt.by_search) return attempt.next == journal::JobState::paused ? "paused" : "stopped early";
  if (attempt.requested) return "stopped";
  return attempt.error_class.empty() ? "" : "failed";
}

std::vector<plan::Device> devices_of(const Schedule& schedule, const Bar& bar) {
  std::vector<plan::Device> devices;
  for (const std::size_t lane : bar.lanes)
    devices.push_back({schedule.lanes[lane].node, schedule.lanes[lane].device});
  return devices;
}

Certificate certificate_of(const plan::Plan& plan) {
  Certificate certificate{.makespan_s = plan.makespan_s,
                          .lower_bound_s = plan.lower_bound_s,
                          .gap = plan.gap(),
                          .status = plan::name_of(plan.status),
                          .found_by = plan.solver.found_by,
                          .bound_by = plan.solver.bound_by,
                          .baselines = plan.baselines};
  if (plan.objective != plan::Objective::makespan) {
    certificate.objective = std::string(plan::name_of(plan.objective)) + " = " +
                            format_number(plan.objective_value, 7) + ", at least " +
                            format_number(plan.objective_bound, 7);
  }
  certificate.solver = "policy " + plan.solver.policy + ", seed " + std::to_string(plan.solver.seed) + ", " +
                       format_count(static_cast<double>(plan.solver.iterations)) + " iterations in " +
                       format_duration(plan.solver.wall_s);
  return certificate;
}

// `schedule` again, on the lanes and with the jobs of `first` before its own.
Schedule laid_on(const Schedule& first, const Schedule& schedule) {
  Schedule out = schedule;
  out.lanes = first.lanes;
  out.jobs = first.jobs;
  out.bars.clear();
  Builder builder(out);
  for (const Lane& lane : schedule.lanes) builder.add_lane(lane.node, lane.device);
  for (const std::string& job : schedule.jobs) builder.job(job);
  for (const Bar& bar : schedule.bars) {
    Bar moved = bar;
    moved.job = builder.job(schedule.jobs[bar.job]);
    moved.lanes.clear();
    builder.add(std::move(moved), devices_of(schedule, bar));
  }
  builder.finish();
  return out;
}

}  // namespace

Schedule schedule_of(const plan::Plan& plan, const std::vector<plan::Node>& nodes) {
  Schedule schedule;
  Builder builder(schedule);
  for (const plan::Node& node : nodes) {
    for (int d = 0; d < node.num_devices; ++d) builder.add_lane(node.name, d);
  }
  for (const plan::Assignment& assignment : plan.assignments) {
    Bar bar{.job = builder.job(assignment.job),
            .segment = assignment.segment,
            .technique = assignment.technique,
            .num_ranks = assignment.num_ranks,
            .start_s = assignment.start_s,
            .duration_s = assignment.duration_s};
    const bool has_steps = assignment.to_step > 1 || assignment.from_step > 0;  // a bare table has none
    if (has_steps) {
      bar.from_step = assignment.from_step;
      bar.to_step = assignment.to_step;
    }
    builder.add(std::move(bar), assignment.devices);
  }
  builder.finish();
  if (plan.origin_s > 0) schedule.zero = "Time 0 is " + format_duration(plan.origin_s) + " into the run.";
  schedule.certificate = certificate_of(plan);
  return schedule;
}

Schedule schedule_of(const journal::RunState& state, double now_s) {
  Schedule schedule;
  Builder builder(schedule);
  for (const journal::JobRecord& job : state.jobs) {
    const std::size_t index = builder.job(job.name);
    for (const journal::Attempt& attempt : job.attempts) {
      const double end_s = attempt.end_s.value_or(std::max(now_s, attempt.start_s));
      builder.add(Bar{.job = index,
                      .segment = attempt.number,
                      .technique = attempt.technique,
                      .num_ranks = attempt.num_ranks,
                      .start_s = attempt.start_s,
                      .duration_s = end_s - attempt.start_s,
                      .from_step = attempt.from_step,
                      .to_step = attempt.last_step,
                      .outcome = outcome_of(attempt)},
                  attempt.devices);
    }
  }
  builder.finish();
  return schedule;
}

void align(Schedule& left, Schedule& right) {
  right = laid_on(left, right);
  left = laid_on(right, left);
}

double end_s(const Schedule& schedule) {
  double end = 0.0;
  for (const Bar& bar : schedule.bars) end = std::max(end, bar.start_s + bar.duration_s);
  return end;
}

std::vector<std::size_t> reading_order(const Schedule& schedule) {
  std::vector<std::size_t> order(schedule.bars.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t left, std::size_t right) {
    const Bar& a = schedule.bars[left];
    const Bar& b = schedule.bars[right];
    if (a.start_s != b.start_s) return a.start_s < b.start_s;
    return a.lanes < b.lanes;
  });
  return order;
}

std::vector<std::string> job_keys(const Schedule& schedule) {
  constexpr std::size_t kLetters = 26;
  const std::size_t num_jobs = schedule.jobs.size();
  std::vector<std::string> keys(num_jobs);
  std::size_t given = 0;
  const auto give = [&](std::size_t job) {
    if (!keys[job].empty()) return;
    if (num_jobs > 2 * kLetters)
      keys[job] = std::to_string(given + 1);
    else
      keys[job] =
          given < kLetters ? static_cast<char>('a' + given) : static_cast<char>('A' + (given - kLetters));
    ++given;
  };
  for (const std::size_t bar : reading_order(schedule)) give(schedule.bars[bar].job);
  for (std::size_t job = 0; job < num_jobs; ++job) give(job);
  return keys;
}

std::string lanes_text(const Schedule& schedule, const std::vector<std::size_t>& lanes, bool with_node) {
  std::string text;
  for (std::size_t i = 0; i < lanes.size();) {
    const std::string& node = schedule.lanes[lanes[i]].node;
    if (with_node) text += (text.empty() ? "" : " ") + node + ":";
    bool first = true;
    while (i < lanes.size() && schedule.lanes[lanes[i]].node == node) {
      const int from = schedule.lanes[lanes[i]].device;
      int to = from;
      for (++i; i < lanes.size() && schedule.lanes[lanes[i]].node == node &&
                schedule.lanes[lanes[i]].device == to + 1;
           ++i)
        ++to;
      if (!first) text += ",";
      first = false;
      text += std::to_string(from);
      if (to > from) text += "-" + std::to_string(to);
    }
    if (!with_node && i < lanes.size()) return lanes_text(schedule, lanes, true);
  }
  return text;
}

bool single_node(const Schedule& schedule) {
  return std::all_of(schedule.lanes.begin(), schedule.lanes.end(),
                     [&](const Lane& lane) { return lane.node == schedule.lanes.front().node; });
}

std::string configuration_text(const Bar& bar) {
  std::string text = bar.technique + " x" + std::to_string(bar.lanes.size());
  if (bar.num_ranks > 0 && bar.num_ranks != static_cast<int>(bar.lanes.size()))
    text += " (" + std::to_string(bar.num_ranks) + (bar.num_ranks == 1 ? " rank)" : " ranks)");
  return text;
}

}  // namespace saturn::view

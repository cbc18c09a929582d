// Serial schedule generation with devices, releases, order, outages, memory and shares of GPUs.

#include "plan/decode.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <unordered_map>

#include "saturn/plan/carry_on.h"

namespace saturn::plan {
namespace {

struct Interval {
  double from_s;
  double to_s;
  double memory;
  double disk;
};

// One node's devices while a solution is decoded.
class NodeState {
 public:
  NodeState(const Reduced& reduced, int n) : node_(reduced.nodes[n]), free_s_(reduced.nodes[n].width, 0.0) {
    outages_.resize(node_.width);
    for (const Outage& outage : reduced.problem->nodes[n].outages) {
      has_outages_ = true;
      for (int d = 0; d < node_.width; ++d) {
        const bool hit = outage.devices.empty() ||
                         std::find(outage.devices.begin(), outage.devices.end(), d) != outage.devices.end();
        if (hit) outages_[d].push_back(outage);
      }
      edges_.push_back(outage.to_s);
    }
    limited_ = node_.memory_bytes < kNever || node_.disk_bytes < kNever;
  }

  // The first start from `ready_s` and the devices; kNever where there is none.
  double place(const Mode& mode, double ready_s, std::vector<int>& devices) {
    // Before the width-th smallest free time there are too few devices.
    std::vector<double>& moments = moments_;
    moments = free_s_;
    std::nth_element(moments.begin(), moments.begin() + (mode.width - 1), moments.end());
    ready_s = std::max(ready_s, moments[mode.width - 1]);
    moments.assign(1, ready_s);
    if (has_outages_ || limited_ || node_.shares > 1) {
      for (const double free_s : free_s_) {
        if (free_s > ready_s) moments.push_back(free_s);
      }
    }
    for (const double edge : edges_) {
      if (edge > ready_s && edge < kNever) moments.push_back(edge);
    }
    if (limited_) {
      for (const Interval& interval : held_) {
        if (interval.to_s > ready_s) moments.push_back(interval.to_s);
      }
    }
    std::sort(moments.begin(), moments.end());
    moments.erase(std::unique(moments.begin(), moments.end()), moments.end());
    for (const double start_s : moments) {
      if (limited_ && !memory_fits(mode, start_s)) continue;
      if (choose(mode, start_s, devices)) {
        occupy(mode, start_s, devices);
        return start_s;
      }
    }
    return kNever;
  }

  // Takes exactly `devices` from 0 s; false where they are not free.
  bool place_fixed(const Mode& mode, const std::vector<int>& devices) {
    for (const int d : devices) {
      if (!available(d, 0.0, mode.time_s)) return false;
    }
    if (limited_ && !memory_fits(mode, 0.0)) return false;
    occupy(mode, 0.0, devices);
    return true;
  }

 private:
  bool available(int d, double from_s, double to_s) const {
    if (free_s_[d] > from_s) return false;
    if (!has_outages_) return true;
    return std::none_of(outages_[d].begin(), outages_[d].end(),
                        [&](const Outage& outage) { return outage.from_s < to_s && from_s < outage.to_s; });
  }

  bool memory_fits(const Mode& mode, double start_s) const {
    const double end_s = start_s + mode.time_s;
    // The most that is held at once within [start, end) is held at start or where a holder starts.
    const auto at = [&](double time_s) {
      double memory = static_cast<double>(mode.memory_bytes);
      double disk = static_cast<double>(mode.disk_bytes);
      for (const Interval& interval : held_) {
        if (interval.from_s <= time_s && time_s < interval.to_s) {
          memory += interval.memory;
          disk += interval.disk;
        }
      }
      return memory <= node_.memory_bytes && disk <= node_.disk_bytes;
    };
    if (!at(start_s)) return false;
    return std::all_of(held_.begin(), held_.end(), [&](const Interval& interval) {
      return interval.from_s <= start_s || interval.from_s >= end_s || at(interval.from_s);
    });
  }

  // The latest-free devices that are there from start to end; among equals those with the lowest index.
  bool choose(const Mode& mode, double start_s, std::vector<int>& devices) {
    const double end_s = start_s + mode.time_s;
    candidates_.clear();
    for (int d = 0; d < node_.width; ++d) {
      if (available(d, start_s, end_s)) candidates_.push_back(d);
    }
    if (static_cast<int>(candidates_.size()) < mode.width) return false;
    if (node_.shares > 1) return choose_shares(mode, devices);
    std::stable_sort(candidates_.begin(), candidates_.end(),
                     [&](int left, int right) { return free_s_[left] > free_s_[right]; });
    devices.assign(candidates_.begin(), candidates_.begin() + mode.width);
    std::sort(devices.begin(), devices.end());
    return true;
  }

  // Whole ranks on GPUs of their own: first the GPUs with the fewest slots to spare.
  bool choose_shares(const Mode& mode, std::vector<int>& devices) {
    const int per_rank = mode.width / mode.ranks;
    std::vector<std::vector<int>> slots(node_.width / node_.shares);
    for (const int d : candidates_) slots[d / node_.shares].push_back(d);
    std::vector<int> gpus;
    for (std::size_t gpu = 0; gpu < slots.size(); ++gpu) {
      if (static_cast<int>(slots[gpu].size()) >= per_rank) gpus.push_back(static_cast<int>(gpu));
    }
    if (static_cast<int>(gpus.size()) < mode.ranks) return false;
    std::stable_sort(gpus.begin(), gpus.end(),
                     [&](int left, int right) { return slots[left].size() < slots[right].size(); });
    devices.clear();
    for (int r = 0; r < mode.ranks; ++r) {
      std::vector<int>& own = slots[gpus[r]];
      std::stable_sort(own.begin(), own.end(),
                       [&](int left, int right) { return free_s_[left] > free_s_[right]; });
      devices.insert(devices.end(), own.begin(), own.begin() + per_rank);
    }
    std::sort(devices.begin(), devices.end());
    return true;
  }

  void occupy(const Mode& mode, double start_s, const std::vector<int>& devices) {
    for (const int d : devices) free_s_[d] = start_s + mode.time_s;
    if (limited_) {
      held_.push_back({start_s, start_s + mode.time_s, static_cast<double>(mode.memory_bytes),
                       static_cast<double>(mode.disk_bytes)});
    }
  }

  const ReducedNode& node_;
  std::vector<double> free_s_;
  std::vector<std::vector<Outage>> outages_;
  std::vector<double> edges_;
  std::vector<Interval> held_;
  std::vector<double> moments_;
  std::vector<int> candidates_;
  bool has_outages_ = false;
  bool limited_ = false;
};

std::vector<int> sorted(std::vector<int> values) {
  std::sort(values.begin(), values.end());
  return values;
}

Value value_of(const Reduced& reduced, const std::vector<Placement>& placements, bool complete) {
  Value value;
  value.makespan_s = 0.0;
  value.cost = 0.0;
  double weighted = 0.0;
  double weights = 0.0;
  for (const Placement& placement : placements) {
    const Task& task = reduced.tasks[placement.choice.task];
    const Mode& mode = task.modes[placement.choice.mode];
    value.makespan_s = std::max(value.makespan_s, placement.end_s);
    value.cost += reduced.nodes[placement.choice.node].price * mode.width * mode.time_s / 3600.0;
    value.lateness_s += std::max(0.0, placement.end_s - task.deadline_s);
    weighted += task.weight * placement.end_s;
    weights += task.weight;
    if (reduced.problem->jobs[task.job].running && !mode.fixed) ++value.num_moves;
  }
  const PlanProblem& problem = *reduced.problem;
  switch (problem.objective) {
    case Objective::makespan:
    case Objective::makespan_under_cost:
      value.objective = value.makespan_s;
      break;
    case Objective::mean_completion:
      value.objective = weights > 0.0 ? weighted / weights : 0.0;
      break;
    case Objective::cost:
      value.objective = value.cost;
      break;
  }
  if (!complete) value.lateness_s = kNever;
  value.feasible = complete && value.lateness_s <= 0.0;
  if (problem.objective == Objective::makespan_under_cost && value.cost > *problem.cost_limit) {
    value.feasible = false;
    // Too dear counts as late, in the share by which it is.
    value.lateness_s += value.makespan_s * (value.cost / std::max(*problem.cost_limit, 1e-9) - 1.0) + 1e-9;
  }
  return value;
}

// Where tasks could trade places without a change to anything else, the one of higher priority goes first.
void by_priority(const Reduced& reduced, std::vector<Placement>& placements) {
  const auto mode_of = [&](const Placement& one) -> const Mode& {
    return reduced.tasks[one.choice.task].modes[one.choice.mode];
  };
  std::map<std::tuple<int, int, double>, std::vector<std::size_t>> alike;
  for (std::size_t p = 0; p < placements.size(); ++p) {
    const Mode& mode = mode_of(placements[p]);
    alike[{mode.device_class, mode.width, mode.time_s}].push_back(p);
  }
  for (auto& [key, places] : alike) {
    std::stable_sort(places.begin(), places.end(), [&](std::size_t a, std::size_t b) {
      return placements[a].start_s < placements[b].start_s;
    });
    std::vector<std::pair<int, int>> tasks;  // task and its mode
    for (const std::size_t p : places)
      tasks.emplace_back(placements[p].choice.task, placements[p].choice.mode);
    std::stable_sort(tasks.begin(), tasks.end(), [&](const auto& a, const auto& b) {
      return reduced.tasks[a.first].weight > reduced.tasks[b.first].weight;
    });
    for (std::size_t i = 0; i < places.size(); ++i) {
      placements[places[i]].choice.task = tasks[i].first;
      placements[places[i]].choice.mode = tasks[i].second;
    }
  }
}

}  // namespace

Decoded decode(const Reduced& reduced, const Solution& solution) {
  std::vector<NodeState> nodes;
  nodes.reserve(reduced.nodes.size());
  for (std::size_t n = 0; n < reduced.nodes.size(); ++n) nodes.emplace_back(reduced, static_cast<int>(n));
  Decoded decoded;
  decoded.placements.reserve(solution.size());
  std::vector<double> end_s(reduced.tasks.size(), -1.0);
  bool complete = solution.size() == reduced.tasks.size();

  const auto add = [&](const Choice& choice, double start_s, std::vector<int> devices) {
    const Mode& mode = reduced.tasks[choice.task].modes[choice.mode];
    end_s[choice.task] = start_s + mode.time_s;
    decoded.placements.push_back({choice, start_s, start_s + mode.time_s, std::move(devices)});
  };
  // What runs already goes first: it holds its devices from 0 s whatever the order says.
  for (const Choice& choice : solution) {
    const Task& task = reduced.tasks[choice.task];
    if (!task.modes[choice.mode].fixed) continue;
    std::vector<int> devices = sorted(reduced.problem->jobs[task.job].running->devices);
    if (!nodes[choice.node].place_fixed(task.modes[choice.mode], devices)) {
      complete = false;
      continue;
    }
    add(choice, 0.0, std::move(devices));
  }
  std::vector<Choice> waiting;
  const auto ready_s = [&](const Task& task) {
    double ready = task.release_s;
    for (const int before : task.after) {
      if (end_s[before] < 0.0) return -1.0;
      ready = std::max(ready, end_s[before]);
    }
    return ready;
  };
  const auto place = [&](const Choice& choice, double ready) {
    std::vector<int> devices;
    const Mode& mode = reduced.tasks[choice.task].modes[choice.mode];
    const double start_s = nodes[choice.node].place(mode, ready, devices);
    if (start_s == kNever) {
      complete = false;
    } else {
      add(choice, start_s, std::move(devices));
    }
  };
  for (const Choice& choice : solution) {
    if (reduced.tasks[choice.task].modes[choice.mode].fixed) continue;
    const double ready = ready_s(reduced.tasks[choice.task]);
    if (ready < 0.0) {
      waiting.push_back(choice);
      continue;
    }
    place(choice, ready);
    for (bool moved = !waiting.empty(); moved;) {
      moved = false;
      for (std::size_t w = 0; w < waiting.size(); ++w) {
        const double now = ready_s(reduced.tasks[waiting[w].task]);
        if (now < 0.0) continue;
        const Choice next = waiting[w];
        waiting.erase(waiting.begin() + static_cast<std::ptrdiff_t>(w));
        place(next, now);
        moved = true;
        break;
      }
    }
  }
  complete &= waiting.empty();
  decoded.value = value_of(reduced, decoded.placements, complete);
  return decoded;
}

Plan build_plan(const Reduced& reduced, const Solution& solution) {
  Decoded decoded = decode(reduced, solution);
  // Left shift: decoding again by start time can only move a job to an earlier start.
  for (int round = 0; round < 3; ++round) {
    std::vector<Placement> by_start = decoded.placements;
    std::stable_sort(by_start.begin(), by_start.end(), [](const Placement& left, const Placement& right) {
      return left.start_s < right.start_s;
    });
    Solution again;
    for (const Placement& placement : by_start) again.push_back(placement.choice);
    Decoded next = decode(reduced, again);
    if (better(decoded.value, next.value)) break;
    const bool settled = next.value.objective == decoded.value.objective;
    decoded = std::move(next);
    if (settled) break;
  }
  if (reduced.plain) by_priority(reduced, decoded.placements);
  const PlanProblem& problem = *reduced.problem;
  Plan plan;
  plan.objective = problem.objective;
  plan.origin_s = problem.origin_s;
  plan.makespan_s = decoded.placements.empty() ? 0.0 : decoded.value.makespan_s;
  plan.objective_value = decoded.placements.empty() ? 0.0 : decoded.value.objective;
  plan.cost = decoded.placements.empty() ? 0.0 : decoded.value.cost;
  for (const Placement& placement : decoded.placements) {
    const Task& task = reduced.tasks[placement.choice.task];
    const Mode& mode = task.modes[placement.choice.mode];
    const Job& job = problem.jobs[task.job];
    const Configuration& configuration = job.configurations[mode.configuration];
    Assignment assignment;
    assignment.job = job.name;
    assignment.segment = task.segment;
    assignment.technique = configuration.technique;
    assignment.node = problem.nodes[placement.choice.node].name;
    for (const int d : placement.devices) assignment.devices.push_back({assignment.node, d});
    assignment.num_ranks = configuration.num_ranks;
    assignment.start_s = placement.start_s;
    assignment.duration_s = mode.time_s;
    assignment.from_step = task.from_step;
    assignment.to_step = task.to_step;
    assignment.trial = configuration.trial;
    assignment.knobs = configuration.knobs;
    plan.assignments.push_back(std::move(assignment));
  }
  std::unordered_map<std::string, std::size_t> position;
  for (std::size_t n = 0; n < problem.nodes.size(); ++n) position.emplace(problem.nodes[n].name, n);
  std::stable_sort(plan.assignments.begin(), plan.assignments.end(),
                   [&](const Assignment& left, const Assignment& right) {
                     if (left.start_s != right.start_s) return left.start_s < right.start_s;
                     if (left.node != right.node) return position.at(left.node) < position.at(right.node);
                     return left.devices.front().index < right.devices.front().index;
                   });
  return plan;
}

Solution solution_of(const Reduced& reduced, const Plan& plan) {
  const PlanProblem& problem = *reduced.problem;
  std::unordered_map<std::string, int> jobs;
  std::unordered_map<std::string, int> nodes;
  for (std::size_t j = 0; j < problem.jobs.size(); ++j)
    jobs.emplace(problem.jobs[j].name, static_cast<int>(j));
  for (std::size_t n = 0; n < problem.nodes.size(); ++n)
    nodes.emplace(problem.nodes[n].name, static_cast<int>(n));
  std::vector<const Assignment*> by_start;
  for (const Assignment& assignment : plan.assignments) by_start.push_back(&assignment);
  std::stable_sort(by_start.begin(), by_start.end(), [](const Assignment* left, const Assignment* right) {
    return left->start_s < right->start_s;
  });
  Solution solution;
  std::vector<bool> seen(reduced.tasks.size(), false);
  for (const Assignment* assignment : by_start) {
    const auto job = jobs.find(assignment->job);
    const auto node = nodes.find(assignment->node);
    if (job == jobs.end() || node == nodes.end() || seen[job->second]) return {};
    const Task& task = reduced.tasks[job->second];
    const bool stays = goes_on(problem.jobs[job->second], *assignment);
    const auto mode = std::find_if(task.modes.begin(), task.modes.end(), [&](const Mode& one) {
      if (stays || one.fixed) return stays && one.fixed;
      return one.device_class == reduced.nodes[node->second].device_class &&
             one.width <= static_cast<int>(assignment->devices.size()) &&
             one.time_s <= assignment->duration_s;
    });
    if (mode == task.modes.end()) return {};
    seen[job->second] = true;
    solution.push_back({job->second, node->second, static_cast<int>(mode - task.modes.begin())});
  }
  return solution.size() == reduced.tasks.size() ? solution : Solution{};
}

bool better(const Value& left, const Value& right) {
  if (left.feasible != right.feasible) return left.feasible;
  if (left.lateness_s != right.lateness_s) return left.lateness_s < right.lateness_s;
  if (left.objective != right.objective) return left.objective < right.objective;
  if (left.makespan_s != right.makespan_s) return left.makespan_s < right.makespan_s;
  return left.num_moves < right.num_moves;
}

}  // namespace saturn::plan

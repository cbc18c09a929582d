// Branch and bound over the orders of starts.
//
// Tasks are placed in the order of their starts, each at the first moment, not before the start of the one
// before it, at which its node has the devices, memory and disk. Some order gives an optimal plan: take the
// optimal plan whose starts have the least sum, and its own order of starts; whatever was placed before a
// task and still runs at its start did so in that plan, so the task can start no later, and by the choice of
// the plan no sooner. Nothing that is placed later needs a moment before the last start, so a node is
// described by what it runs at that moment.

#include "plan/exact_general.h"

#include <algorithm>

namespace saturn::plan {
namespace {

constexpr std::size_t kMostTasks = 12;

struct Held {
  double end_s;
  int width;
  double memory;
  double disk;
};

class Search {
 public:
  Search(const Reduced& reduced, double upper_s, std::int64_t node_limit, const std::function<bool()>& stop)
      : reduced_(reduced), upper_s_(upper_s), node_limit_(node_limit), stop_(stop) {
    running_.resize(reduced.nodes.size());
    used_.assign(reduced.nodes.size(), false);
    end_s_.assign(reduced.tasks.size(), -1.0);
    for (const ReducedNode& node : reduced.nodes) devices_ += node.width;
    for (const Task& task : reduced.tasks) {
      double fastest_s = kNever;
      double area = kNever;
      for (const Mode& mode : task.modes) {
        fastest_s = std::min(fastest_s, mode.time_s);
        area = std::min(area, mode.width * mode.time_s);
      }
      fastest_s_.push_back(fastest_s);
      area_.push_back(area);
      left_area_ += area;
    }
  }

  ExactOutcome run() {
    place(0.0, 0.0);
    return {best_, upper_s_, !cut_off_, nodes_};
  }

 private:
  // Below it is nothing that beats the best. Ends that differ in the last places only are the same.
  double limit_s() const { return reduced_.integral ? upper_s_ - 0.5 : upper_s_ * (1.0 - 1e-9); }

  double ready_s(int t) const {
    double ready_s = reduced_.tasks[t].release_s;
    for (const int before : reduced_.tasks[t].after) {
      if (end_s_[before] < 0.0) return kNever;
      ready_s = std::max(ready_s, end_s_[before]);
    }
    return ready_s;
  }

  bool placed(int t) const { return end_s_[t] >= 0.0; }

  // What the tasks that are left need at least, from `now_s` on.
  bool hopeless(double now_s) const {
    double area = left_area_;
    for (std::size_t n = 0; n < running_.size(); ++n) {
      for (const Held& held : running_[n]) area += held.width * std::max(0.0, held.end_s - now_s);
    }
    if (now_s + area / devices_ * (1.0 - 1e-9) > limit_s()) return true;
    for (int t = 0; t < static_cast<int>(reduced_.tasks.size()); ++t) {
      if (placed(t)) continue;
      double start_s = std::max(now_s, reduced_.tasks[t].release_s);
      for (const int before : reduced_.tasks[t].after) start_s = std::max(start_s, end_s_[before]);
      if (start_s + fastest_s_[t] > std::min(limit_s(), reduced_.tasks[t].deadline_s)) return true;
    }
    return false;
  }

  // The first moment from `from_s` on at which `mode` fits beside what runs on the node.
  double start_on(int n, const Mode& mode, double from_s) {
    const ReducedNode& node = reduced_.nodes[n];
    std::vector<double> moments = {from_s};
    for (const Held& held : running_[n]) {
      if (held.end_s > from_s) moments.push_back(held.end_s);
    }
    std::sort(moments.begin(), moments.end());
    for (const double moment_s : moments) {
      int width = mode.width;
      double memory = static_cast<double>(mode.memory_bytes);
      double disk = static_cast<double>(mode.disk_bytes);
      for (const Held& held : running_[n]) {
        if (held.end_s <= moment_s) continue;
        width += held.width;
        memory += held.memory;
        disk += held.disk;
      }
      if (width <= node.width && memory <= node.memory_bytes && disk <= node.disk_bytes) return moment_s;
    }
    return kNever;
  }

  // Nodes that nothing has used are alike where they are described alike.
  bool like_an_earlier_one(int n) const {
    if (used_[n]) return false;
    const ReducedNode& node = reduced_.nodes[n];
    for (int other = 0; other < n; ++other) {
      const ReducedNode& one = reduced_.nodes[other];
      if (!used_[other] && one.device_class == node.device_class && one.width == node.width &&
          one.memory_bytes == node.memory_bytes && one.disk_bytes == node.disk_bytes) {
        return true;
      }
    }
    return false;
  }

  void place(double now_s, double makespan_s) {
    if (cut_off_) return;
    if (++nodes_ > node_limit_ || (nodes_ % 4096 == 0 && stop_ && stop_())) {
      cut_off_ = true;
      return;
    }
    if (chosen_.size() == reduced_.tasks.size()) {
      upper_s_ = makespan_s;
      best_ = chosen_;
      return;
    }
    if (hopeless(now_s)) return;
    for (int t = 0; t < static_cast<int>(reduced_.tasks.size()); ++t) {
      const Task& task = reduced_.tasks[t];
      if (placed(t) || (task.twin_of >= 0 && !placed(task.twin_of))) continue;
      const double from_s = std::max(now_s, ready_s(t));
      if (from_s == kNever) continue;
      for (int m = 0; m < static_cast<int>(task.modes.size()); ++m) {
        for (const int n : reduced_.nodes_of_class[task.modes[m].device_class]) {
          if (!can_run(reduced_, task, task.modes[m], n) || like_an_earlier_one(n)) continue;
          place_one(t, m, n, from_s, makespan_s);
        }
      }
    }
  }

  void place_one(int t, int m, int n, double from_s, double makespan_s) {
    const Task& task = reduced_.tasks[t];
    const Mode& mode = task.modes[m];
    const double start_s = start_on(n, mode, from_s);
    const double end_s = start_s + mode.time_s;
    if (end_s > std::min(limit_s(), task.deadline_s)) return;
    const std::vector<Held> before = running_[n];
    const bool was_used = used_[n];
    running_[n].push_back(
        {end_s, mode.width, static_cast<double>(mode.memory_bytes), static_cast<double>(mode.disk_bytes)});
    used_[n] = true;
    end_s_[t] = end_s;
    left_area_ -= area_[t];
    chosen_.push_back({t, n, m});
    place(start_s, std::max(makespan_s, end_s));
    chosen_.pop_back();
    left_area_ += area_[t];
    end_s_[t] = -1.0;
    used_[n] = was_used;
    running_[n] = before;
  }

  const Reduced& reduced_;
  double upper_s_;
  std::int64_t node_limit_;
  const std::function<bool()>& stop_;
  std::vector<std::vector<Held>> running_;  // per node, in the order of starts
  std::vector<bool> used_;
  std::vector<double> end_s_;  // per task; -1: not placed
  std::vector<double> fastest_s_;
  std::vector<double> area_;
  double left_area_ = 0.0;
  double devices_ = 0.0;
  Solution chosen_;
  Solution best_;
  std::int64_t nodes_ = 0;
  bool cut_off_ = false;
};

}  // namespace

bool exactly_searchable(const Reduced& reduced) {
  const PlanProblem& problem = *reduced.problem;
  if (problem.objective != Objective::makespan || reduced.tasks.size() > kMostTasks) return false;
  for (const Node& node : problem.nodes) {
    if (node.shares_per_gpu > 1 || !node.outages.empty()) return false;
  }
  return std::none_of(reduced.tasks.begin(), reduced.tasks.end(), [&](const Task& task) {
    return problem.jobs[task.job].running.has_value() || task.modes.empty();
  });
}

ExactOutcome search_exactly(const Reduced& reduced, double upper_s, std::int64_t node_limit,
                            const std::function<bool()>& stop) {
  return Search(reduced, upper_s, node_limit, stop).run();
}

}  // namespace saturn::plan

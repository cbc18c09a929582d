// Reduced-cost fixing.

#include "plan/prune.h"

#include <algorithm>

namespace saturn::plan {

Solution Pruned::to_whole(const Solution& solution) const {
  Solution whole = solution;
  for (Choice& choice : whole) choice.mode = origin[choice.task][choice.mode];
  return whole;
}

Solution Pruned::from_whole(const Reduced& whole, const Solution& solution) const {
  Solution kept;
  for (Choice choice : solution) {
    const std::vector<int>& modes = origin[choice.task];
    const auto it = std::find(modes.begin(), modes.end(), choice.mode);
    if (it != modes.end()) {
      choice.mode = static_cast<int>(it - modes.begin());
      kept.push_back(choice);
      continue;
    }
    const Task& task = reduced.tasks[choice.task];
    Choice best{choice.task, -1, -1};
    double least = kNever;
    for (int m = 0; m < static_cast<int>(task.modes.size()); ++m) {
      const Mode& mode = task.modes[m];
      for (const int n : whole.nodes_of_class[mode.device_class]) {
        if (!can_run(reduced, task, mode, n)) continue;
        const double area = mode.width * mode.time_s * (n == choice.node ? 1.0 : 4.0);
        if (area >= least) continue;
        least = area;
        best = {choice.task, n, m};
      }
    }
    if (best.node < 0) return {};
    kept.push_back(best);
  }
  return kept;
}

namespace {

// Keeps the modes that `keeps(task, mode, its bound)` wants.
template <class Keeps>
Pruned kept(const Reduced& reduced, const AllotmentBound& bound, Keeps keeps) {
  Pruned pruned{reduced, {}, true};
  for (std::size_t t = 0; t < reduced.tasks.size(); ++t) {
    Task& task = pruned.reduced.tasks[t];
    std::vector<Mode> modes;
    std::vector<int> origin;
    for (std::size_t m = 0; m < task.modes.size(); ++m) {
      const double with_s = bound.with_mode_s.empty() ? 0.0 : bound.with_mode_s[t][m];
      if (!keeps(t, task.modes[m], with_s)) continue;
      modes.push_back(task.modes[m]);
      origin.push_back(static_cast<int>(m));
    }
    pruned.possible &= !modes.empty();
    task.modes = std::move(modes);
    pruned.origin.push_back(std::move(origin));
  }
  return pruned;
}

// Whole numbers: what must be beaten is beaten by 1 at least. Otherwise keep clear of rounding.
double beaten(const Reduced& reduced, double upper_s) {
  return reduced.integral ? upper_s - 0.5 : upper_s * (1.0 - 1e-9);
}

}  // namespace

Pruned prune(const Reduced& reduced, const AllotmentBound& bound, double upper_s) {
  const double beaten_s = beaten(reduced, upper_s);
  return kept(reduced, bound, [&](std::size_t, const Mode& mode, double with_s) {
    return mode.time_s <= beaten_s && with_s <= beaten_s;
  });
}

Pruned focus(const Reduced& reduced, const AllotmentBound& bound, double upper_s, double slack) {
  // A mode that is longer than a plan half way to the bound only holds the search at the present plan. Plans
  // of many tasks come close to the bound, since no task is large beside it: there it may be a little longer
  // only.
  constexpr std::size_t kManyTasks = 500;
  constexpr double kCloseShare = 0.02;
  const double beaten_s = beaten(reduced, upper_s);
  double hoped_s = std::min(beaten_s, bound.bound_s + 0.5 * (upper_s - bound.bound_s));
  if (reduced.tasks.size() >= kManyTasks) hoped_s = std::min(hoped_s, bound.bound_s * (1.0 + kCloseShare));
  std::vector<double> most;
  std::vector<double> longest;
  for (std::size_t t = 0; t < reduced.tasks.size(); ++t) {
    double least = kNever;
    double fastest_s = kNever;
    for (std::size_t m = 0; m < reduced.tasks[t].modes.size(); ++m) {
      const double time_s = reduced.tasks[t].modes[m].time_s;
      fastest_s = std::min(fastest_s, time_s);
      if (time_s <= hoped_s && !bound.with_mode_s.empty()) least = std::min(least, bound.with_mode_s[t][m]);
    }
    most.push_back(least + slack * bound.bound_s);
    longest.push_back(fastest_s <= hoped_s ? hoped_s : beaten_s);
  }
  return kept(reduced, bound, [&](std::size_t t, const Mode& mode, double with_s) {
    return mode.time_s <= longest[t] && with_s <= beaten_s && with_s <= most[t];
  });
}

}  // namespace saturn::plan

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

Pruned prune(const Reduced& reduced, const AllotmentBound& bound, double upper_s) {
  Pruned pruned{reduced, {}, true};
  // Whole numbers: what must be beaten is beaten by 1 at least. Otherwise keep clear of rounding.
  const double beaten_s = reduced.integral ? upper_s - 0.5 : upper_s * (1.0 - 1e-9);
  for (std::size_t t = 0; t < reduced.tasks.size(); ++t) {
    Task& task = pruned.reduced.tasks[t];
    std::vector<Mode> kept;
    std::vector<int> origin;
    for (std::size_t m = 0; m < task.modes.size(); ++m) {
      const double with_s = bound.with_mode_s.empty() ? 0.0 : bound.with_mode_s[t][m];
      if (task.modes[m].time_s > beaten_s || with_s > beaten_s) continue;
      kept.push_back(task.modes[m]);
      origin.push_back(static_cast<int>(m));
    }
    pruned.possible &= !kept.empty();
    task.modes = std::move(kept);
    pruned.origin.push_back(std::move(origin));
  }
  return pruned;
}

}  // namespace saturn::plan

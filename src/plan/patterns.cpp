// Grouping of nodes and tasks, enumeration and pricing of patterns.

#include "plan/patterns.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <tuple>

namespace saturn::plan {

std::vector<NodeGroup> node_groups(const Reduced& reduced) {
  std::map<std::pair<int, int>, int> counts;
  for (const ReducedNode& node : reduced.nodes) ++counts[{node.device_class, node.width}];
  std::vector<NodeGroup> groups;
  for (const auto& [key, count] : counts) {
    NodeGroup group{.device_class = key.first, .width = key.second, .count = count};
    std::set<int> widths;
    for (const Task& task : reduced.tasks) {
      for (const Mode& mode : task.modes) {
        if (mode.device_class == group.device_class && mode.width <= group.width) widths.insert(mode.width);
      }
    }
    group.widths.assign(widths.begin(), widths.end());
    groups.push_back(std::move(group));
  }
  return groups;
}

std::vector<TaskType> task_types(const Reduced& reduced) {
  using Key = std::vector<std::tuple<int, int, double>>;
  std::map<Key, std::size_t> known;
  std::vector<TaskType> types;
  for (std::size_t t = 0; t < reduced.tasks.size(); ++t) {
    Key key;
    for (const Mode& mode : reduced.tasks[t].modes)
      key.emplace_back(mode.device_class, mode.width, mode.time_s);
    const auto [it, fresh] = known.emplace(std::move(key), types.size());
    if (fresh) types.push_back({{}, &reduced.tasks[t]});
    types[it->second].tasks.push_back(static_cast<int>(t));
  }
  return types;
}

std::vector<std::vector<int>> maximal_patterns(const std::vector<int>& widths, int capacity,
                                               std::size_t limit) {
  std::vector<std::vector<int>> patterns;
  std::vector<int> counts(widths.size(), 0);
  bool overflow = false;
  // Widest first; what is left at the end must be less than the narrowest.
  const std::function<void(std::size_t, int)> extend = [&](std::size_t i, int left) {
    if (overflow) return;
    if (i == 0) {
      counts[0] = left / widths[0];
      if (patterns.size() >= limit) {
        overflow = true;
        return;
      }
      patterns.push_back(counts);
      return;
    }
    for (int k = left / widths[i]; k >= 0; --k) {
      counts[i] = k;
      extend(i - 1, left - k * widths[i]);
    }
    counts[i] = 0;
  };
  if (!widths.empty()) extend(widths.size() - 1, capacity);
  if (overflow) patterns.clear();
  return patterns;
}

BestPattern best_pattern(const std::vector<int>& widths, const std::vector<double>& value, int capacity) {
  std::vector<double> best(static_cast<std::size_t>(capacity) + 1, 0.0);
  std::vector<int> last(best.size(), -1);
  for (int k = 1; k <= capacity; ++k) {
    best[k] = best[k - 1];
    for (std::size_t w = 0; w < widths.size(); ++w) {
      if (widths[w] > k) break;
      const double with = best[k - widths[w]] + value[w];
      if (with > best[k]) {
        best[k] = with;
        last[k] = static_cast<int>(w);
      }
    }
  }
  BestPattern result{best[capacity], std::vector<int>(widths.size(), 0)};
  for (int k = capacity; k > 0;) {
    if (last[k] < 0) {
      --k;
    } else {
      ++result.counts[last[k]];
      k -= widths[last[k]];
    }
  }
  return result;
}

}  // namespace saturn::plan

// Widths, patterns of widths and the jobs that share a line in the bounding programs.

#pragma once

#include <vector>

#include "plan/reduced.h"

namespace saturn::plan {

/// Nodes of one class and width.
struct NodeGroup {
  int device_class = 0;
  int width = 0;
  int count = 0;
  std::vector<int> widths;  ///< of the modes that fit, ascending
};

/// Tasks with the same modes.
struct TaskType {
  std::vector<int> tasks;
  const Task* first = nullptr;
};

std::vector<NodeGroup> node_groups(const Reduced& reduced);
std::vector<TaskType> task_types(const Reduced& reduced);

/// Counts per width of `widths` of every multiset that fits into `capacity` and to which nothing can be
/// added; empty where there are more than `limit`.
std::vector<std::vector<int>> maximal_patterns(const std::vector<int>& widths, int capacity,
                                               std::size_t limit);

/// The multiset of most value, and that value.
struct BestPattern {
  double value = 0.0;
  std::vector<int> counts;
};
BestPattern best_pattern(const std::vector<int>& widths, const std::vector<double>& value, int capacity);

}  // namespace saturn::plan

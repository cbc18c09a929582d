// The problem as the solver sees it: numbers instead of names, only the configurations that can matter.

#pragma once

#include <cstdint>
#include <limits>
#include <vector>

#include "saturn/plan/problem.h"

namespace saturn::plan {

inline constexpr double kNever = std::numeric_limits<double>::infinity();

/// One way to run a task on any node of one class (or on `node` only, from 0 s, where `fixed`).
struct Mode {
  int device_class = 0;
  int width = 1;  ///< devices
  int ranks = 1;
  double time_s = 0.0;  ///< start cost included
  std::int64_t memory_bytes = 0;
  std::int64_t disk_bytes = 0;
  int configuration = 0;  ///< position in Job::configurations
  bool fixed = false;     ///< goes on where the job runs now
};

/// One job (or one segment of it). Modes are ordered by class, then width; within a class strictly faster
/// with every width where nothing but width and time matters.
struct Task {
  int job = 0;
  std::vector<Mode> modes;
  double release_s = 0.0;
  double deadline_s = kNever;
  double weight = 1.0;
  std::vector<int> after;  ///< tasks
  int segment = 0;
  std::int64_t from_step = 0;
  std::int64_t to_step = 1;
  int twin_of = -1;  ///< an earlier task with the same modes, releases and order; -1 for the first
};

struct ReducedNode {
  int device_class = 0;
  int width = 0;
  int shares = 1;
  double memory_bytes = kNever;
  double disk_bytes = kNever;
  double price = 0.0;
};

struct Reduced {
  const PlanProblem* problem = nullptr;
  std::vector<ReducedNode> nodes;  ///< as in the problem
  std::vector<Task> tasks;         ///< as the problem's jobs
  int num_classes = 0;
  std::vector<std::vector<int>> nodes_of_class;
  bool plain = true;     ///< nothing but widths and times matters: the fast search decides everything
  bool integral = true;  ///< every time is a whole number, so every makespan of a left-shifted plan is one
};

/// Whether `mode` of `task` can run on `node` when it has the node for itself.
bool can_run(const Reduced& reduced, const Task& task, const Mode& mode, int node);

/// A problem that `validate` accepts.
Reduced reduce(const PlanProblem& problem);

/// The same without what the fast search cannot see (releases, order, outages, memory, shares): every plan of
/// `reduced` is one of the result, so a bound for the result holds for `reduced`.
Reduced relax(const Reduced& reduced);

/// A task placed on a node in one of its modes. A solution is a sequence of them: each starts as early as the
/// ones before it allow.
struct Choice {
  int task = 0;
  int node = 0;
  int mode = 0;
};
using Solution = std::vector<Choice>;

}  // namespace saturn::plan

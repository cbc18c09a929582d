// Exact search on one node: whether a set of tasks can be over by a limit.
//
// Chronological branch and bound. What is left of the node is a staircase: the time that remains on each
// device until the limit. Whether a set of tasks can still be packed under a staircase depends on nothing
// else, so a staircase that was refuted for a set refutes every lower one, under any limit and whichever
// tasks came before: one memory serves all questions.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace saturn::plan {

enum class ExactAnswer { found, refuted, undecided };

struct NodeMode {
  int mode = 0;  ///< the caller's name for it
  int width = 1;
  double time_s = 0.0;  ///< more than 0
};

class NodeSearch {
 public:
  static constexpr std::size_t kMostTasks = 63;
  static constexpr int kMostWidth = 64;

  /// What a task may do on this node; no modes where it cannot run here.
  struct Work {
    std::vector<NodeMode> modes;
    int twin_of = -1;  ///< an earlier task with the same modes
  };

  struct Start {
    int task = 0;
    int mode = 0;
  };

  /// `prices`: width functions (value of width 1, 2, ...) that bound what a staircase can take; the width
  /// itself is always one of them. Tasks that come first are tried first.
  NodeSearch(std::vector<Work> tasks, int width, const std::vector<std::vector<double>>& prices);
  ~NodeSearch();
  NodeSearch(const NodeSearch&) = delete;
  NodeSearch& operator=(const NodeSearch&) = delete;

  /// Whether the tasks of `set` can all be over by `limit_s`. `stop` is asked every few thousand steps.
  ExactAnswer ends_by(std::uint64_t set, double limit_s, std::int64_t node_limit,
                      const std::function<bool()>& stop);

  /// What the bounds alone refute.
  bool hopeless(std::uint64_t set, double limit_s);

  /// After `found`: the tasks in the order of their starts.
  const std::vector<Start>& starts() const;
  std::int64_t nodes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace saturn::plan

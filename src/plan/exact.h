// Exact search for small batches: whether any plan ends by T.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "plan/reduced.h"

namespace saturn::plan {

inline constexpr std::size_t kMostExactTasks = 40;

/// Depth-first over the decisions of a plan in time order: at the first moment at which a device of a node is
/// free, start one of the remaining tasks there or leave the free devices idle until the node's next end.
///
/// What is left out is dominated: of all plans that end by T, one whose starts add up to the least starts no
/// task that would have fitted before, twins in their order, and equal nodes in the order of their first
/// tasks.
class ExactSearch {
 public:
  enum class Answer { found, refuted, undecided };

  explicit ExactSearch(const Reduced& reduced);  ///< plain, at most kMostExactTasks tasks
  ~ExactSearch();

  /// Whether a plan ends by `limit_s`, within `node_limit` nodes of the tree or until `stop` says so.
  Answer ends_by(double limit_s, std::int64_t node_limit, const std::function<bool()>& stop);

  const Solution& solution() const;  ///< after Answer::found
  std::int64_t nodes() const;        ///< visited in all

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace saturn::plan

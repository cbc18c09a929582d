// Exact search for small plain problems: is there a plan that ends by T?

#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "plan/node_search.h"
#include "plan/reduced.h"

namespace saturn::plan {

inline constexpr std::size_t kMostExactTasks = 40;

/// Whether `reduced` is plain and small enough for an ExactSearch.
bool exact_applies(const Reduced& reduced);

/// Deals the tasks to the nodes, largest first, and asks a NodeSearch of each kind of node whether its share
/// can be over by T. Equal nodes are opened in their order and equal tasks dealt in theirs. A share once
/// refuted or packed is remembered, also for other T.
class ExactSearch {
 public:
  using Answer = ExactAnswer;

  /// A problem to which `exact_applies`. Modes as long as `upper_s` or longer do not shape the bounds.
  explicit ExactSearch(const Reduced& reduced, double upper_s = kNever);
  ~ExactSearch();

  /// Whether a plan ends by `limit_s`, within `node_limit` nodes of the trees or until `stop` says so.
  Answer ends_by(double limit_s, std::int64_t node_limit, const std::function<bool()>& stop);

  const Solution& solution() const;  ///< after Answer::found
  std::int64_t nodes() const;        ///< visited in all

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace saturn::plan

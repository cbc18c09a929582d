// The best plan and the best bound so far, and when to stop. Every stage reports here; nothing gets worse.

#pragma once

#include <chrono>
#include <functional>
#include <string>

#include "plan/decode.h"
#include "plan/reduced.h"
#include "saturn/plan/solve.h"

namespace saturn::plan {

class Incumbent {
 public:
  using Moment = std::chrono::steady_clock::time_point;

  /// Time counts from `start`.
  Incumbent(const Reduced& reduced, const SolveOptions& options,
            Moment start = std::chrono::steady_clock::now());

  /// Decodes and keeps `solution` where it is better; says whether it was.
  bool offer(const Solution& solution, const std::string& by);

  /// Raises the bound on the makespan (whole-number times round it up). A bound above a plan that `decode`
  /// accepted would be our own mistake and aborts.
  void raise_bound(double bound_s, const std::string& by);

  const Solution& solution() const { return solution_; }
  const Value& value() const { return value_; }
  double bound_s() const { return bound_s_; }
  double objective_bound() const;  ///< of the problem's objective
  const std::string& found_by() const { return found_by_; }
  const std::string& bound_by() const { return bound_by_; }

  /// The plan is proven best, or within the gap that was asked for.
  bool proven() const;
  bool within_gap() const;

  /// Called after every improvement instead of the options' on_progress.
  void listen(std::function<void()> listener) { listener_ = std::move(listener); }

  bool interrupted() const;
  double elapsed_s() const;
  double left_s() const { return options_.time_limit_s - elapsed_s(); }

  /// Time is up, a signal came, or nothing better is asked for.
  bool finished() const { return interrupted() || left_s() <= 0.0 || within_gap(); }

  std::int64_t iterations = 0;

 private:
  void report(const std::string& by) const;

  const Reduced& reduced_;
  const SolveOptions& options_;
  Moment start_;
  Solution solution_;
  Value value_;
  double bound_s_ = 0.0;
  double fixed_bound_ = 0.0;  // for objectives that are not a makespan
  std::string found_by_;
  std::string bound_by_;
  std::function<void()> listener_;
};

}  // namespace saturn::plan

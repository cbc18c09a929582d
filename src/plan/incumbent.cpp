// Bookkeeping of the best plan and bound.

#include "plan/incumbent.h"

#include <cmath>

#include "plan/general.h"

namespace saturn::plan {

Incumbent::Incumbent(const Reduced& reduced, const SolveOptions& options, Moment start)
    : reduced_(reduced), options_(options), start_(start), fixed_bound_(plan::objective_bound(reduced)) {}

bool Incumbent::offer(const Solution& solution, const std::string& by) {
  if (solution.size() != reduced_.tasks.size()) return false;
  const Value value = decode(reduced_, solution).value;
  if (value.lateness_s == kNever) return false;
  if (!solution_.empty() && !better(value, value_)) return false;
  solution_ = solution;
  value_ = value;
  found_by_ = by;
  report(by);
  return true;
}

void Incumbent::raise_bound(double bound_s, const std::string& by) {
  // A bound of 100.0000001 on whole numbers is noise of the arithmetic, not 101.
  if (reduced_.integral && bound_s != std::floor(bound_s)) {
    bound_s = std::ceil(bound_s - 1e-6 * std::max(1.0, std::abs(bound_s) * 1e-3));
  }
  if (bound_s <= bound_s_) return;
  // Sums in another order differ in the last places; more than that is a wrong bound.
  if (value_.lateness_s < kNever && bound_s > value_.makespan_s) {
    SATURN_CHECK(bound_s <= value_.makespan_s * (1.0 + 1e-6) + 1e-6, "a lower bound is below every plan");
    bound_s = value_.makespan_s;
  }
  bound_s_ = bound_s;
  bound_by_ = by;
  report(by);
}

double Incumbent::objective_bound() const {
  const Objective objective = reduced_.problem->objective;
  const bool is_makespan = objective == Objective::makespan || objective == Objective::makespan_under_cost;
  return is_makespan ? bound_s_ : fixed_bound_;
}

bool Incumbent::proven() const {
  if (reduced_.tasks.empty()) return true;
  if (!value_.feasible) return false;
  // Bounds on times that are not whole numbers are proved with room for a solver's tolerance.
  const bool exact = reduced_.integral && reduced_.problem->objective != Objective::mean_completion &&
                     reduced_.problem->objective != Objective::cost;
  return value_.objective <= objective_bound() * (exact ? 1.0 : 1.0 + 8e-7);
}

bool Incumbent::within_gap() const {
  if (proven()) return true;
  return options_.gap > 0.0 && value_.feasible &&
         value_.objective <= objective_bound() * (1.0 + options_.gap);
}

bool Incumbent::interrupted() const {
  return options_.stop != nullptr && options_.stop->load(std::memory_order_relaxed);
}

double Incumbent::elapsed_s() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void Incumbent::report(const std::string& by) const {
  if (listener_) return listener_();
  if (!options_.on_progress) return;
  options_.on_progress({elapsed_s(), value_.makespan_s, bound_s_, by});
}

}  // namespace saturn::plan

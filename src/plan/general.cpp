// Annealing over decoded solutions.

#include "plan/general.h"

#include <algorithm>

#include "saturn/base/random.h"

namespace saturn::plan {
namespace {

constexpr double kMove = 1e-3;  // of the makespan: what a move is worth avoiding while searching

class GeneralAnnealer {
 public:
  GeneralAnnealer(const Reduced& reduced, const Solution& start, std::uint64_t seed)
      : reduced_(reduced), random_(mix_key(seed, 0x67656e)), now_(start), best_(start) {
    best_value_ = decode(reduced, start).value;
    // Costs are measured against the start, so that temperatures mean the same for seconds and for prices.
    scale_ = best_value_.objective > 0.0 && best_value_.objective < kNever ? best_value_.objective : 1.0;
    span_s_ = best_value_.makespan_s > 0.0 && best_value_.makespan_s < kNever ? best_value_.makespan_s : 1.0;
  }

  GeneralResult run(const Budget& budget) {
    const auto num_tasks = static_cast<double>(std::max<std::size_t>(now_.size(), 1));
    double cost = cost_of(best_value_, decode(reduced_, now_).placements);
    const double hot = 0.35 / num_tasks;
    std::int64_t done = 0;
    for (; done < budget.iterations; ++done) {
      if (done % 16 == 0 && budget.out_of_time && budget.out_of_time()) break;
      // Linear cooling; a threshold drawn evenly below the temperature decides.
      const double left = 1.0 - static_cast<double>(done) / static_cast<double>(budget.iterations);
      next_ = now_;
      if (!move()) continue;
      const Decoded decoded = decode(reduced_, next_);
      if (decoded.value.lateness_s == kNever) continue;
      const double next = cost_of(decoded.value, decoded.placements);
      if (next - cost > hot * left * random_.uniform()) continue;
      now_.swap(next_);
      cost = next;
      if (better(decoded.value, best_value_)) {
        best_ = now_;
        best_value_ = decoded.value;
      }
    }
    return {best_, best_value_, done};
  }

 private:
  // Lateness outweighs everything; ends of all tasks guide the search where the objective is flat, and prefer
  // tasks of high priority first.
  double cost_of(const Value& value, const std::vector<Placement>& placements) const {
    double ends = 0.0;
    double weights = 0.0;
    for (const Placement& placement : placements) {
      const Task& task = reduced_.tasks[placement.choice.task];
      const double weight = task.weight * task.modes[placement.choice.mode].width;
      ends += weight * placement.end_s;
      weights += weight;
    }
    const double mean = weights > 0.0 ? ends / weights / span_s_ : 0.0;
    return value.objective / scale_ + 10.0 * std::min(value.lateness_s, 1e15) / span_s_ +
           0.02 * value.makespan_s / span_s_ + 0.05 * mean + kMove * value.num_moves;
  }

  // A node and a mode for `task`; false where the draw does not fit together.
  bool draw(Choice& choice) {
    const Task& task = reduced_.tasks[choice.task];
    const int mode = static_cast<int>(random_.below(task.modes.size()));
    const std::vector<int>& nodes = reduced_.nodes_of_class[task.modes[mode].device_class];
    const int node = nodes[random_.below(nodes.size())];
    if (!can_run(reduced_, task, task.modes[mode], node)) return false;
    choice.mode = mode;
    choice.node = node;
    return true;
  }

  bool move() {
    const std::size_t count = next_.size();
    const std::size_t i = random_.below(count);
    const std::size_t j = random_.below(count);
    switch (random_.below(4)) {
      case 0:
        return draw(next_[i]);
      case 1:
        if (i == j) return false;
        std::swap(next_[i], next_[j]);
        return true;
      default: {
        if (count < 2) return draw(next_[i]);
        Choice moved = next_[i];
        if (random_.below(3) == 0 && !draw(moved)) return false;
        next_.erase(next_.begin() + static_cast<std::ptrdiff_t>(i));
        next_.insert(next_.begin() + static_cast<std::ptrdiff_t>(std::min(j, next_.size())), moved);
        return true;
      }
    }
  }

  const Reduced& reduced_;
  Random random_;
  Solution now_;
  Solution next_;
  Solution best_;
  Value best_value_;
  double scale_ = 1.0;
  double span_s_ = 1.0;
};

}  // namespace

GeneralResult anneal_general(const Reduced& reduced, const Solution& start, std::uint64_t seed,
                             const Budget& budget) {
  if (start.empty()) return {};
  return GeneralAnnealer(reduced, start, seed).run(budget);
}

double objective_bound(const Reduced& reduced) {
  double cost = 0.0;
  double weighted = 0.0;
  double weights = 0.0;
  for (const Task& task : reduced.tasks) {
    double least = kNever;
    double fastest_s = kNever;
    for (const Mode& mode : task.modes) {
      fastest_s = std::min(fastest_s, mode.time_s);
      for (const int n : reduced.nodes_of_class[mode.device_class]) {
        if (can_run(reduced, task, mode, n)) {
          least = std::min(least, reduced.nodes[n].price * mode.width * mode.time_s / 3600.0);
        }
      }
    }
    cost += least;
    weighted += task.weight * (task.release_s + fastest_s);
    weights += task.weight;
  }
  switch (reduced.problem->objective) {
    case Objective::cost:
      return cost * (1.0 - 1e-12);
    case Objective::mean_completion:
      return weights > 0.0 ? weighted / weights * (1.0 - 1e-12) : 0.0;
    case Objective::makespan:
    case Objective::makespan_under_cost:
      break;
  }
  return 0.0;
}

}  // namespace saturn::plan

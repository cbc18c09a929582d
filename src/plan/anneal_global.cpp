// Annealing over one order of all tasks: each goes to the node of its class where it starts first. Which node
// a task is on follows from the order, so one move can reassign many; the per-node search then refines.

#include <algorithm>
#include <cstring>

#include "plan/anneal.h"
#include "plan/anneal_accept.h"
#include "plan/timeline.h"
#include "saturn/base/random.h"

namespace saturn::plan {
namespace {

struct Entry {
  int task;
  int mode;
};

class GlobalAnnealer {
 public:
  GlobalAnnealer(const Reduced& reduced, const Solution& start, const AnnealOptions& options)
      : reduced_(reduced), options_(options), random_(mix_key(options.seed, 0x676c6f62)) {
    for (const ReducedNode& node : reduced.nodes) {
      offsets_.push_back(num_devices_);
      num_devices_ += node.width;
    }
    for (const ReducedNode& node : reduced.nodes) {
      const double price = options.class_price.empty() ? 1.0 : options.class_price[node.device_class];
      prices_.push_back(price);
      devices_ += node.width * price;
    }
    for (const Choice& choice : start) items_.push_back({choice.task, choice.mode});
    before_.assign((items_.size() + 1) * num_devices_, 0.0);
    scale_ = 1.0 / std::max(options.bound_s, 1e-12);
    evaluate(items_, 0, before_);
    best_ = items_;
    best_s_ = makespan_s_;
  }

  AnnealResult run(const Budget& budget) {
    const double hot = start_temperature(reduced_.tasks.size()) * options_.heat;
    Cooling cooling(hot, budget.iterations);
    double cost = cost_;
    std::int64_t done = 0;
    for (; done < budget.iterations; ++done) {
      if (done % 256 == 0 && budget.out_of_time && budget.out_of_time()) break;
      cooling.step(done);
      draft_ = items_;
      const std::size_t from = move();
      if (from >= draft_.size()) continue;
      draft_before_.resize(before_.size());
      std::memcpy(draft_before_.data() + from * num_devices_, before_.data() + from * num_devices_,
                  sizeof(double) * num_devices_);
      evaluate(draft_, from, draft_before_);
      if (cost_ - cost >= cooling.threshold(random_.next())) continue;
      cost = cost_;
      items_.swap(draft_);
      std::copy(draft_before_.begin() + static_cast<std::ptrdiff_t>(from * num_devices_), draft_before_.end(),
                before_.begin() + static_cast<std::ptrdiff_t>(from * num_devices_));
      if (makespan_s_ < best_s_) {
        best_s_ = makespan_s_;
        best_ = items_;
        if (best_s_ <= options_.bound_s) break;
      }
    }
    return {solution(), best_s_, done};
  }

 private:
  // The node of the mode's class where it starts first; among equals the first that is as narrow as can be.
  int node_for(const Mode& mode, const double* free_s) const {
    int chosen = -1;
    double first_s = kNever;
    for (const int n : reduced_.nodes_of_class[mode.device_class]) {
      if (mode.width > reduced_.nodes[n].width) continue;
      const double start_s = free_s[offsets_[n] + mode.width - 1];
      if (start_s >= first_s) continue;
      first_s = start_s;
      chosen = n;
    }
    return chosen;
  }

  void evaluate(const std::vector<Entry>& items, std::size_t from, std::vector<double>& before) {
    double* at = before.data() + from * num_devices_;
    for (std::size_t i = from; i < items.size(); ++i) {
      std::memcpy(at + num_devices_, at, sizeof(double) * num_devices_);
      at += num_devices_;
      const Mode& mode = reduced_.tasks[items[i].task].modes[items[i].mode];
      const int n = node_for(mode, at);
      place_on(at + offsets_[n], reduced_.nodes[n].width, mode.width, mode.time_s);
    }
    makespan_s_ = 0.0;
    double finish_s = 0.0;
    for (std::size_t n = 0; n < reduced_.nodes.size(); ++n) {
      const double* free_s = at + offsets_[n];
      const int width = reduced_.nodes[n].width;
      makespan_s_ = std::max(makespan_s_, free_s[width - 1]);
      double sum = 0.0;
      for (int d = 0; d < width; ++d) sum += free_s[d];
      finish_s += sum * prices_[n];
    }
    cost_ = (makespan_s_ + options_.idle_weight * finish_s / devices_) * scale_;
  }

  int other_mode(const Entry& entry) {
    const int count = static_cast<int>(reduced_.tasks[entry.task].modes.size());
    if (count < 2) return entry.mode;
    if ((random_.next() & 3) != 0) {
      const int neighbour = entry.mode + ((random_.next() & 1) != 0 ? 1 : -1);
      if (neighbour >= 0 && neighbour < count) return neighbour;
    }
    return static_cast<int>(random_.below(static_cast<std::uint64_t>(count)));
  }

  // Changes the draft; returns the first position that differs.
  std::size_t move() {
    const std::size_t count = draft_.size();
    std::size_t i = random_.below(count);
    const std::uint64_t kind = random_.below(4);
    if (kind == 0 || count < 2) {
      const int mode = other_mode(draft_[i]);
      if (mode == draft_[i].mode) return count;
      draft_[i].mode = mode;
      return i;
    }
    std::size_t j = random_.below(count - 1);
    if (j >= i) ++j;
    if (kind == 1) {
      std::swap(draft_[i], draft_[j]);
      return std::min(i, j);
    }
    Entry moved = draft_[i];
    if (random_.below(3) == 0) moved.mode = other_mode(moved);
    draft_.erase(draft_.begin() + static_cast<std::ptrdiff_t>(i));
    draft_.insert(draft_.begin() + static_cast<std::ptrdiff_t>(j), moved);
    return std::min(i, j);
  }

  Solution solution() const {
    std::vector<double> free_s(static_cast<std::size_t>(num_devices_), 0.0);
    Solution solution;
    for (const Entry& entry : best_) {
      const Mode& mode = reduced_.tasks[entry.task].modes[entry.mode];
      const int n = node_for(mode, free_s.data());
      place_on(free_s.data() + offsets_[n], reduced_.nodes[n].width, mode.width, mode.time_s);
      solution.push_back({entry.task, n, entry.mode});
    }
    return solution;
  }

  const Reduced& reduced_;
  const AnnealOptions& options_;
  Random random_;
  std::vector<int> offsets_;
  std::vector<double> prices_;
  int num_devices_ = 0;
  double devices_ = 0.0;
  double scale_ = 1.0;
  std::vector<Entry> items_;
  std::vector<Entry> draft_;
  std::vector<double> before_;
  std::vector<double> draft_before_;
  double makespan_s_ = 0.0;
  double cost_ = 0.0;
  std::vector<Entry> best_;
  double best_s_ = kNever;
};

}  // namespace

AnnealResult anneal_global(const Reduced& reduced, const Solution& start, const AnnealOptions& options,
                           const Budget& budget) {
  if (start.empty()) return {start, 0.0, 0};
  return GlobalAnnealer(reduced, start, options).run(budget);
}

}  // namespace saturn::plan

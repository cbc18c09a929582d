// The packer: a pool of tasks, and one node's list at a time. What ends too late drops out of the list and
// back into the pool, so that a large task can push out several small ones.

#include "plan/pack.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "plan/anneal_accept.h"
#include "plan/patterns.h"
#include "plan/timeline.h"
#include "saturn/base/random.h"

namespace saturn::plan {
namespace {

// All in shares of a node.
constexpr double kHot = 0.03;           // temperature at first
constexpr double kFinishWeight = 0.2;   // of the devices' mean finish: who ends soon has room
constexpr double kFull = 0.9995;        // a list worth so much is not improved further
constexpr double kWaste = 0.005;        // what a mode may cost more than the task's cheapest
constexpr double kWorthPerArea = 1e-3;  // of tasks that the prices call worthless, on an idle class

class Packer {
 public:
  Packer(const Reduced& reduced, const AllotmentBound& bound, const PackOptions& options,
         const Budget& budget)
      : reduced_(reduced),
        options_(options),
        budget_(budget),
        random_(mix_key(options.seed, 0x7061636b)),
        groups_(node_groups(reduced)),
        lists_(reduced.nodes.size()),
        in_pool_(reduced.tasks.size(), 1) {
    price_modes(bound);
    order_tasks();
  }

  PackResult run() {
    PackResult result;
    const std::vector<int> nodes = order_of_nodes();
    const auto num_nodes = static_cast<std::int64_t>(nodes.size());
    for (std::int64_t i = 0; i < num_nodes && !pool_.empty() && !stopped_; ++i) {
      fill(nodes[i], (budget_.iterations - iterations_) / (num_nodes - i));
    }
    result.num_left = static_cast<int>(pool_.size());
    result.makespan_s = place_rest();
    for (std::size_t n = 0; n < lists_.size(); ++n) {
      for (const Item& one : lists_[n]) result.solution.push_back({one.task, static_cast<int>(n), one.mode});
    }
    result.iterations = iterations_;
    return result;
  }

 private:
  struct Item {
    int task;
    int mode;
    int width;
    double time_s;
  };

  int group_of(int node) const {
    const auto it = std::find_if(groups_.begin(), groups_.end(), [&](const NodeGroup& group) {
      return group.device_class == reduced_.nodes[node].device_class &&
             group.width == reduced_.nodes[node].width;
    });
    return static_cast<int>(it - groups_.begin());
  }

  // What every task is worth, and the modes that cost little more than that, by group.
  void price_modes(const AllotmentBound& bound) {
    const std::size_t num_tasks = reduced_.tasks.size();
    double room = 0.0;  // of all nodes, per second
    double devices = 0.0;
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      const NodeGroup& group = groups_[g];
      room_.push_back(best_pattern(group.widths, bound.width_price[g], group.width).value);
      room += room_.back() * group.count;
      devices += static_cast<double>(group.width) * group.count;
    }
    const double node = std::max(room / static_cast<double>(reduced_.nodes.size()), 1e-300) * options_.end_s;
    const double device_s = devices / static_cast<double>(reduced_.nodes.size()) * options_.end_s;
    for (double& one : room_) one *= options_.end_s / node;
    const auto asks = [&](std::size_t g, const Mode& mode) {
      const std::vector<int>& widths = groups_[g].widths;
      const auto w = std::lower_bound(widths.begin(), widths.end(), mode.width) - widths.begin();
      return bound.width_price[g][static_cast<std::size_t>(w)] * mode.time_s / node;
    };
    const auto runs = [&](std::size_t g, const Mode& mode) {
      return mode.device_class == groups_[g].device_class && mode.width <= groups_[g].width &&
             mode.time_s <= options_.end_s;
    };
    worth_.assign(num_tasks, kNever);
    items_of_.assign(groups_.size(), std::vector<std::vector<Item>>(num_tasks));
    for (std::size_t t = 0; t < num_tasks; ++t) {
      const std::vector<Mode>& modes = reduced_.tasks[t].modes;
      double area = kNever;
      for (std::size_t g = 0; g < groups_.size(); ++g) {
        for (const Mode& mode : modes) {
          if (!runs(g, mode)) continue;
          worth_[t] = std::min(worth_[t], asks(g, mode));
          area = std::min(area, mode.width * mode.time_s / device_s);
        }
      }
      if (worth_[t] == kNever) {  // longer than `end_s`: it is left for the end
        worth_[t] = 0.0;
        continue;
      }
      for (std::size_t g = 0; g < groups_.size(); ++g) {
        for (int m = 0; m < static_cast<int>(modes.size()); ++m) {
          if (!runs(g, modes[m]) || asks(g, modes[m]) > worth_[t] + kWaste) continue;
          items_of_[g][t].push_back({static_cast<int>(t), m, modes[m].width, modes[m].time_s});
        }
      }
      worth_[t] = std::max(worth_[t], kWorthPerArea * area);
    }
  }

  // The pool by worth. Large tasks come first: small ones find room at the end.
  void order_tasks() {
    pool_.resize(worth_.size());
    std::iota(pool_.begin(), pool_.end(), 0);
    std::stable_sort(pool_.begin(), pool_.end(), [&](int a, int b) { return worth_[a] < worth_[b]; });
    rank_.resize(pool_.size());
    for (std::size_t r = 0; r < pool_.size(); ++r) rank_[pool_[r]] = static_cast<int>(r);
    for (const double worth : worth_) value_.push_back(worth * (1.0 + 0.5 * worth));
  }

  // The groups take turns, so that each has its share of large and of small tasks.
  std::vector<int> order_of_nodes() const {
    std::vector<int> seen(groups_.size(), 0);
    std::vector<std::pair<double, int>> when;
    for (int n = 0; n < static_cast<int>(reduced_.nodes.size()); ++n) {
      const int g = group_of(n);
      if (groups_[g].widths.empty()) continue;
      when.emplace_back((seen[g]++ + 0.5) / groups_[g].count, n);
    }
    std::sort(when.begin(), when.end());
    std::vector<int> order;
    for (const auto& [at, n] : when) order.push_back(n);
    return order;
  }

  // Some task of the pool that runs on the group and is not in the list, near `task` in worth (anywhere for
  // -1); -1 where chance names another.
  int candidate(int g, int task) {
    const auto count = static_cast<std::int64_t>(pool_.size());
    std::int64_t at = 0;
    if (task < 0) {
      at = static_cast<std::int64_t>(random_.below(pool_.size()));
    } else {
      const auto before = [&](int a, int b) { return rank_[a] < rank_[b]; };
      at = std::lower_bound(pool_.begin(), pool_.end(), task, before) - pool_.begin();
      const std::int64_t reach = random_.below(4) == 0 ? count : 1 + count / 16;
      const auto step = static_cast<std::int64_t>(1 + random_.below(static_cast<std::uint64_t>(reach)));
      at += (random_.next() & 1) != 0 ? step : -step;
      if (at < 0 || at >= count) return -1;
    }
    const int one = pool_[static_cast<std::size_t>(at)];
    return in_pool_[one] == 0 || items_of_[g][one].empty() ? -1 : one;
  }

  Item some_item(int g, int task) {
    const std::vector<Item>& items = items_of_[g][task];
    return items.size() == 1 ? items.front() : items[random_.below(items.size())];
  }

  struct Move {
    bool possible = false;
    std::size_t from = 0;  // first position that differs
    int in = -1;
    int out = -1;
  };

  // Leaves the list as the move would have it in `draft_`.
  Move propose(int g) {
    draft_ = list_;
    Move move;
    const std::uint64_t kind = random_.below(100);
    if (list_.empty() || kind < 25) {  // another task
      move.in = candidate(g, -1);
      if (move.in < 0) return move;
      move.from = random_.below(list_.size() + 1);
      draft_.insert(draft_.begin() + static_cast<std::ptrdiff_t>(move.from), some_item(g, move.in));
    } else if (kind < 65) {  // one task for another
      move.from = random_.below(list_.size());
      move.in = candidate(g, list_[move.from].task);
      if (move.in < 0) return move;
      move.out = list_[move.from].task;
      draft_[move.from] = some_item(g, move.in);
    } else if (kind < 85) {  // another order
      const std::size_t i = random_.below(list_.size());
      const std::size_t j = random_.below(list_.size());
      if (i == j) return move;
      draft_.erase(draft_.begin() + static_cast<std::ptrdiff_t>(i));
      draft_.insert(draft_.begin() + static_cast<std::ptrdiff_t>(j), list_[i]);
      move.from = std::min(i, j);
    } else if (kind < 97) {  // another mode
      move.from = random_.below(list_.size());
      draft_[move.from] = some_item(g, list_[move.from].task);
      if (draft_[move.from].mode == list_[move.from].mode) return move;
    } else {  // one task less
      move.from = random_.below(list_.size());
      move.out = list_[move.from].task;
      draft_.erase(draft_.begin() + static_cast<std::ptrdiff_t>(move.from));
    }
    move.possible = true;
    return move;
  }

  // Schedules `draft_` from position `from` on. What would end too late drops out. Returns the sum of the
  // devices' finishes.
  double schedule(std::size_t from, std::size_t width) {
    draft_before_.resize((draft_.size() + 1) * width);
    dropped_.clear();
    double* at = draft_before_.data() + from * width;
    std::memcpy(at, before_.data() + from * width, sizeof(double) * width);
    std::size_t kept = from;
    for (std::size_t i = from; i < draft_.size(); ++i) {
      const Item one = draft_[i];
      if (at[one.width - 1] + one.time_s > options_.end_s) {
        dropped_.push_back(one.task);
        continue;
      }
      std::memcpy(at + width, at, sizeof(double) * width);
      at += width;
      place_on(at, static_cast<int>(width), one.width, one.time_s);
      draft_[kept++] = one;
    }
    draft_.resize(kept);
    return std::accumulate(at, at + width, 0.0);
  }

  // Gives node `n` the best list of the pool's tasks that so many evaluations find.
  void fill(int n, std::int64_t evaluations) {
    const int g = group_of(n);
    const auto width = static_cast<std::size_t>(reduced_.nodes[n].width);
    const double finish_scale = kFinishWeight / (options_.end_s * static_cast<double>(width));
    std::vector<Item> best;
    double best_value = 0.0;
    double value = 0.0;
    double worth = 0.0;
    double finish_s = 0.0;
    list_.clear();
    before_.assign(width, 0.0);
    Cooling cooling(kHot, evaluations);
    for (std::int64_t k = 0; k < evaluations; ++k) {
      if (k % 1024 == 0 && budget_.out_of_time && budget_.out_of_time()) {
        stopped_ = true;
        break;
      }
      ++iterations_;
      cooling.step(k);
      const Move move = propose(g);
      if (!move.possible) continue;
      double gain = (move.in < 0 ? 0.0 : value_[move.in]) - (move.out < 0 ? 0.0 : value_[move.out]);
      const double threshold = cooling.threshold(random_.next());
      if (gain < -threshold - kFinishWeight) continue;  // not even an empty node makes up for it
      const double draft_finish_s = schedule(move.from, width);
      if (!dropped_.empty() && dropped_.front() == move.in) continue;
      for (const int task : dropped_) gain -= value_[task];
      if (gain - (draft_finish_s - finish_s) * finish_scale < -threshold) continue;

      std::memcpy(draft_before_.data(), before_.data(), sizeof(double) * move.from * width);
      before_.swap(draft_before_);
      list_.swap(draft_);
      finish_s = draft_finish_s;
      value += gain;
      if (move.in >= 0) {
        in_pool_[move.in] = 0;
        worth += worth_[move.in];
      }
      if (move.out >= 0) dropped_.push_back(move.out);
      for (const int task : dropped_) {
        in_pool_[task] = 1;
        worth -= worth_[task];
      }
      if (value <= best_value) continue;
      best_value = value;
      best = list_;
      if (room_[g] > 0.0 && worth >= room_[g] * kFull) break;
    }
    for (const Item& one : list_) in_pool_[one.task] = 1;
    for (const Item& one : best) in_pool_[one.task] = 0;
    pool_.erase(std::remove_if(pool_.begin(), pool_.end(), [&](int task) { return in_pool_[task] == 0; }),
                pool_.end());
    lists_[n] = std::move(best);
  }

  // What is left goes where it ends first, the largest first. Returns the end of the last task.
  double place_rest() {
    std::vector<std::vector<double>> free_s;
    for (std::size_t n = 0; n < lists_.size(); ++n) {
      free_s.emplace_back(static_cast<std::size_t>(reduced_.nodes[n].width), 0.0);
      for (const Item& one : lists_[n]) {
        place_on(free_s[n].data(), reduced_.nodes[n].width, one.width, one.time_s);
      }
    }
    for (auto left = pool_.rbegin(); left != pool_.rend(); ++left) {
      const Task& task = reduced_.tasks[*left];
      Choice choice{*left, -1, -1};
      double first_s = kNever;
      for (int n = 0; n < static_cast<int>(lists_.size()); ++n) {
        for (int m = 0; m < static_cast<int>(task.modes.size()); ++m) {
          const Mode& mode = task.modes[m];
          if (!can_run(reduced_, task, mode, n)) continue;
          const double end_s = free_s[n][static_cast<std::size_t>(mode.width - 1)] + mode.time_s;
          if (end_s >= first_s) continue;
          first_s = end_s;
          choice = {*left, n, m};
        }
      }
      const Mode& mode = task.modes[choice.mode];
      place_on(free_s[choice.node].data(), reduced_.nodes[choice.node].width, mode.width, mode.time_s);
      lists_[choice.node].push_back({*left, choice.mode, mode.width, mode.time_s});
    }
    double last_s = 0.0;
    for (const std::vector<double>& one : free_s) last_s = std::max(last_s, one.back());
    return last_s;
  }

  const Reduced& reduced_;
  const PackOptions& options_;
  const Budget& budget_;
  Random random_;
  std::vector<NodeGroup> groups_;
  std::vector<double> room_;                              // of a node of each group
  std::vector<std::vector<std::vector<Item>>> items_of_;  // per group and task: the ways to run it there
  std::vector<double> worth_;
  std::vector<double> value_;  // what the search sees in place of the worth
  std::vector<int> rank_;      // by worth
  std::vector<int> pool_;      // tasks that no node has yet, by worth
  std::vector<std::vector<Item>> lists_;
  std::vector<char> in_pool_;  // 0 for a task in a list, also in the one being filled
  std::vector<Item> list_;
  std::vector<double> before_;  // free times before each position of `list_`
  std::vector<Item> draft_;
  std::vector<double> draft_before_;
  std::vector<int> dropped_;
  std::int64_t iterations_ = 0;
  bool stopped_ = false;
};

}  // namespace

PackResult pack(const Reduced& reduced, const AllotmentBound& bound, const PackOptions& options,
                const Budget& budget) {
  if (bound.width_price.size() != node_groups(reduced).size()) return {};
  return Packer(reduced, bound, options, budget).run();
}

}  // namespace saturn::plan

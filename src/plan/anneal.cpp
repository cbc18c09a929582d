// Annealing. A move changes one or two nodes' lists; only the part of a list after the change is scheduled
// again, from the device free times remembered before every position.

#include "plan/anneal.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "plan/anneal_accept.h"
#include "plan/timeline.h"
#include "saturn/base/random.h"

namespace saturn::plan {
namespace {

struct Item {
  int task;
  int mode;
  int width;
  double time_s;
};

struct NodeList {
  int width = 0;
  int device_class = 0;
  double price = 1.0;
  std::vector<Item> items;
  std::vector<double> before;  // (items + 1) x width: free times before each position, ascending
  double makespan_s = 0.0;
  double finish_s = 0.0;  // sum over devices

  const double* state(std::size_t position) const { return before.data() + position * width; }
};

// A node's list as a move would leave it, from the first position that differs.
struct Draft {
  int node = -1;
  std::size_t from = 0;
  std::vector<Item> items;
  std::vector<double> before;
  double makespan_s = 0.0;
  double finish_s = 0.0;
};

class Annealer {
 public:
  Annealer(const Reduced& reduced, const Solution& start, const AnnealOptions& options)
      : reduced_(reduced), options_(options), random_(mix_key(options.seed, 0x616e6e65616c)) {
    for (std::size_t n = 0; n < reduced.nodes.size(); ++n) {
      NodeList list;
      list.width = reduced.nodes[n].width;
      list.device_class = reduced.nodes[n].device_class;
      if (!options.class_price.empty()) list.price = options.class_price[list.device_class];
      devices_ += list.width * list.price;
      nodes_.push_back(std::move(list));
    }
    for (const Choice& choice : start) nodes_[choice.node].items.push_back(item(choice.task, choice.mode));
    node_of_.resize(reduced.tasks.size());
    for (std::size_t n = 0; n < nodes_.size(); ++n) {
      schedule_all(static_cast<int>(n));
      for (const Item& one : nodes_[n].items) node_of_[one.task] = static_cast<int>(n);
    }
    find_last();
    scale_ = 1.0 / std::max(options.bound_s, 1e-12);
    remember_best();
  }

  AnnealResult run(const Budget& budget) {
    Cooling cooling(start_temperature(reduced_.tasks.size()) * options_.heat, budget.iterations);
    double cost = total_cost();
    std::int64_t done = 0;
    for (; done < budget.iterations; ++done) {
      if (done % 256 == 0 && budget.out_of_time && budget.out_of_time()) break;
      cooling.step(done);
      num_drafts_ = 0;
      if (!propose()) continue;
      const double next = draft_cost();
      if (next - cost < cooling.threshold(random_.next())) {
        commit();
        cost = next;
        if (makespan_s() < best_s_) {
          remember_best();
          if (best_s_ <= options_.bound_s) break;
        }
      }
    }
    return {best_solution(), best_s_, done};
  }

 private:
  Item item(int task, int mode) const {
    const Mode& one = reduced_.tasks[task].modes[mode];
    return {task, mode, one.width, one.time_s};
  }

  void schedule_all(int n) {
    NodeList& list = nodes_[n];
    list.before.assign((list.items.size() + 1) * list.width, 0.0);
    for (std::size_t i = 0; i < list.items.size(); ++i) {
      double* next = list.before.data() + (i + 1) * list.width;
      std::memcpy(next, list.state(i), sizeof(double) * list.width);
      place_on(next, list.width, list.items[i].width, list.items[i].time_s);
    }
    summarise(list.before.data() + list.items.size() * list.width, list.width, list.makespan_s,
              list.finish_s);
  }

  static void summarise(const double* free_s, int width, double& makespan_s, double& finish_s) {
    makespan_s = free_s[width - 1];
    finish_s = 0.0;
    for (int d = 0; d < width; ++d) finish_s += free_s[d];
  }

  double makespan_s() const { return last_[0] < 0 ? 0.0 : nodes_[last_[0]].makespan_s; }

  // A move touches two nodes at most, so one of the three that end last tells what the others come to.
  void find_last() {
    last_.fill(-1);
    for (int n = 0; n < static_cast<int>(nodes_.size()); ++n) {
      int moved = n;
      for (int& place : last_) {
        if (place < 0 || nodes_[moved].makespan_s > nodes_[place].makespan_s) std::swap(place, moved);
        if (moved < 0) break;
      }
    }
  }

  double makespan_beside_drafts() const {
    for (const int n : last_) {
      if (n < 0) break;
      bool drafted = false;
      for (int d = 0; d < num_drafts_; ++d) drafted |= drafts_[d].node == n;
      if (!drafted) return nodes_[n].makespan_s;
    }
    return 0.0;
  }

  double cost_of(double makespan_s, double finish_s) const {
    return (makespan_s + options_.idle_weight * finish_s / devices_) * scale_;
  }

  double total_cost() {
    finish_s_ = 0.0;
    for (const NodeList& list : nodes_) finish_s_ += list.finish_s * list.price;
    return cost_of(makespan_s(), finish_s_);
  }

  double draft_cost() {
    double most = makespan_beside_drafts();
    double finish = finish_s_;
    for (int d = 0; d < num_drafts_; ++d) {
      most = std::max(most, drafts_[d].makespan_s);
      const NodeList& list = nodes_[drafts_[d].node];
      finish += (drafts_[d].finish_s - list.finish_s) * list.price;
    }
    draft_finish_s_ = finish;
    return cost_of(most, finish);
  }

  void commit() {
    for (int d = 0; d < num_drafts_; ++d) {
      const Draft& draft = drafts_[d];
      NodeList& list = nodes_[draft.node];
      list.items.resize(draft.from + draft.items.size());
      std::copy(draft.items.begin(), draft.items.end(),
                list.items.begin() + static_cast<std::ptrdiff_t>(draft.from));
      list.before.resize((list.items.size() + 1) * list.width);
      std::copy(draft.before.begin(), draft.before.end(),
                list.before.begin() + static_cast<std::ptrdiff_t>(draft.from) * list.width);
      list.makespan_s = draft.makespan_s;
      list.finish_s = draft.finish_s;
      for (const Item& one : draft.items) node_of_[one.task] = draft.node;
    }
    finish_s_ = draft_finish_s_;
    find_last();
  }

  // A draft of node `n` that will differ from position `from` on; holds its items from there.
  Draft& draft_of(int n, std::size_t from) {
    Draft& draft = drafts_[num_drafts_++];
    draft.node = n;
    draft.from = from;
    const std::vector<Item>& items = nodes_[n].items;
    draft.items.assign(items.begin() + static_cast<std::ptrdiff_t>(from), items.end());
    return draft;
  }

  void schedule(Draft& draft) {
    const NodeList& list = nodes_[draft.node];
    const int width = list.width;
    draft.before.resize((draft.items.size() + 1) * width);
    std::memcpy(draft.before.data(), list.state(draft.from), sizeof(double) * width);
    double* at = draft.before.data();
    for (const Item& one : draft.items) {
      std::memcpy(at + width, at, sizeof(double) * width);
      at += width;
      place_on(at, width, one.width, one.time_s);
    }
    summarise(at, width, draft.makespan_s, draft.finish_s);
  }

  // Some mode of `task` on node `n`, other than `except`; mostly a neighbour in width. -1 where there is
  // none.
  int some_mode(int task, int n, int except) {
    const Task& one = reduced_.tasks[task];
    const int count = static_cast<int>(one.modes.size());
    if (except >= 0 && (random_.next() & 3) != 0) {
      const int neighbour = except + ((random_.next() & 1) != 0 ? 1 : -1);
      if (neighbour >= 0 && neighbour < count && can_run(reduced_, one, one.modes[neighbour], n))
        return neighbour;
    }
    const int first = static_cast<int>(random_.below(static_cast<std::uint64_t>(count)));
    for (int k = 0; k < count; ++k) {
      const int m = (first + k) % count;
      if (m != except && can_run(reduced_, one, one.modes[m], n)) return m;
    }
    return -1;
  }

  // The mode to run `task` on `n`: as now where it can, sometimes another.
  int carried_mode(const Item& one, int n) {
    const Task& task = reduced_.tasks[one.task];
    if (random_.below(4) != 0 && can_run(reduced_, task, task.modes[one.mode], n)) return one.mode;
    const int other = some_mode(one.task, n, -1);
    return other;
  }

  int some_node() {
    if (nodes_.size() == 1) return 0;
    // Half of the moves start at a node that ends last.
    if ((random_.next() & 1) != 0) return last_[0];
    return node_of_[random_.below(node_of_.size())];
  }

  bool propose() {
    const int a = some_node();
    if (nodes_[a].items.empty()) return false;
    const std::uint64_t kind = random_.below(100);
    if (nodes_.size() > 1 && kind < 45) {
      int b = static_cast<int>(random_.below(nodes_.size() - 1));
      if (b >= a) ++b;
      return kind < 22 || nodes_[b].items.empty() ? send(a, b) : exchange(a, b);
    }
    switch (random_.below(4)) {
      case 0:
        return change_mode(a);
      case 1:
        return swap(a);
      default:
        return relocate(a);
    }
  }

  static std::ptrdiff_t at(std::size_t position, const Draft& draft) {
    return static_cast<std::ptrdiff_t>(position - draft.from);
  }

  bool change_mode(int n) {
    const std::size_t i = random_.below(nodes_[n].items.size());
    const Item now = nodes_[n].items[i];
    const int mode = some_mode(now.task, n, now.mode);
    if (mode < 0) return false;
    Draft& draft = draft_of(n, i);
    draft.items.front() = item(now.task, mode);
    schedule(draft);
    return true;
  }

  bool swap(int n) {
    const std::size_t count = nodes_[n].items.size();
    if (count < 2) return false;
    std::size_t i = random_.below(count);
    std::size_t j = random_.below(count - 1);
    if (j >= i) ++j;
    if (i > j) std::swap(i, j);
    Draft& draft = draft_of(n, i);
    std::swap(draft.items.front(), draft.items[j - i]);
    schedule(draft);
    return true;
  }

  bool relocate(int n) {
    const std::size_t count = nodes_[n].items.size();
    if (count < 2) return false;
    const std::size_t i = random_.below(count);
    std::size_t j = random_.below(count - 1);
    if (j >= i) ++j;
    Item moved = nodes_[n].items[i];
    if (random_.below(3) == 0) {
      const int mode = some_mode(moved.task, n, moved.mode);
      if (mode >= 0) moved = item(moved.task, mode);
    }
    Draft& draft = draft_of(n, std::min(i, j));
    draft.items.erase(draft.items.begin() + at(i, draft));
    draft.items.insert(draft.items.begin() + at(j, draft), moved);
    schedule(draft);
    return true;
  }

  bool send(int a, int b) {
    const std::size_t i = random_.below(nodes_[a].items.size());
    const Item now = nodes_[a].items[i];
    const int mode = carried_mode(now, b);
    if (mode < 0) return false;
    const std::size_t j = random_.below(nodes_[b].items.size() + 1);
    Draft& from = draft_of(a, i);
    from.items.erase(from.items.begin());
    schedule(from);
    Draft& to = draft_of(b, j);
    to.items.insert(to.items.begin(), item(now.task, mode));
    schedule(to);
    return true;
  }

  bool exchange(int a, int b) {
    const std::size_t i = random_.below(nodes_[a].items.size());
    const std::size_t j = random_.below(nodes_[b].items.size());
    const Item left = nodes_[a].items[i];
    const Item right = nodes_[b].items[j];
    const int left_mode = carried_mode(left, b);
    const int right_mode = carried_mode(right, a);
    if (left_mode < 0 || right_mode < 0) return false;
    Draft& first = draft_of(a, i);
    first.items.front() = item(right.task, right_mode);
    schedule(first);
    Draft& second = draft_of(b, j);
    second.items.front() = item(left.task, left_mode);
    schedule(second);
    return true;
  }

  void remember_best() {
    best_s_ = makespan_s();
    best_.resize(nodes_.size());
    for (std::size_t n = 0; n < nodes_.size(); ++n) best_[n] = nodes_[n].items;
  }

  Solution best_solution() const {
    Solution solution;
    for (std::size_t n = 0; n < best_.size(); ++n) {
      for (const Item& one : best_[n]) solution.push_back({one.task, static_cast<int>(n), one.mode});
    }
    return solution;
  }

  const Reduced& reduced_;
  const AnnealOptions& options_;
  Random random_;
  std::vector<NodeList> nodes_;
  std::vector<int> node_of_;
  std::array<int, 3> last_ = {-1, -1, -1};  // the nodes that end last, the last first
  std::array<Draft, 2> drafts_;
  int num_drafts_ = 0;
  double devices_ = 0.0;
  double scale_ = 1.0;
  double finish_s_ = 0.0;
  double draft_finish_s_ = 0.0;
  double best_s_ = kNever;
  std::vector<std::vector<Item>> best_;
};

}  // namespace

AnnealResult anneal(const Reduced& reduced, const Solution& start, const AnnealOptions& options,
                    const Budget& budget) {
  if (start.empty()) return {start, 0.0, 0};
  return Annealer(reduced, start, options).run(budget);
}

}  // namespace saturn::plan

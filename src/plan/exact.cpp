// Dealing tasks to nodes, with one exact search per kind of node behind it.

#include "plan/exact.h"

#include <algorithm>
#include <numeric>
#include <unordered_map>

#include "plan/bounds.h"
#include "plan/patterns.h"
#include "saturn/base/check.h"

namespace saturn::plan {
namespace {

constexpr std::int64_t kGlance = 500;  // nodes spent on a share that is not complete yet
constexpr std::int64_t kLook = 20000;  // on each share of a complete deal before any is searched long
constexpr std::int64_t kLongestLook = 40000000;  // on one share, where there are others to turn to
constexpr std::size_t kMostShares = 2000000;

// What is known of one share on one kind of node.
struct Share {
  double refuted_s = -1.0;  // cannot be over by then
  double found_s = kNever;  // can be over by then, by `starts`
  std::int64_t spent = 0;   // nodes, without a result for `tried_s`
  double tried_s = -1.0;
  std::vector<NodeSearch::Start> starts;
};

}  // namespace

bool exact_applies(const Reduced& reduced) {
  return reduced.plain && reduced.tasks.size() <= kMostExactTasks &&
         std::all_of(reduced.nodes.begin(), reduced.nodes.end(),
                     [](const ReducedNode& node) { return node.width <= NodeSearch::kMostWidth; });
}

struct ExactSearch::State {
  // Nodes of one class and width.
  struct Kind {
    int device_class = 0;
    int width = 0;
    std::unique_ptr<NodeSearch> search;
    std::unordered_map<std::uint64_t, Share> shares;
  };
  // A width function over all kinds: what a task asks for at least on each, and what a second gives.
  struct Supply {
    std::vector<std::vector<double>> least;  // [position][kind], kNever where it cannot run
    std::vector<double> least_anywhere;      // of this position and all later ones
    double total = 0.0;                      // of all nodes in a second
  };

  State(const Reduced& problem, double upper_s) : reduced(problem) {
    for (int t = 0; t < static_cast<int>(reduced.tasks.size()); ++t) {
      if (!takes_no_time(t)) order.push_back(t);
    }
    const auto area = [&](int t) {
      double least = kNever;
      for (const Mode& mode : reduced.tasks[t].modes) least = std::min(least, mode.width * mode.time_s);
      return least;
    };
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return area(a) > area(b); });
    std::vector<int> position(reduced.tasks.size(), -1);
    for (std::size_t i = 0; i < order.size(); ++i) position[order[i]] = static_cast<int>(i);
    for (const int t : order)
      twin.push_back(reduced.tasks[t].twin_of < 0 ? -1 : position[reduced.tasks[t].twin_of]);
    for (const ReducedNode& node : reduced.nodes) {
      std::size_t k = 0;
      while (k < kinds.size() && (kinds[k].device_class != node.device_class || kinds[k].width != node.width))
        ++k;
      if (k == kinds.size()) {
        Kind& kind = kinds.emplace_back();
        kind.device_class = node.device_class;
        kind.width = node.width;
      }
      int before = -1;
      for (std::size_t n = 0; n < kind_of.size(); ++n) {
        if (kind_of[n] == static_cast<int>(k)) before = static_cast<int>(n);
      }
      equal_before.push_back(before);
      kind_of.push_back(static_cast<int>(k));
    }
    for (std::size_t k = 0; k < kinds.size(); ++k) make_search(k, upper_s);
  }

  // A task that can be over at once fits into any plan at 0 s: it is no part of the search.
  bool takes_no_time(int t) {
    const Task& task = reduced.tasks[t];
    for (int m = 0; m < static_cast<int>(task.modes.size()); ++m) {
      if (task.modes[m].time_s > 0.0) continue;
      for (const int n : reduced.nodes_of_class[task.modes[m].device_class]) {
        if (!can_run(reduced, task, task.modes[m], n)) continue;
        at_once.push_back({t, n, m});
        return true;
      }
    }
    return false;
  }

  void make_search(std::size_t k, double upper_s) {
    Kind& kind = kinds[k];
    std::vector<NodeSearch::Work> works;
    for (std::size_t p = 0; p < order.size(); ++p) {
      NodeSearch::Work work;
      work.twin_of = twin[p];
      const std::vector<Mode>& modes = reduced.tasks[order[p]].modes;
      for (int m = 0; m < static_cast<int>(modes.size()); ++m) {
        if (modes[m].device_class != kind.device_class || modes[m].width > kind.width) continue;
        work.modes.push_back({m, modes[m].width, modes[m].time_s});
      }
      works.push_back(std::move(work));
    }
    std::vector<std::vector<double>> prices;
    const auto add = [&](std::vector<double> price) {
      if (std::find(prices.begin(), prices.end(), price) == prices.end()) prices.push_back(std::move(price));
    };
    const auto add_lp = [&](const Reduced& part) {
      const AllotmentBound lp = allotment_bound(part, upper_s);
      if (lp.width_price.empty()) return;
      const std::vector<NodeGroup> groups = node_groups(part);
      for (std::size_t g = 0; g < groups.size(); ++g) {
        if (groups[g].device_class != kind.device_class || groups[g].width != kind.width) continue;
        std::vector<double> price(static_cast<std::size_t>(kind.width), 0.0);
        for (std::size_t w = 0; w < groups[g].widths.size(); ++w)
          price[groups[g].widths[w] - 1] = lp.width_price[g][w];
        add(std::move(price));
      }
    };
    add_lp(reduced);
    // What the large tasks leave over is priced without them.
    for (std::size_t without = 1; without < order.size() && reduced.nodes.size() == 1 && prices.size() < 4;
         without = without * 3 / 2 + 1) {
      Reduced part = reduced;
      part.tasks.clear();
      for (std::size_t p = without; p < order.size(); ++p) part.tasks.push_back(reduced.tasks[order[p]]);
      add_lp(part);
    }
    for (int step = 1; step <= 3; ++step) {
      std::vector<double> price;
      for (int w = 1; w <= kind.width; ++w)
        price.push_back(static_cast<double>((step + 1) * w / (kind.width + 1)) / step);
      add(std::move(price));
    }
    kind.search = std::make_unique<NodeSearch>(std::move(works), kind.width, prices);
  }

  // --- bounds over all nodes

  void add_supply(const std::vector<NodeGroup>& groups, const std::vector<std::vector<double>>& price) {
    Supply supply;
    std::vector<std::vector<double>> of_kind;
    for (const Kind& kind : kinds) {
      std::size_t g = 0;
      while (groups[g].device_class != kind.device_class || groups[g].width != kind.width) ++g;
      std::vector<double> values(static_cast<std::size_t>(kind.width), 0.0);
      for (std::size_t w = 0; w < groups[g].widths.size(); ++w) values[groups[g].widths[w] - 1] = price[g][w];
      supply.total += groups[g].count * best_pattern(groups[g].widths, price[g], kind.width).value;
      of_kind.push_back(std::move(values));
    }
    for (const int t : order) {
      std::vector<double> least(kinds.size(), kNever);
      for (const Mode& mode : reduced.tasks[t].modes) {
        if (mode.time_s > limit_s) continue;
        for (std::size_t k = 0; k < kinds.size(); ++k) {
          if (kinds[k].device_class != mode.device_class || kinds[k].width < mode.width) continue;
          least[k] = std::min(least[k], of_kind[k][mode.width - 1] * mode.time_s);
        }
      }
      supply.least.push_back(std::move(least));
    }
    supply.least_anywhere.assign(order.size() + 1, 0.0);
    for (std::size_t p = order.size(); p-- > 0;) {
      supply.least_anywhere[p] =
          supply.least_anywhere[p + 1] + *std::min_element(supply.least[p].begin(), supply.least[p].end());
    }
    supplies.push_back(std::move(supply));
  }

  void prepare() {
    supplies.clear();
    if (reduced.nodes.size() < 2) return;
    const std::vector<NodeGroup> groups = node_groups(reduced);
    std::vector<std::vector<double>> widths;
    for (const NodeGroup& group : groups) widths.emplace_back(group.widths.begin(), group.widths.end());
    add_supply(groups, widths);
    const AllotmentBound lp = allotment_bound(reduced, limit_s * (1.0 + 1e-9));
    if (!lp.width_price.empty()) add_supply(groups, lp.width_price);
  }

  // --- the search

  ExactAnswer decide(Kind& kind, std::uint64_t set, std::int64_t budget) {
    if (set == 0) return ExactAnswer::found;
    if (kind.shares.size() > kMostShares) kind.shares.clear();
    Share& share = kind.shares[set];
    if (limit_s <= share.refuted_s) return ExactAnswer::refuted;
    if (limit_s >= share.found_s) return ExactAnswer::found;
    budget = std::min(budget, node_stop - nodes());
    if (budget <= 0 || (share.tried_s == limit_s && share.spent >= budget)) return ExactAnswer::undecided;
    const std::int64_t before = kind.search->nodes();
    const ExactAnswer answer = kind.search->ends_by(set, limit_s, budget, *stop);
    switch (answer) {
      case ExactAnswer::found:
        share.found_s = limit_s;
        share.starts = kind.search->starts();
        break;
      case ExactAnswer::refuted:
        share.refuted_s = limit_s;
        break;
      case ExactAnswer::undecided:
        share.spent = kind.search->nodes() - before;
        share.tried_s = limit_s;
        break;
    }
    return answer;
  }

  bool over() {
    if (nodes() >= node_stop || ((dealt & 1023) == 0 && (*stop)())) out = true;
    return out;
  }

  // Tasks from position `p` on are still to be dealt; `asked` is what those before ask for, by supply.
  bool deal(std::size_t p, const std::vector<double>& asked) {
    ++dealt;
    if (over()) return false;
    if (p == order.size()) return all_found();
    std::vector<double> next(asked.size());
    for (std::size_t n = 0; n < kind_of.size(); ++n) {
      if (equal_before[n] >= 0 && sets[equal_before[n]] == 0) continue;
      if (twin[p] >= 0 && node_of[twin[p]] > static_cast<int>(n)) continue;
      bool fits = true;
      for (std::size_t s = 0; s < supplies.size() && fits; ++s) {
        const Supply& supply = supplies[s];
        next[s] = asked[s] + supply.least[p][kind_of[n]];
        const double gives = supply.total * limit_s;
        fits = next[s] + supply.least_anywhere[p + 1] <= gives * (1.0 + 2e-9);
      }
      if (!fits) continue;
      Kind& kind = kinds[kind_of[n]];
      const std::uint64_t set = sets[n] | std::uint64_t{1} << p;
      if (kind.search->hopeless(set, limit_s)) continue;
      if (p + 1 < order.size() && decide(kind, set, kGlance) == ExactAnswer::refuted) continue;
      const std::uint64_t before = sets[n];
      sets[n] = set;
      node_of[p] = static_cast<int>(n);
      if (deal(p + 1, next)) return true;
      sets[n] = before;
      if (out) return false;
    }
    return false;
  }

  bool all_found() {
    bool all = true;
    for (const std::int64_t budget : {kLook, sets.size() == 1 ? node_stop : kLongestLook}) {
      all = true;
      for (std::size_t n = 0; n < sets.size(); ++n) {
        const ExactAnswer answer = decide(kinds[kind_of[n]], sets[n], budget);
        if (answer == ExactAnswer::refuted) return false;
        all &= answer == ExactAnswer::found;
      }
      if (all) break;
    }
    if (!all) open = true;
    return all;
  }

  std::int64_t nodes() const {
    std::int64_t sum = dealt;
    for (const Kind& kind : kinds) sum += kind.search->nodes();
    return sum;
  }

  const Reduced& reduced;
  Solution at_once;        // tasks that take no time
  std::vector<int> order;  // task at each position; everything else speaks of positions
  std::vector<int> twin;
  std::vector<Kind> kinds;
  std::vector<int> kind_of;       // per node
  std::vector<int> equal_before;  // the nearest node of the same kind before each; -1
  std::vector<Supply> supplies;
  double limit_s = 0.0;
  std::vector<std::uint64_t> sets;  // per node
  std::vector<int> node_of;         // per position
  std::int64_t dealt = 0;
  std::int64_t node_stop = 0;
  bool out = false;   // stopped
  bool open = false;  // some deal was neither found nor refuted
  const std::function<bool()>* stop = nullptr;
  Solution solution;
};

ExactSearch::ExactSearch(const Reduced& reduced, double upper_s) {
  SATURN_CHECK(exact_applies(reduced), "the exact search takes small plain problems");
  state_ = std::make_unique<State>(reduced, upper_s);
}

ExactSearch::~ExactSearch() = default;

ExactSearch::Answer ExactSearch::ends_by(double limit_s, std::int64_t node_limit,
                                         const std::function<bool()>& stop) {
  State& state = *state_;
  if (limit_s < 0.0) return Answer::refuted;
  state.limit_s = limit_s;
  state.node_stop = state.nodes() + node_limit;
  state.out = false;
  state.open = false;
  state.stop = &stop;
  state.sets.assign(state.kind_of.size(), 0);
  state.node_of.assign(state.order.size(), -1);
  state.prepare();
  if (!state.deal(0, std::vector<double>(state.supplies.size(), 0.0))) {
    return state.out || state.open ? Answer::undecided : Answer::refuted;
  }
  state.solution = state.at_once;
  for (std::size_t n = 0; n < state.sets.size(); ++n) {
    if (state.sets[n] == 0) continue;
    for (const NodeSearch::Start& start : state.kinds[state.kind_of[n]].shares.at(state.sets[n]).starts) {
      state.solution.push_back({state.order[start.task], static_cast<int>(n), start.mode});
    }
  }
  return Answer::found;
}

const Solution& ExactSearch::solution() const {
  return state_->solution;
}
std::int64_t ExactSearch::nodes() const {
  return state_->nodes();
}

}  // namespace saturn::plan

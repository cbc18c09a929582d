// Chronological branch and bound.

#include "plan/exact.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "plan/bounds.h"
#include "plan/patterns.h"
#include "plan/timeline.h"
#include "saturn/base/check.h"
#include "saturn/base/random.h"

namespace saturn::plan {
namespace {

constexpr std::size_t kSeenStates = std::size_t{1} << 20;

// A width function over all node groups: what a mode asks for per second, and the most that k free devices of
// a group can give.
struct WidthFunction {
  std::vector<std::vector<double>> of_mode;   // [task][mode]
  std::vector<std::vector<double>> capacity;  // [node][k], k = 0..width
};

struct Option {
  int mode;
  int width;
  double time_s;
};

}  // namespace

struct ExactSearch::State {
  explicit State(const Reduced& problem) : reduced(problem) {
    // Tasks with the largest least area first: they fail soonest. Twins stay in their order.
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
    for (const int t : order) {
      const Task& task = reduced.tasks[t];
      twin.push_back(task.twin_of < 0 ? -1 : position[task.twin_of]);
      std::vector<std::vector<Option>> by_class(static_cast<std::size_t>(reduced.num_classes));
      for (int m = 0; m < static_cast<int>(task.modes.size()); ++m) {
        by_class[task.modes[m].device_class].push_back({m, task.modes[m].width, task.modes[m].time_s});
      }
      for (auto& options : by_class) {
        std::stable_sort(options.begin(), options.end(),
                         [](const Option& a, const Option& b) { return a.width > b.width; });
      }
      options.push_back(std::move(by_class));
    }
    int offset = 0;
    for (const ReducedNode& node : reduced.nodes) {
      offsets.push_back(offset);
      offset += node.width;
    }
    num_devices = offset;
    widest = 0;
    for (const ReducedNode& node : reduced.nodes) widest = std::max(widest, node.width);
    for (std::size_t n = 0; n < reduced.nodes.size(); ++n) {
      int before = -1;
      for (std::size_t b = 0; b < n; ++b) {
        if (reduced.nodes[b].device_class == reduced.nodes[n].device_class &&
            reduced.nodes[b].width == reduced.nodes[n].width) {
          before = static_cast<int>(b);
        }
      }
      equal_before.push_back(before);
      equal_after.push_back(-1);
      if (before >= 0) equal_after[before] = static_cast<int>(n);
    }
    seen.assign(kSeenStates, {0, 0});
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

  // What changes along a path; copied at every branch.
  struct Path {
    std::vector<double> free_s;    // per node, ascending
    std::vector<double> gap_from;  // per node: since when gap_width devices stood idle until gap_to
    std::vector<double> gap_to;
    std::vector<int> gap_width;
    std::vector<double> last_at;  // per node: when its last task started, and which that was
    std::vector<int> last_task;
    std::vector<int> first_task;  // per node: -1 none yet, kMostExactTasks: closed without any
  };

  const Reduced& reduced;
  Solution at_once;        // tasks that take no time
  std::vector<int> order;  // task at each position; everything below speaks of positions
  std::vector<int> twin;
  std::vector<std::vector<std::vector<Option>>> options;  // [position][class]
  std::vector<int> offsets;
  std::vector<int> equal_before;  // the nearest node of the same class and width before each; -1
  std::vector<int> equal_after;
  int num_devices = 0;
  int widest = 0;

  double limit_s = 0.0;
  std::int64_t nodes = 0;
  std::int64_t node_stop = 0;
  bool out = false;
  const std::function<bool()>* stop = nullptr;
  std::vector<WidthFunction> functions;
  std::vector<Choice> trail;
  Solution solution;
  std::vector<Path> paths;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> seen;
  std::uint64_t salt = 0;
  std::vector<double> earliest;  // [class * (widest + 1) + width]: first start at that width

  void prepare() {
    functions.clear();
    const std::vector<NodeGroup> groups = node_groups(reduced);
    const auto add = [&](auto price) {
      WidthFunction function;
      for (const int t : order) {
        std::vector<double> values;
        for (const Mode& mode : reduced.tasks[t].modes) {
          // A task goes to the group where it asks for least.
          double least = kNever;
          for (std::size_t g = 0; g < groups.size(); ++g) {
            if (groups[g].device_class != mode.device_class || groups[g].width < mode.width) continue;
            least = std::min(least, price(g, mode.width));
          }
          values.push_back(least);
        }
        function.of_mode.push_back(std::move(values));
      }
      for (const ReducedNode& node : reduced.nodes) {
        std::size_t g = 0;
        while (groups[g].device_class != node.device_class || groups[g].width != node.width) ++g;
        std::vector<double> values;
        for (const int width : groups[g].widths) values.push_back(price(g, width));
        std::vector<double> most;
        for (int k = 0; k <= node.width; ++k) most.push_back(best_pattern(groups[g].widths, values, k).value);
        function.capacity.push_back(std::move(most));
      }
      functions.push_back(std::move(function));
    };
    add([&](std::size_t, int width) { return static_cast<double>(width); });
    const AllotmentBound lp = allotment_bound(reduced, limit_s * (1.0 + 1e-9));
    if (!lp.width_price.empty()) {
      add([&](std::size_t g, int width) {
        const auto& widths = groups[g].widths;
        return lp.width_price[g][std::lower_bound(widths.begin(), widths.end(), width) - widths.begin()];
      });
    }
    for (int k = 1; k <= 3; ++k) {
      add([&](std::size_t g, int width) {
        return static_cast<double>((k + 1) * width / (groups[g].width + 1)) / k;
      });
    }
  }

  const double* free_of(const Path& path, std::size_t n) const { return path.free_s.data() + offsets[n]; }

  // Whether what remains can still end by the limit as far as the bounds see.
  bool hopeless(const Path& path, std::uint64_t remaining) {
    const std::size_t stride = static_cast<std::size_t>(widest) + 1;
    std::fill(earliest.begin(), earliest.end(), kNever);
    for (std::size_t n = 0; n < reduced.nodes.size(); ++n) {
      const double* free_s = free_of(path, n);
      double* first = earliest.data() + reduced.nodes[n].device_class * stride;
      for (int w = 1; w <= reduced.nodes[n].width; ++w) first[w] = std::min(first[w], free_s[w - 1]);
    }
    demand.assign(functions.size(), 0.0);
    for (std::uint64_t left = remaining; left != 0; left &= left - 1) {
      const int p = __builtin_ctzll(left);
      bool any = false;
      least.assign(functions.size(), kNever);
      const std::vector<Mode>& modes = reduced.tasks[order[p]].modes;
      for (std::size_t m = 0; m < modes.size(); ++m) {
        const Mode& mode = modes[m];
        if (earliest[mode.device_class * stride + mode.width] + mode.time_s > limit_s) continue;
        any = true;
        for (std::size_t f = 0; f < functions.size(); ++f) {
          least[f] = std::min(least[f], functions[f].of_mode[p][m] * mode.time_s);
        }
      }
      if (!any) return true;
      for (std::size_t f = 0; f < functions.size(); ++f) demand[f] += least[f];
    }
    for (std::size_t f = 0; f < functions.size(); ++f) {
      double supply = 0.0;
      for (std::size_t n = 0; n < reduced.nodes.size(); ++n) {
        const double* free_s = free_of(path, n);
        const std::vector<double>& capacity = functions[f].capacity[n];
        const int width = reduced.nodes[n].width;
        for (int k = 1; k < width; ++k) {
          if (free_s[k - 1] >= limit_s) break;
          supply += capacity[k] * (std::min(free_s[k], limit_s) - free_s[k - 1]);
        }
        supply += capacity[width] * std::max(0.0, limit_s - free_s[width - 1]);
      }
      // Sums round; what is refuted must be refuted by more than that.
      if (demand[f] > supply + 1e-9 * (supply + demand[f])) return true;
    }
    return false;
  }
  std::vector<double> demand;
  std::vector<double> least;

  std::pair<std::uint64_t, std::uint64_t> key_of(const Path& path, std::uint64_t remaining) const {
    std::uint64_t a = mix64(remaining ^ salt);
    std::uint64_t b = mix64(remaining + 0x51ed270b9f5f1a3dULL + salt);
    const auto add = [&](std::uint64_t word) {
      a = mix64(a ^ word);
      b = mix64(b + word * 0x2545f4914f6cdd1dULL);
    };
    const auto bits = [](double value) {
      std::uint64_t word = 0;
      static_assert(sizeof word == sizeof value);
      std::copy_n(reinterpret_cast<const char*>(&value), sizeof value, reinterpret_cast<char*>(&word));
      return word;
    };
    for (const double value : path.free_s) add(bits(value));
    for (std::size_t n = 0; n < reduced.nodes.size(); ++n) {
      const double now = free_of(path, n)[0];
      // A gap or a last task matters only at the moment at which it was made.
      const bool gap = path.gap_width[n] > 0 && path.gap_to[n] == now;
      add(gap ? static_cast<std::uint64_t>(path.gap_width[n]) : 0);
      if (gap) add(bits(path.gap_from[n]));
      add(path.last_at[n] == now ? static_cast<std::uint64_t>(path.last_task[n]) + 1 : 0);
      // Only while the next equal node is empty does the first task matter.
      const int after = equal_after[n];
      add(after >= 0 && path.first_task[after] < 0 ? static_cast<std::uint64_t>(path.first_task[n]) + 1 : 0);
    }
    return {a | 1, b};
  }

  bool search(std::size_t depth, std::uint64_t remaining) {
    if (remaining == 0) return true;
    ++nodes;
    if (nodes >= node_stop || (nodes % 1024 == 0 && (*stop)())) {
      out = true;
      return false;
    }
    if (depth + 1 >= paths.size()) paths.resize(depth + 16);
    if (hopeless(paths[depth], remaining)) return false;
    const auto key = key_of(paths[depth], remaining);
    auto& slot = seen[key.first % kSeenStates];
    if (slot == key) return false;

    std::size_t n = reduced.nodes.size();
    for (std::size_t k = 0; k < reduced.nodes.size(); ++k) {
      const double at = free_of(paths[depth], k)[0];
      if (at < limit_s && (n == reduced.nodes.size() || at < free_of(paths[depth], n)[0])) n = k;
    }
    if (n == reduced.nodes.size()) {
      return false;
    }
    const bool found = start_tasks(depth, remaining, n) || (!out && stay_idle(depth, remaining, n));
    if (!found && !out) slot = key;
    return found;
  }

  bool start_tasks(std::size_t depth, std::uint64_t remaining, std::size_t n) {
    const int width = reduced.nodes[n].width;
    const double now = free_of(paths[depth], n)[0];
    int idle = 1;
    while (idle < width && free_of(paths[depth], n)[idle] <= now) ++idle;
    const int gap =
        paths[depth].gap_width[n] > 0 && paths[depth].gap_to[n] == now ? paths[depth].gap_width[n] : 0;
    const double gap_from = paths[depth].gap_from[n];
    int first_allowed = paths[depth].last_at[n] == now ? paths[depth].last_task[n] + 1 : 0;
    if (paths[depth].first_task[n] < 0 && equal_before[n] >= 0) {
      // Equal nodes are taken in the order of their first tasks; one that stays empty is the last of them.
      const int before = paths[depth].first_task[equal_before[n]];
      first_allowed = std::max(first_allowed, before < 0 ? 0 : before + 1);
    }
    for (std::uint64_t left = remaining; left != 0; left &= left - 1) {
      const int p = __builtin_ctzll(left);
      if (p < first_allowed) continue;
      if (twin[p] >= 0 && (remaining >> twin[p] & 1) != 0) continue;
      for (const Option& option : options[p][reduced.nodes[n].device_class]) {
        if (option.width > idle || now + option.time_s > limit_s) continue;
        if (gap > 0 && shifts_left(p, option, n, gap, gap_from, now)) continue;
        paths[depth + 1] = paths[depth];
        Path& next = paths[depth + 1];
        place_on(next.free_s.data() + offsets[n], width, option.width, option.time_s);
        next.last_at[n] = now;
        next.last_task[n] = p;
        if (next.first_task[n] < 0) next.first_task[n] = p;
        trail.push_back({order[p], static_cast<int>(n), option.mode});
        if (search(depth + 1, remaining & ~(std::uint64_t{1} << p))) return true;
        trail.pop_back();
        if (out) return false;
      }
    }
    return false;
  }

  // Whether the task, started at `now`, could have started in the gap before, there or in a narrower mode,
  // and have ended no later: then another plan has smaller starts.
  bool shifts_left(int p, const Option& option, std::size_t n, int gap, double gap_from, double now) const {
    for (const Option& other : options[p][reduced.nodes[n].device_class]) {
      if (other.width > gap || other.width > option.width) continue;
      if (gap_from + other.time_s <= now + option.time_s) return true;
    }
    return false;
  }

  bool stay_idle(std::size_t depth, std::uint64_t remaining, std::size_t n) {
    const int width = reduced.nodes[n].width;
    const double* free_s = free_of(paths[depth], n);
    const double now = free_s[0];
    int idle = 1;
    while (idle < width && free_s[idle] <= now) ++idle;
    const double until = idle < width ? free_s[idle] : kNever;
    // A remaining task that fits wholly into the gap would start earlier there: every other node that is open
    // has started what it starts at this moment.
    bool alone = until < kNever;
    for (std::size_t m = 0; m < reduced.nodes.size(); ++m)
      alone &= m == n || free_of(paths[depth], m)[0] > now;
    if (alone) {
      for (std::uint64_t left = remaining; left != 0; left &= left - 1) {
        const int p = __builtin_ctzll(left);
        for (const Option& option : options[p][reduced.nodes[n].device_class]) {
          if (option.width <= idle && now + option.time_s <= until) return false;
        }
      }
    }
    paths[depth + 1] = paths[depth];
    Path& next = paths[depth + 1];
    double* raised = next.free_s.data() + offsets[n];
    if (until >= limit_s) {
      // Nothing more starts on these devices.
      for (int k = 0; k < width; ++k) raised[k] = std::max(raised[k], limit_s);
      next.gap_width[n] = 0;
      if (next.first_task[n] < 0) next.first_task[n] = static_cast<int>(kMostExactTasks);
    } else {
      std::fill(raised, raised + idle, until);
      next.gap_from[n] = now;
      next.gap_to[n] = until;
      next.gap_width[n] = idle;
    }
    return search(depth + 1, remaining);
  }
};

ExactSearch::ExactSearch(const Reduced& reduced) : state_(std::make_unique<State>(reduced)) {
  SATURN_CHECK(reduced.plain && reduced.tasks.size() <= kMostExactTasks,
               "the exact search takes small plain problems");
}

ExactSearch::~ExactSearch() = default;

ExactSearch::Answer ExactSearch::ends_by(double limit_s, std::int64_t node_limit,
                                         const std::function<bool()>& stop) {
  State& state = *state_;
  const std::size_t num_nodes = state.reduced.nodes.size();
  state.limit_s = limit_s;
  state.node_stop = state.nodes + node_limit;
  state.out = false;
  state.stop = &stop;
  state.trail.clear();
  state.salt = mix64(state.salt + 1);  // what was seen under another limit does not count
  state.earliest.assign(
      static_cast<std::size_t>(state.reduced.num_classes) * (static_cast<std::size_t>(state.widest) + 1),
      kNever);
  state.prepare();
  state.paths.assign(16, {});
  State::Path& root = state.paths.front();
  root.free_s.assign(static_cast<std::size_t>(state.num_devices), 0.0);
  root.gap_from.assign(num_nodes, 0.0);
  root.gap_to.assign(num_nodes, -1.0);
  root.gap_width.assign(num_nodes, 0);
  root.last_at.assign(num_nodes, -1.0);
  root.last_task.assign(num_nodes, -1);
  root.first_task.assign(num_nodes, -1);
  const std::uint64_t all = (std::uint64_t{1} << state.order.size()) - 1;
  if (limit_s < 0.0) return Answer::refuted;
  if (state.search(0, all)) {
    state.solution = state.at_once;
    state.solution.insert(state.solution.end(), state.trail.begin(), state.trail.end());
    return Answer::found;
  }
  return state.out ? Answer::undecided : Answer::refuted;
}

const Solution& ExactSearch::solution() const {
  return state_->solution;
}
std::int64_t ExactSearch::nodes() const {
  return state_->nodes;
}

}  // namespace saturn::plan

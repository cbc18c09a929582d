// Chronological branch and bound on one node.

#include "plan/node_search.h"

#include <algorithm>
#include <array>
#include <limits>

#include "plan/patterns.h"
#include "saturn/base/check.h"
#include "saturn/base/random.h"

namespace saturn::plan {
namespace {

// The bounds are sums and minima of a few values side by side: wider registers compute the same numbers.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define SATURN_FOR_AVX2 __attribute__((target_clones("avx2", "default")))
#else
#define SATURN_FOR_AVX2
#endif

constexpr int kFunctions = 8;
constexpr std::size_t kMemoryBytes = std::size_t{48} << 20;
constexpr std::size_t kFewestWays = 16;
constexpr std::size_t kMostWays = 32;
constexpr double kNo = std::numeric_limits<double>::infinity();

using Values = std::array<double, kFunctions>;

// Refuted staircases by the set that could not be packed under them. Each set has a few places, where the
// ones that cost most to refute stay longest.
class Refuted {
 public:
  Refuted(std::size_t num_tasks, int width) : width_(width) {
    const std::size_t entry = sizeof(Head) + sizeof(double) * static_cast<std::size_t>(width);
    const std::size_t entries = kMemoryBytes / entry;
    const std::size_t sets = num_tasks < 20 ? std::size_t{1} << num_tasks : std::size_t{1} << 20;
    ways_ = std::clamp(entries / sets, kFewestWays, kMostWays);
    std::size_t places = 1;
    while (places * 2 * ways_ <= entries && places < sets) places *= 2;
    places_ = places;
    heads_.resize(places_ * ways_);
    steps_.resize(places_ * ways_ * static_cast<std::size_t>(width));
  }

  // Whether a staircase at least as high everywhere was refuted for `set`.
  bool covers(std::uint64_t set, const double* left_s) const {
    const std::size_t first = place(set) * ways_;
    // A higher staircase has the larger sum: mostly that alone says no.
    const auto sum = static_cast<float>(sum_of(left_s)) * (1.0F - 1e-5F);
    for (std::size_t i = first; i < first + ways_; ++i) {
      if (heads_[i].set != set) {
        if (heads_[i].set == 0) return false;
        continue;
      }
      if (heads_[i].sum < sum) continue;
      const double* other = steps_.data() + i * static_cast<std::size_t>(width_);
      int d = 0;
      while (d < width_ && left_s[d] <= other[d]) ++d;
      if (d == width_) return true;
    }
    return false;
  }

  // In the place of one that says less, else of the one that was refuted with the least effort.
  void add(std::uint64_t set, const double* left_s, std::int64_t effort) {
    const std::size_t first = place(set) * ways_;
    const auto sum = static_cast<float>(sum_of(left_s));
    std::size_t to = first;
    for (std::size_t i = first; i < first + ways_; ++i) {
      if (heads_[i].set == 0) {
        to = i;
        break;
      }
      if (heads_[i].set == set && heads_[i].sum <= sum) {
        const double* other = steps_.data() + i * static_cast<std::size_t>(width_);
        int d = 0;
        while (d < width_ && left_s[d] >= other[d]) ++d;
        if (d == width_) {
          to = i;
          break;
        }
      }
      if (heads_[i].effort < heads_[to].effort) to = i;
    }
    heads_[to] = {set, sum, static_cast<float>(effort)};
    std::copy_n(left_s, width_, steps_.data() + to * static_cast<std::size_t>(width_));
  }

 private:
  struct Head {
    std::uint64_t set = 0;
    float sum = 0.0F;
    float effort = 0.0F;
  };

  double sum_of(const double* left_s) const {
    double sum = 0.0;
    for (int d = 0; d < width_; ++d) sum += left_s[d];
    return sum;
  }
  std::size_t place(std::uint64_t set) const { return mix64(set) & (places_ - 1); }

  int width_;
  std::size_t ways_ = 0;
  std::size_t places_ = 0;
  std::vector<Head> heads_;
  std::vector<double> steps_;
};

}  // namespace

struct NodeSearch::State {
  struct Option {
    int mode;
    int width;
    double time_s;
    Values asks;  // time_s times each function of the width
  };

  State(std::vector<Work> works, int num_devices, const std::vector<std::vector<double>>& prices)
      : tasks(std::move(works)), width(num_devices), refuted(tasks.size(), num_devices) {
    std::vector<std::vector<double>> functions = {{}};
    for (int w = 1; w <= width; ++w) functions.front().push_back(w);
    for (const std::vector<double>& price : prices) {
      if (functions.size() < kFunctions) functions.push_back(price);
    }
    std::vector<int> widths;
    for (int w = 1; w <= width; ++w) widths.push_back(w);
    std::vector<Values> of_width(static_cast<std::size_t>(width), Values{});
    worth.assign(static_cast<std::size_t>(width), Values{});
    for (std::size_t f = 0; f < functions.size(); ++f) {
      double before = 0.0;
      for (int k = 1; k <= width; ++k) {
        of_width[k - 1][f] = functions[f][k - 1];
        const double most = best_pattern(widths, functions[f], k).value;
        worth[k - 1][f] = most - before;
        before = most;
      }
    }
    for (const Work& work : tasks) {
      std::vector<Option> list;
      for (const NodeMode& mode : work.modes) {
        Option option{mode.mode, mode.width, mode.time_s, {}};
        for (int f = 0; f < kFunctions; ++f) option.asks[f] = mode.time_s * of_width[mode.width - 1][f];
        list.push_back(option);
      }
      std::stable_sort(list.begin(), list.end(), [](const Option& a, const Option& b) {
        return a.width * a.time_s < b.width * b.time_s;
      });
      options.push_back(std::move(list));
    }
  }

  double* left_at(std::size_t depth) {
    const std::size_t need = (depth + 1) * static_cast<std::size_t>(width);
    if (left.size() < need) left.resize(need * 2);
    return left.data() + depth * static_cast<std::size_t>(width);
  }

  // Whether the bounds refute `set` under the staircase.
  SATURN_FOR_AVX2 bool hopeless(const double* left_s, std::uint64_t set) const {
    Values supply{};
    for (int d = 0; d < width; ++d) {
      for (int f = 0; f < kFunctions; ++f) supply[f] += worth[d][f] * left_s[d];
    }
    Values demand{};
    for (std::uint64_t rest = set; rest != 0; rest &= rest - 1) {
      Values least;
      least.fill(kNo);
      for (const Option& option : options[__builtin_ctzll(rest)]) {
        if (option.time_s > left_s[option.width - 1]) continue;
        for (int f = 0; f < kFunctions; ++f) least[f] = std::min(least[f], option.asks[f]);
      }
      if (least[0] == kNo) return true;
      for (int f = 0; f < kFunctions; ++f) demand[f] += least[f];
    }
    // Sums round; what is refuted must be refuted by more than that.
    bool over = false;
    for (int f = 0; f < kFunctions; ++f) over |= demand[f] > supply[f] + 1e-9 * (supply[f] + demand[f]);
    return over;
  }

  // What an earlier decision at this moment or just before it leaves out.
  struct Context {
    int first_allowed = 0;    // tasks that start at one moment are taken in their order
    int gap_width = 0;        // so many devices stood idle until now
    double gap_left_s = 0.0;  // what was left when they began to

    bool free() const { return first_allowed == 0 && gap_width == 0; }
  };

  bool search(std::size_t depth, std::uint64_t set, const Context& context) {
    if (set == 0) return true;
    ++nodes;
    if (nodes >= node_stop || (nodes % 4096 == 0 && (*stop)())) {
      out = true;
      return false;
    }
    if (hopeless(left_at(depth), set)) return false;
    // With two tasks left, trying is as cheap as remembering.
    const bool remembered = __builtin_popcountll(set) > 2;
    if (remembered && refuted.covers(set, left_at(depth))) return false;
    const std::int64_t before = nodes;
    if (start_tasks(depth, set, context) || (!out && stay_idle(depth, set))) return true;
    // Only what was refuted for itself, without leaning on a sibling, holds everywhere.
    if (remembered && !out && context.free()) refuted.add(set, left_at(depth), nodes - before);
    return false;
  }

  bool start_tasks(std::size_t depth, std::uint64_t set, const Context& context) {
    left_at(depth + 1);  // may move the stack
    const double* now = left_at(depth);
    const double left_s = now[0];
    int idle = 1;
    while (idle < width && now[idle] >= left_s) ++idle;
    for (std::uint64_t rest = set; rest != 0; rest &= rest - 1) {
      const int p = __builtin_ctzll(rest);
      if (p < context.first_allowed) continue;
      if (tasks[p].twin_of >= 0 && (set >> tasks[p].twin_of & 1) != 0) continue;
      for (const Option& option : options[p]) {
        if (option.width > idle || option.time_s > left_s) continue;
        if (context.gap_width > 0 && shifts_left(p, option, context, left_s)) continue;
        now = left_at(depth);
        double* next = left_at(depth + 1);
        const double after_s = left_s - option.time_s;
        int d = option.width;
        int to = 0;
        while (d < width && now[d] > after_s) next[to++] = now[d++];
        for (int k = 0; k < option.width; ++k) next[to++] = after_s;
        while (d < width) next[to++] = now[d++];
        Context then;
        if (next[0] == left_s) then = {p + 1, context.gap_width, context.gap_left_s};
        trail.push_back({p, option.mode});
        if (search(depth + 1, set & ~(std::uint64_t{1} << p), then)) return true;
        trail.pop_back();
        if (out) return false;
      }
    }
    return false;
  }

  // Whether the task, started now, could have started in the gap before, there or in a narrower mode, and
  // have ended no later: then another plan has smaller starts.
  bool shifts_left(int p, const Option& option, const Context& context, double left_s) const {
    for (const Option& other : options[p]) {
      if (other.width > context.gap_width || other.width > option.width) continue;
      if (context.gap_left_s - other.time_s >= left_s - option.time_s) return true;
    }
    return false;
  }

  bool stay_idle(std::size_t depth, std::uint64_t set) {
    left_at(depth + 1);
    const double* now = left_at(depth);
    const double left_s = now[0];
    int idle = 1;
    while (idle < width && now[idle] >= left_s) ++idle;
    if (idle == width) return false;  // nothing will be different later
    const double until_s = now[idle];
    // A task that fits wholly into the gap would start earlier there.
    for (std::uint64_t rest = set; rest != 0; rest &= rest - 1) {
      for (const Option& option : options[__builtin_ctzll(rest)]) {
        if (option.width <= idle && left_s - option.time_s >= until_s) return false;
      }
    }
    double* next = left_at(depth + 1);
    std::fill(next, next + idle, until_s);
    std::copy(now + idle, now + width, next + idle);
    return search(depth + 1, set, {0, idle, left_s});
  }

  std::vector<Work> tasks;
  int width;
  std::vector<std::vector<Option>> options;
  std::vector<Values> worth;  // per device: what one more free device adds to the most a moment can take
  Refuted refuted;
  std::vector<double> left;  // staircases along the path, highest first
  std::vector<Start> trail;
  std::int64_t nodes = 0;
  std::int64_t node_stop = 0;
  bool out = false;
  const std::function<bool()>* stop = nullptr;
};

NodeSearch::NodeSearch(std::vector<Work> tasks, int width, const std::vector<std::vector<double>>& prices) {
  SATURN_CHECK(tasks.size() <= kMostTasks && width <= kMostWidth, "the exact search takes small problems");
  state_ = std::make_unique<State>(std::move(tasks), width, prices);
}

NodeSearch::~NodeSearch() = default;

ExactAnswer NodeSearch::ends_by(std::uint64_t set, double limit_s, std::int64_t node_limit,
                                const std::function<bool()>& stop) {
  State& state = *state_;
  state.stop = &stop;
  state.out = false;
  state.node_stop = state.nodes + node_limit;
  state.trail.clear();
  if (limit_s < 0.0) return ExactAnswer::refuted;
  std::fill_n(state.left_at(0), state.width, limit_s);
  if (state.search(0, set, {})) return ExactAnswer::found;
  return state.out ? ExactAnswer::undecided : ExactAnswer::refuted;
}

bool NodeSearch::hopeless(std::uint64_t set, double limit_s) {
  std::fill_n(state_->left_at(0), state_->width, limit_s);
  return set != 0 && state_->hopeless(state_->left_at(0), set);
}

const std::vector<NodeSearch::Start>& NodeSearch::starts() const {
  return state_->trail;
}
std::int64_t NodeSearch::nodes() const {
  return state_->nodes;
}

}  // namespace saturn::plan

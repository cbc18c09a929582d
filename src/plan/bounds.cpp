// The simple bound and the pattern LP.

#include "plan/bounds.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <set>

#include "plan/coin.h"
#include "plan/patterns.h"

namespace saturn::plan {
namespace {

// The LP's rows and columns, for reading its solution back.
struct AllotmentLp {
  struct Choice {
    int column;
    std::size_t type;
    std::size_t group;
    int mode;
    int width_index;
  };
  LinearProgram program;
  std::vector<NodeGroup> groups;
  std::vector<TaskType> types;
  std::vector<Choice> choices;
  std::vector<std::vector<int>> width_row;  // per group and width
  std::vector<int> time_row;                // per group: sum of patterns <= count T
  std::vector<int> type_row;                // per type: every task chosen once
  std::vector<int> longest_row;             // per type: its mean time <= T; -1 where that is implied
  int makespan = 0;

  // With many choices a column stands for a choice of every type at once, and is priced in.
  bool aggregated = false;
  int convexity_row = -1;
  struct Whole {
    int column;
    std::vector<int> choice;  // per type: position in `choices`
  };
  std::vector<Whole> wholes;
};

constexpr std::size_t kMostChoices = 6000;
constexpr int kMostRounds = 400;
constexpr double kEnough = 2e-6;  // of the bound: what the LP could still add

int index_of(const std::vector<int>& widths, int width) {
  return static_cast<int>(std::lower_bound(widths.begin(), widths.end(), width) - widths.begin());
}

void add_pattern(AllotmentLp& lp, std::size_t g, const std::vector<int>& counts) {
  const int column = lp.program.add_column(0.0);
  for (std::size_t w = 0; w < counts.size(); ++w) {
    if (counts[w] > 0) lp.program.put(lp.width_row[g][w], column, counts[w]);
  }
  lp.program.put(lp.time_row[g], column, -1.0);
}

// The choice of each type that asks for least under the prices of widths.
std::vector<int> cheapest(const AllotmentLp& lp, const std::vector<std::vector<double>>& price) {
  std::vector<int> choice(lp.types.size(), -1);
  std::vector<double> least(lp.types.size(), kNever);
  for (std::size_t c = 0; c < lp.choices.size(); ++c) {
    const AllotmentLp::Choice& one = lp.choices[c];
    const double asks = lp.types[one.type].first->modes[one.mode].time_s * price[one.group][one.width_index];
    if (asks >= least[one.type]) continue;
    least[one.type] = asks;
    choice[one.type] = static_cast<int>(c);
  }
  return choice;
}

void add_whole(AllotmentLp& lp, std::vector<int> choice, double unit_s) {
  std::vector<double> spent(lp.program.rows.size(), 0.0);
  for (std::size_t k = 0; k < choice.size(); ++k) {
    if (choice[k] < 0) continue;
    const AllotmentLp::Choice& one = lp.choices[static_cast<std::size_t>(choice[k])];
    spent[static_cast<std::size_t>(lp.width_row[one.group][one.width_index])] +=
        lp.types[k].first->modes[one.mode].time_s / unit_s * static_cast<double>(lp.types[k].tasks.size());
  }
  const int column = lp.program.add_column(0.0);
  lp.program.put(lp.convexity_row, column, 1.0);
  for (std::size_t row = 0; row < spent.size(); ++row) {
    if (spent[row] > 0.0) lp.program.put(static_cast<int>(row), column, -spent[row]);
  }
  lp.wholes.push_back({column, std::move(choice)});
}

AllotmentLp build(const Reduced& reduced, double upper_s, double unit_s) {
  AllotmentLp lp;
  lp.groups = node_groups(reduced);
  lp.types = task_types(reduced);
  LinearProgram& program = lp.program;
  lp.makespan = program.add_column(1.0);
  for (const NodeGroup& group : lp.groups) {
    std::vector<int> rows;
    for (std::size_t w = 0; w < group.widths.size(); ++w) rows.push_back(program.add_row(0.0, kUnbounded));
    lp.width_row.push_back(rows);
    lp.time_row.push_back(program.add_row(0.0, kUnbounded));
    program.put(lp.time_row.back(), lp.makespan, group.count);
  }
  for (std::size_t k = 0; k < lp.types.size(); ++k) {
    const std::vector<Mode>& modes = lp.types[k].first->modes;
    for (int m = 0; m < static_cast<int>(modes.size()); ++m) {
      if (modes[m].time_s >= upper_s) continue;
      for (std::size_t g = 0; g < lp.groups.size(); ++g) {
        if (lp.groups[g].device_class != modes[m].device_class || modes[m].width > lp.groups[g].width)
          continue;
        lp.choices.push_back({-1, k, g, m, index_of(lp.groups[g].widths, modes[m].width)});
      }
    }
  }
  lp.longest_row.assign(lp.types.size(), -1);
  lp.aggregated = lp.choices.size() > kMostChoices;
  if (lp.aggregated) {
    lp.convexity_row = program.add_row(1.0, 1.0);
    // Width for width, and with more or less for each class: somewhere between lies what the classes are
    // worth.
    for (int g = -1; g < static_cast<int>(lp.groups.size()); ++g) {
      for (const double factor : {0.25, 0.5, 2.0, 4.0}) {
        std::vector<std::vector<double>> price;
        for (const NodeGroup& group : lp.groups) price.emplace_back(group.widths.begin(), group.widths.end());
        if (g >= 0) {
          for (double& value : price[static_cast<std::size_t>(g)]) value *= factor;
        }
        add_whole(lp, cheapest(lp, price), unit_s);
        if (g < 0) break;
      }
    }
  } else {
    for (const TaskType& type : lp.types) {
      const auto count = static_cast<double>(type.tasks.size());
      lp.type_row.push_back(program.add_row(count, count));
    }
    for (AllotmentLp::Choice& choice : lp.choices) {
      const double time_s = lp.types[choice.type].first->modes[choice.mode].time_s;
      choice.column = program.add_column(0.0);
      program.put(lp.type_row[choice.type], choice.column, 1.0);
      program.put(lp.width_row[choice.group][choice.width_index], choice.column, -time_s / unit_s);
      // T is at least `unit_s`: only modes longer than that can be longer than T.
      if (time_s > unit_s && lp.longest_row[choice.type] < 0) {
        lp.longest_row[choice.type] = program.add_row(0.0, kUnbounded);
        program.put(lp.longest_row[choice.type], lp.makespan,
                    static_cast<double>(lp.types[choice.type].tasks.size()));
      }
    }
    for (const AllotmentLp::Choice& choice : lp.choices) {
      if (lp.longest_row[choice.type] < 0) continue;
      const double time_s = lp.types[choice.type].first->modes[choice.mode].time_s;
      program.put(lp.longest_row[choice.type], choice.column, -time_s / unit_s);
    }
  }
  // One pattern per width to start from; the others are priced in.
  for (std::size_t g = 0; g < lp.groups.size(); ++g) {
    for (std::size_t w = 0; w < lp.groups[g].widths.size(); ++w) {
      std::vector<int> counts(lp.groups[g].widths.size(), 0);
      counts[w] = lp.groups[g].width / lp.groups[g].widths[w];
      add_pattern(lp, g, counts);
    }
  }
  return lp;
}

struct Proof {
  double bound_s = 0.0;
  std::vector<std::vector<double>> price;        // per group and width
  std::vector<double> group_value;               // most value of a pattern per group
  std::vector<std::vector<double>> with_mode_s;  // per type and mode
};

// The bound that non-negative prices prove, computed here and not by the LP.
Proof prove(const AllotmentLp& lp, const LpResult& result) {
  Proof proof;
  double capacity = 0.0;
  std::vector<std::vector<double>>& price = proof.price;
  price.resize(lp.groups.size());
  proof.group_value.assign(lp.groups.size(), 0.0);
  for (std::size_t g = 0; g < lp.groups.size(); ++g) {
    for (const int row : lp.width_row[g]) price[g].push_back(std::max(0.0, result.dual[row]));
    proof.group_value[g] = best_pattern(lp.groups[g].widths, price[g], lp.groups[g].width).value;
    capacity += lp.groups[g].count * proof.group_value[g];
  }
  std::vector<double> longest(lp.types.size());
  std::vector<double> least(lp.types.size(), kNever);
  for (std::size_t k = 0; k < lp.types.size(); ++k) {
    longest[k] = lp.longest_row[k] < 0 ? 0.0 : std::max(0.0, result.dual[lp.longest_row[k]]);
    capacity += longest[k] * static_cast<double>(lp.types[k].tasks.size());
    proof.with_mode_s.emplace_back(lp.types[k].first->modes.size(), kNever);
  }
  if (capacity <= 0.0) {
    proof.with_mode_s.clear();
    return proof;
  }
  for (const AllotmentLp::Choice& choice : lp.choices) {
    const double time_s = lp.types[choice.type].first->modes[choice.mode].time_s;
    const double asks = time_s * (price[choice.group][choice.width_index] + longest[choice.type]);
    least[choice.type] = std::min(least[choice.type], asks);
    double& with_mode = proof.with_mode_s[choice.type][choice.mode];
    with_mode = std::min(with_mode, asks);
  }
  double sum = 0.0;
  for (std::size_t k = 0; k < lp.types.size(); ++k) {
    if (least[k] == kNever) sum = kNever;  // no mode beats the upper bound: nothing does
    if (sum < kNever) sum += least[k] * static_cast<double>(lp.types[k].tasks.size());
  }
  proof.bound_s = sum == kNever ? kNever : sum / capacity * (1.0 - 1e-12);
  for (std::size_t k = 0; k < lp.types.size(); ++k) {
    for (double& with_mode : proof.with_mode_s[k]) {
      with_mode = sum == kNever || with_mode == kNever
                      ? kNever
                      : (sum - least[k] + with_mode) / capacity * (1.0 - 1e-12);
    }
  }
  return proof;
}

// Whole choices near the fractional ones: the likeliest mode, then the narrower and the wider of each
// mixture.
std::vector<Allotment> round(const Reduced& reduced, const AllotmentLp& lp, const LpResult& result) {
  std::vector<std::vector<std::pair<double, int>>> shares(lp.types.size());
  for (const AllotmentLp::Choice& choice : lp.choices) {
    const double share = choice.column < 0 ? 0.0 : result.x[choice.column];
    if (share > 1e-7) shares[choice.type].emplace_back(share, choice.mode);
  }
  for (const AllotmentLp::Whole& whole : lp.wholes) {
    const double weight = result.x[whole.column];
    for (std::size_t k = 0; k < lp.types.size() && weight > 1e-7; ++k) {
      if (whole.choice[k] < 0) continue;
      const int mode = lp.choices[static_cast<std::size_t>(whole.choice[k])].mode;
      const double share = weight * static_cast<double>(lp.types[k].tasks.size());
      const auto it = std::find_if(shares[k].begin(), shares[k].end(),
                                   [&](const auto& one) { return one.second == mode; });
      if (it == shares[k].end()) {
        shares[k].emplace_back(share, mode);
      } else {
        it->first += share;
      }
    }
  }
  std::vector<Allotment> roundings;
  for (int kind = 0; kind < 3; ++kind) {
    Allotment allotment(reduced.tasks.size(), 0);
    for (std::size_t k = 0; k < lp.types.size(); ++k) {
      std::vector<std::pair<double, int>> left = shares[k];
      if (left.empty()) left.emplace_back(1.0, 0);
      const std::vector<Mode>& modes = lp.types[k].first->modes;
      for (const int task : lp.types[k].tasks) {
        const auto it = std::max_element(left.begin(), left.end(), [&](const auto& a, const auto& b) {
          if (kind == 0 || (a.first >= 1.0) != (b.first >= 1.0)) return a.first < b.first;
          return kind == 1 ? modes[a.second].width > modes[b.second].width
                           : modes[a.second].width < modes[b.second].width;
        });
        allotment[task] = it->second;
        it->first -= 1.0;
      }
    }
    if (roundings.empty() || roundings.back() != allotment) roundings.push_back(std::move(allotment));
  }
  return roundings;
}

// Jobs that each need more than half of the largest node's host memory run one after another on every node.
double memory_bound_s(const Reduced& reduced) {
  double most = 0.0;
  for (const ReducedNode& node : reduced.nodes) most = std::max(most, node.memory_bytes);
  if (most == kNever || reduced.nodes.empty()) return 0.0;
  double time_s = 0.0;
  for (const Task& task : reduced.tasks) {
    double least_s = kNever;
    for (const Mode& mode : task.modes) {
      const bool large = static_cast<double>(mode.memory_bytes) > most / 2.0;
      least_s = std::min(least_s, large ? mode.time_s : 0.0);
    }
    time_s += least_s;
  }
  return time_s / static_cast<double>(reduced.nodes.size()) * (1.0 - 1e-12);
}

}  // namespace

double simple_bound_s(const Reduced& reduced) {
  double area = 0.0;
  int devices = 0;
  for (const ReducedNode& node : reduced.nodes) devices += node.width;
  // A chain of predecessors ends no earlier than the fastest modes of all its links. `validate` has refused
  // cycles, so taking tasks when their predecessors are known ends.
  std::vector<double> end_s(reduced.tasks.size(), -1.0);
  double bound_s = 0.0;
  std::vector<std::size_t> pending(reduced.tasks.size());
  std::iota(pending.begin(), pending.end(), 0);
  while (!pending.empty()) {
    std::vector<std::size_t> later;
    for (const std::size_t t : pending) {
      const Task& task = reduced.tasks[t];
      double ready_s = task.release_s;
      for (const int before : task.after)
        ready_s = end_s[before] < 0.0 ? kNever : std::max(ready_s, end_s[before]);
      if (ready_s == kNever) {
        later.push_back(t);
        continue;
      }
      double fastest_s = kNever;
      double least = kNever;
      for (const Mode& mode : task.modes) {
        fastest_s = std::min(fastest_s, mode.time_s);
        least = std::min(least, mode.width * mode.time_s);
      }
      end_s[t] = ready_s + fastest_s;
      bound_s = std::max(bound_s, end_s[t]);
      area += least;
    }
    if (later.size() == pending.size()) break;
    pending.swap(later);
  }
  bound_s = std::max(bound_s, memory_bound_s(reduced));
  // Sums of many areas round up; stay below.
  return devices > 0 ? std::max(bound_s, area / devices * (1.0 - 1e-12)) : bound_s;
}

AllotmentBound allotment_bound(const Reduced& reduced, double upper_s) {
  AllotmentBound bound;
  bound.bound_s = simple_bound_s(reduced);
  if (reduced.tasks.empty() || bound.bound_s <= 0.0) return bound;
  const double unit_s = bound.bound_s;
  AllotmentLp lp = build(reduced, upper_s, unit_s);
  // What is there already has no value to gain, whatever the last places of a dual say.
  std::set<std::pair<std::size_t, std::vector<int>>> known;
  Proof best;
  int rounds = 0;
  const LpResult result = solve_lp(lp.program, [&](const LpResult& now, LinearProgram&) {
    Proof proof = prove(lp, now);
    const bool proved = proof.bound_s >= best.bound_s;
    if (proved) best = proof;
    if (++rounds > kMostRounds || best.bound_s >= now.objective * unit_s * (1.0 - kEnough)) return false;
    bool added = false;
    for (std::size_t g = 0; g < lp.groups.size(); ++g) {
      const BestPattern pattern = best_pattern(lp.groups[g].widths, proof.price[g], lp.groups[g].width);
      if (pattern.value <= now.dual[lp.time_row[g]] * (1.0 + 1e-7) + 1e-9) continue;
      if (!known.emplace(g, pattern.counts).second) continue;
      add_pattern(lp, g, pattern.counts);
      added = true;
    }
    if (lp.aggregated) {
      std::vector<int> choice = cheapest(lp, proof.price);
      if (known.emplace(lp.groups.size(), choice).second) {
        add_whole(lp, std::move(choice), unit_s);
        added = true;
      }
    }
    return added;
  });
  if (!result.optimal) return bound;
  const Proof& proof = best;
  const std::vector<double>& group_value = proof.group_value;
  bound.bound_s = std::max(bound.bound_s, std::min(proof.bound_s, upper_s));
  if (!proof.with_mode_s.empty()) {
    bound.with_mode_s.resize(reduced.tasks.size());
    for (std::size_t k = 0; k < lp.types.size(); ++k) {
      for (const int task : lp.types[k].tasks) bound.with_mode_s[task] = proof.with_mode_s[k];
    }
  }
  bound.width_price = proof.price;
  bound.roundings = round(reduced, lp, result);
  if (reduced.num_classes > 1) {
    std::vector<double> price(static_cast<std::size_t>(reduced.num_classes), 0.0);
    std::vector<double> devices(price.size(), 0.0);
    double total = 0.0;
    for (std::size_t g = 0; g < lp.groups.size(); ++g) {
      price[lp.groups[g].device_class] += group_value[g] * lp.groups[g].count;
      devices[lp.groups[g].device_class] += lp.groups[g].width * lp.groups[g].count;
      total += group_value[g] * lp.groups[g].count;
    }
    const double all = std::accumulate(devices.begin(), devices.end(), 0.0);
    for (std::size_t c = 0; c < price.size(); ++c) {
      const double mean = total > 0.0 && devices[c] > 0.0 ? price[c] / devices[c] * all / total : 1.0;
      bound.class_price.push_back(std::clamp(mean, 0.05, 20.0));
    }
  }
  return bound;
}

}  // namespace saturn::plan

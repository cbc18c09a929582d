// Constructive heuristics. They look at widths and times alone; `decode` then says what a solution is worth
// under every constraint.

#include "plan/construct.h"

#include <algorithm>
#include <numeric>

#include "plan/timeline.h"
#include "saturn/base/random.h"

namespace saturn::plan {
namespace {

std::vector<int> as_listed(const Reduced& reduced) {
  std::vector<int> order(reduced.tasks.size());
  std::iota(order.begin(), order.end(), 0);
  return order;
}

const Mode& mode_of(const Reduced& reduced, const Allotment& allotment, int task) {
  return reduced.tasks[task].modes[allotment[task]];
}

// Picks for every task the mode that `before(a, b)` puts first.
template <class Before>
Allotment pick(const Reduced& reduced, Before before) {
  Allotment allotment;
  for (const Task& task : reduced.tasks) {
    const auto it = std::min_element(task.modes.begin(), task.modes.end(), before);
    allotment.push_back(static_cast<int>(it - task.modes.begin()));
  }
  return allotment;
}

int capacity(const Reduced& reduced) {
  int devices = 0;
  for (const ReducedNode& node : reduced.nodes) devices += node.width;
  return devices;
}

}  // namespace

Solution list_schedule(const Reduced& reduced, const Allotment& allotment, const std::vector<int>& order) {
  std::vector<std::vector<double>> free_s;
  for (const ReducedNode& node : reduced.nodes) free_s.emplace_back(node.width, 0.0);
  Solution solution;
  solution.reserve(order.size());
  for (const int t : order) {
    const Task& task = reduced.tasks[t];
    const Mode& mode = mode_of(reduced, allotment, t);
    int chosen = -1;
    double first_s = kNever;
    for (const int n : reduced.nodes_of_class[mode.device_class]) {
      // The earliest start; among equals the node with the least left beside it.
      if (mode.width > reduced.nodes[n].width || free_s[n][mode.width - 1] > first_s) continue;
      if (!can_run(reduced, task, mode, n)) continue;
      const double start_s = free_s[n][mode.width - 1];
      if (chosen >= 0 && start_s == first_s && reduced.nodes[n].width >= reduced.nodes[chosen].width)
        continue;
      chosen = n;
      first_s = start_s;
    }
    if (chosen < 0) return {};
    place_on(free_s[chosen].data(), reduced.nodes[chosen].width, mode.width, mode.time_s);
    solution.push_back({t, chosen, allotment[t]});
  }
  return solution;
}

Solution current_practice(const Reduced& reduced) {
  const Allotment widest = pick(reduced, [](const Mode& left, const Mode& right) {
    return left.width != right.width ? left.width > right.width : left.time_s < right.time_s;
  });
  // A node runs one job at a time, even where two would fit beside each other.
  std::vector<double> free_s(reduced.nodes.size(), 0.0);
  Solution solution;
  for (int t = 0; t < static_cast<int>(reduced.tasks.size()); ++t) {
    Choice choice{t, -1, -1};
    double end_s = kNever;
    for (int n = 0; n < static_cast<int>(reduced.nodes.size()); ++n) {
      int widest_here = -1;
      const std::vector<Mode>& modes = reduced.tasks[t].modes;
      for (int m = 0; m < static_cast<int>(modes.size()); ++m) {
        if (!can_run(reduced, reduced.tasks[t], modes[m], n)) continue;
        if (widest_here < 0 || modes[m].width > modes[widest_here].width) widest_here = m;
      }
      if (widest_here < 0 || free_s[n] + modes[widest_here].time_s >= end_s) continue;
      end_s = free_s[n] + modes[widest_here].time_s;
      choice = {t, n, widest_here};
    }
    if (choice.node < 0) return {};
    free_s[choice.node] = end_s;
    solution.push_back(choice);
  }
  return solution;
}

Solution minimal_devices(const Reduced& reduced) {
  const Allotment narrowest = pick(reduced, [](const Mode& left, const Mode& right) {
    return left.width != right.width ? left.width < right.width : left.time_s < right.time_s;
  });
  return list_schedule(reduced, narrowest, as_listed(reduced));
}

Solution random_plan(const Reduced& reduced, std::uint64_t seed) {
  Random random(mix_key(seed, 0x72616e64));
  Allotment allotment;
  for (const Task& task : reduced.tasks)
    allotment.push_back(static_cast<int>(random.below(task.modes.size())));
  std::vector<int> order = as_listed(reduced);
  random.shuffle(order);
  return list_schedule(reduced, allotment, order);
}

Solution optimus_greedy(const Reduced& reduced) {
  Allotment allotment = pick(reduced, [](const Mode& left, const Mode& right) {
    return left.width != right.width ? left.width < right.width : left.time_s < right.time_s;
  });
  int left = capacity(reduced);
  for (std::size_t t = 0; t < allotment.size(); ++t)
    left -= mode_of(reduced, allotment, static_cast<int>(t)).width;
  while (left > 0) {
    int who = -1;
    int to = 0;
    double most = 0.0;
    for (int t = 0; t < static_cast<int>(allotment.size()); ++t) {
      const Mode& now = mode_of(reduced, allotment, t);
      const std::vector<Mode>& modes = reduced.tasks[t].modes;
      for (int m = 0; m < static_cast<int>(modes.size()); ++m) {
        const int more = modes[m].width - now.width;
        if (modes[m].device_class != now.device_class || more < 1 || more > left) continue;
        const double gain = (now.time_s - modes[m].time_s) / more;
        if (gain > most) {
          most = gain;
          who = t;
          to = m;
        }
      }
    }
    if (who < 0) break;
    left -= reduced.tasks[who].modes[to].width - mode_of(reduced, allotment, who).width;
    allotment[who] = to;
  }
  std::vector<int> order = as_listed(reduced);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return mode_of(reduced, allotment, a).time_s > mode_of(reduced, allotment, b).time_s;
  });
  return list_schedule(reduced, allotment, order);
}

std::vector<Allotment> capped_allotments(const Reduced& reduced) {
  // A faster class makes a device worth more: weigh areas by how fast each class runs the average task.
  std::vector<double> speed(static_cast<std::size_t>(reduced.num_classes), 0.0);
  std::vector<int> counted(static_cast<std::size_t>(reduced.num_classes), 0);
  double longest_s = 0.0;
  double area = 0.0;
  for (const Task& task : reduced.tasks) {
    double least = kNever;
    std::vector<double> least_of(speed.size(), kNever);
    for (const Mode& mode : task.modes) {
      least_of[mode.device_class] = std::min(least_of[mode.device_class], mode.width * mode.time_s);
      least = std::min(least, mode.width * mode.time_s);
      longest_s = std::max(longest_s, mode.time_s);
    }
    area += least;
    for (std::size_t c = 0; c < speed.size(); ++c) {
      if (least_of[c] == kNever || least_of[c] <= 0.0) continue;
      speed[c] += least / least_of[c];
      ++counted[c];
    }
  }
  for (std::size_t c = 0; c < speed.size(); ++c) speed[c] = counted[c] > 0 ? speed[c] / counted[c] : 1.0;

  std::vector<Allotment> allotments;
  const double perfect_s = area / std::max(1, capacity(reduced));
  double cap_s = perfect_s / 8.0;
  for (int step = 0; step < 40 && cap_s <= std::max(4.0 * longest_s, 4.0 * perfect_s);
       ++step, cap_s *= 1.15) {
    Allotment allotment = pick(reduced, [&](const Mode& left, const Mode& right) {
      const bool left_in = left.time_s <= cap_s;
      const bool right_in = right.time_s <= cap_s;
      if (left_in != right_in) return left_in;
      if (!left_in) return left.time_s < right.time_s;
      const double left_area = left.width * left.time_s * speed[left.device_class];
      const double right_area = right.width * right.time_s * speed[right.device_class];
      return left_area != right_area ? left_area < right_area : left.time_s < right.time_s;
    });
    if (allotments.empty() || allotments.back() != allotment) allotments.push_back(std::move(allotment));
    if (cap_s <= 0.0) break;
  }
  return allotments;
}

Solution best_list(const Reduced& reduced, const std::vector<Allotment>& allotments,
                   const std::function<bool()>& stop) {
  Solution best;
  Value best_value;
  for (const Allotment& allotment : allotments) {
    const auto try_order = [&](auto before) {
      if (stop && stop()) return;
      std::vector<int> order = as_listed(reduced);
      std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
        return before(mode_of(reduced, allotment, a), mode_of(reduced, allotment, b));
      });
      Solution solution = list_schedule(reduced, allotment, order);
      if (solution.empty()) return;
      const Value value = decode(reduced, solution).value;
      if (best.empty() || better(value, best_value)) {
        best = std::move(solution);
        best_value = value;
      }
    };
    try_order([](const Mode& a, const Mode& b) { return a.time_s > b.time_s; });
    try_order([](const Mode& a, const Mode& b) { return a.time_s * a.width > b.time_s * b.width; });
    try_order([](const Mode& a, const Mode& b) {
      return a.width != b.width ? a.width > b.width : a.time_s > b.time_s;
    });
  }
  return best;
}

}  // namespace saturn::plan

// Integer bounds by CBC: the pattern program with whole choices, and destructive bisection on T.

#include <algorithm>
#include <cmath>
#include <map>

#include "plan/bounds.h"
#include "plan/coin.h"
#include "plan/patterns.h"

namespace saturn::plan {
namespace {

constexpr std::size_t kMostPatterns = 1500;
constexpr double kLeastExclusion = 0.1;  // of T: shorter tasks find room beside something

// A dual feasible function of time: values on t / T that add up to at most 1 over any jobs that follow each
// other within T.
struct TimeFunction {
  enum class Kind { identity, steps, threshold };
  Kind kind = Kind::identity;
  int steps = 1;           // `steps`: floor((steps + 1) x) / steps, or x where (steps + 1) x is whole
  double threshold = 0.0;  // `threshold`: 1 above 1 - threshold, 0 below threshold, else x

  double operator()(double x) const {
    switch (kind) {
      case Kind::identity:
        return x;
      case Kind::steps: {
        const double scaled = x * (steps + 1);
        const double near = std::floor(scaled + 0.5);
        // What is whole, or as good as whole, may not be rounded up: x itself is always allowed.
        if (std::abs(scaled - near) < 1e-9) return x;
        return std::floor(scaled) / steps;
      }
      case Kind::threshold:
        if (x > 1.0 - threshold + 1e-9) return 1.0;
        return x < threshold - 1e-9 ? 0.0 : x;
    }
    return x;
  }
};

struct Group {
  int device_class = 0;
  int width = 0;
  int count = 1;
  std::vector<int> widths;
  std::vector<std::vector<int>> patterns;      // empty: too many
  std::vector<std::vector<double>> functions;  // width functions in their place, with capacity 1
};

std::vector<Group> groups_of(const Reduced& reduced, bool each_node) {
  std::vector<Group> groups;
  for (const NodeGroup& one : node_groups(reduced)) {
    Group group{
        .device_class = one.device_class, .width = one.width, .count = one.count, .widths = one.widths};
    if (group.widths.empty()) continue;
    group.patterns = maximal_patterns(group.widths, group.width, kMostPatterns);
    if (group.patterns.empty()) {
      // Width itself, and for k = 1, 2, ...: how many (k + 1)-ths of the node a job takes, rounded down, over
      // k.
      for (int k = 0; k <= 6; ++k) {
        std::vector<double> values;
        for (const int width : group.widths) {
          values.push_back(k == 0 ? static_cast<double>(width)
                                  : static_cast<double>((k + 1) * width / (group.width + 1)) / k);
        }
        const double most = best_pattern(group.widths, values, group.width).value;
        if (most <= 0.0) continue;
        for (double& value : values) value /= most;
        group.functions.push_back(std::move(values));
      }
    }
    const int copies = each_node ? group.count : 1;
    if (each_node) group.count = 1;
    for (int i = 0; i < copies; ++i) groups.push_back(group);
  }
  return groups;
}

// The program: x[type, group, mode] whole, pattern times per group and time function.
class Model {
 public:
  Model(const Reduced& reduced, bool each_node)
      : types_(task_types(reduced)), groups_(groups_of(reduced, each_node)), each_node_(each_node) {}

  // Least T (in units of `unit_s`) over the modes faster than `upper_s`.
  LinearProgram least(double upper_s, double unit_s) {
    LinearProgram program;
    const int makespan = program.add_column(1.0);
    add_choices(program, upper_s, false);
    for (std::size_t k = 0; k < types_.size(); ++k) {
      // A single task's own time is at most T; of several, their mean time.
      const int row = program.add_row(0.0, kUnbounded);
      program.put(row, makespan, static_cast<double>(types_[k].tasks.size()));
      for (const Choice& choice : choices_) {
        if (choice.type == k) program.put(row, choice.column, -time_s(choice) / unit_s);
      }
    }
    add_cover(
        program, [&](double t) { return t / unit_s; }, makespan, 1.0);
    return program;
  }

  // Whether anything is left to choose when no job may take longer than `T`; the rows for all functions.
  LinearProgram within(double limit_s, const std::vector<TimeFunction>& functions) {
    LinearProgram program;
    add_choices(program, limit_s, true);
    for (const TimeFunction& function : functions) {
      add_cover(
          program, [&](double t) { return function(t / limit_s); }, -1, 1.0);
    }
    return program;
  }

  bool every_type_has_choice() const { return every_type_has_choice_; }

 private:
  struct Choice {
    int column;
    std::size_t type;
    std::size_t group;
    int mode;
    int width_index;
  };

  double time_s(const Choice& choice) const { return types_[choice.type].first->modes[choice.mode].time_s; }

  void add_choices(LinearProgram& program, double limit_s, bool inclusive) {
    choices_.clear();
    every_type_has_choice_ = true;
    for (std::size_t k = 0; k < types_.size(); ++k) {
      const auto count = static_cast<double>(types_[k].tasks.size());
      const int row = program.add_row(count, count);
      bool any = false;
      const std::vector<Mode>& modes = types_[k].first->modes;
      for (int m = 0; m < static_cast<int>(modes.size()); ++m) {
        if (inclusive ? modes[m].time_s > limit_s : modes[m].time_s >= limit_s) continue;
        for (std::size_t g = 0; g < groups_.size(); ++g) {
          if (groups_[g].device_class != modes[m].device_class || modes[m].width > groups_[g].width) continue;
          // Equal nodes: the first task goes to the first of them.
          if (each_node_ && k == 0 && g > 0 && groups_[g].device_class == groups_[g - 1].device_class &&
              groups_[g].width == groups_[g - 1].width && types_[k].tasks.size() == 1) {
            continue;
          }
          const int column = program.add_column(0.0, 0.0, count);
          program.columns[column].integer = true;
          program.put(row, column, 1.0);
          const auto& widths = groups_[g].widths;
          const auto w = std::lower_bound(widths.begin(), widths.end(), modes[m].width) - widths.begin();
          choices_.push_back({column, k, g, m, static_cast<int>(w)});
          any = true;
        }
      }
      every_type_has_choice_ &= any;
    }
  }

  // The time spent at each width is covered by patterns whose times add up to count * T; T is a column or
  // `fixed`.
  template <class Time>
  void add_cover(LinearProgram& program, Time time, int makespan, double fixed) {
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      const Group& group = groups_[g];
      add_exclusions(program, time, makespan, fixed, g);
      const auto limit = [&] {
        const int row = makespan < 0 ? program.add_row(-kUnbounded, group.count * fixed)
                                     : program.add_row(-kUnbounded, 0.0);
        if (makespan >= 0) program.put(row, makespan, -group.count);
        return row;
      };
      if (group.patterns.empty()) {
        for (const std::vector<double>& value : group.functions) {
          const int row = limit();
          for (const Choice& choice : choices_) {
            if (choice.group == g)
              program.put(row, choice.column, value[choice.width_index] * time(time_s(choice)));
          }
        }
        continue;
      }
      const int total = limit();
      std::vector<int> rows;
      for (std::size_t w = 0; w < group.widths.size(); ++w) rows.push_back(program.add_row(0.0, kUnbounded));
      for (const Choice& choice : choices_) {
        const double spent = time(time_s(choice));
        if (choice.group == g && spent > 0.0) program.put(rows[choice.width_index], choice.column, -spent);
      }
      for (const std::vector<int>& counts : group.patterns) {
        const int column = program.add_column(0.0);
        program.put(total, column, 1.0);
        for (std::size_t w = 0; w < counts.size(); ++w) {
          if (counts[w] > 0) program.put(rows[w], column, counts[w]);
        }
      }
    }
  }

  // A pattern may hold a width twice, a task may not run beside itself. Tasks wider than G - w, where w is at
  // most half of the node, follow each other, and none of them runs beside a task of width w: on the node of
  // that task all their times and its own add up to at most T, on every other node theirs do.
  template <class Time>
  void add_exclusions(LinearProgram& program, Time time, int makespan, double fixed, std::size_t g) {
    const Group& group = groups_[g];
    for (const int width : group.widths) {
      if (2 * width > group.width) break;
      // One column holds what the wide tasks ask for, so that the rows of the narrow ones stay short.
      const int wide = program.add_column(0.0);
      const int sum = program.add_row(0.0, kUnbounded);
      program.put(sum, wide, 1.0);
      bool any = false;
      for (const Choice& choice : choices_) {
        const double asks = choice.group == g && group.widths[choice.width_index] > group.width - width
                                ? time(time_s(choice))
                                : 0.0;
        if (asks <= 0.0) continue;
        program.put(sum, choice.column, -asks);
        any = true;
      }
      if (!any) continue;
      for (std::size_t k = 0; k < types_.size(); ++k) {
        // Of equal tasks as many as fit run beside each other.
        const double beside =
            std::min(static_cast<double>(types_[k].tasks.size()), std::floor(group.width / width));
        std::vector<LinearProgram::Entry> own;
        double most = 0.0;
        for (const Choice& choice : choices_) {
          const int own_width = choice.group == g && choice.type == k ? group.widths[choice.width_index] : 0;
          // A mode that is itself wide counts once, in `wide`.
          if (own_width < width || own_width > group.width - width) continue;
          const double asks = time(time_s(choice)) / beside;
          if (asks <= 0.0) continue;
          own.push_back({choice.column, asks});
          most = std::max(most, asks);
        }
        if (most < kLeastExclusion) continue;
        const int row = program.add_row(-kUnbounded, makespan < 0 ? group.count * fixed : 0.0);
        if (makespan >= 0) program.put(row, makespan, -group.count);
        program.put(row, wide, 1.0);
        for (const auto& [column, asks] : own) program.put(row, column, asks);
      }
    }
  }

  std::vector<TaskType> types_;
  std::vector<Group> groups_;
  bool each_node_;
  std::vector<Choice> choices_;
  bool every_type_has_choice_ = true;
};

// Functions worth their rows: jobs longer than a half, a third, ... of T, and thresholds at jobs' own times.
std::vector<TimeFunction> time_functions(const Reduced& reduced, double limit_s) {
  std::vector<TimeFunction> functions = {{}};
  for (int k = 1; k <= 4; ++k) functions.push_back({.kind = TimeFunction::Kind::steps, .steps = k});
  std::vector<double> shares;
  for (const Task& task : reduced.tasks) {
    for (const Mode& mode : task.modes) {
      const double x = mode.time_s / limit_s;
      if (x > 0.02 && x < 0.5) shares.push_back(x);
    }
  }
  std::sort(shares.begin(), shares.end());
  for (const double quantile : {0.35, 0.6, 0.85}) {
    if (shares.size() < 4) break;
    const double x = shares[static_cast<std::size_t>(quantile * static_cast<double>(shares.size() - 1))];
    functions.push_back({.kind = TimeFunction::Kind::threshold, .threshold = x});
  }
  return functions;
}

}  // namespace

namespace {

class MilpBounds {
 public:
  MilpBounds(const Reduced& reduced, double lower_s, const MilpBudget& budget)
      : reduced_(reduced),
        budget_(budget),
        lower_s_(lower_s),
        upper_s_(budget.upper_s()),
        begin_s_(budget.elapsed_s()) {}

  void run() {
    if (lower_s_ <= 0.0) return;
    const std::size_t num_nodes = reduced_.nodes.size();
    // Jobs cannot be spread over nodes. Saying so multiplies the columns: for few nodes and jobs only.
    const bool each_node = num_nodes > 1 && num_nodes <= 8 && reduced_.tasks.size() * num_nodes <= 256;
    least(false, each_node ? 0.15 : 0.3);
    refute(false, each_node ? 0.15 : 1.0);
    if (!each_node) return;
    least(true, 0.5);
    refute(true, 1.0);
  }

 private:
  double left_s() const { return budget_.left_s - (budget_.elapsed_s() - begin_s_); }
  bool over() {
    upper_s_ = std::min(upper_s_, budget_.upper_s());
    return left_s() <= 0.02 || lower_s_ >= upper_s_ || budget_.stop();
  }

  void note(double bound_s, const std::string& by) {
    if (bound_s <= lower_s_) return;
    lower_s_ = std::min(bound_s, upper_s_);
    budget_.raise(lower_s_, by);
  }

  // The least T of the program with whole choices.
  void least(bool each_node, double share) {
    if (over()) return;
    Model model(reduced_, each_node);
    const std::string by = each_node ? "pattern MILP per node" : "pattern MILP";
    const LinearProgram program = model.least(upper_s_, lower_s_);
    if (!model.every_type_has_choice()) return note(upper_s_, by);
    const MilpResult result = solve_milp(
        program,
        {.time_limit_s = share * left_s(), .node_limit = budget_.node_limit, .cutoff = upper_s_ / lower_s_});
    note(result.bound * lower_s_ * (1.0 - 1e-6), by);
  }

  // Bisection over T, spending at most `share` of the time that is left.
  void refute(bool each_node, double share) {
    Model model(reduced_, each_node);
    const double until_s = left_s() * (1.0 - share);
    if (over()) return;
    double open_s = upper_s_;  // the least T not known to be beyond refutation
    for (int step = 0;
         !over() && left_s() > until_s && (budget_.solve_limit < 0 || step < budget_.solve_limit); ++step) {
      const double least_step_s = std::max(1e-4 * lower_s_, reduced_.integral ? 1.0 : 0.0);
      if (step > 0 && open_s - lower_s_ <= least_step_s) return;
      // First whether anything at all beats the incumbent; then closer to the bound, where refuting is
      // easier.
      double target_s = step == 0 ? upper_s_ : lower_s_ + (open_s - lower_s_) * 0.35;
      double limit_s = 0.0;
      // Room for the solver's tolerance: what is refuted is a T a little larger than the one that is claimed.
      if (reduced_.integral) {
        target_s = std::ceil(target_s);
        limit_s = target_s - 0.5;
      } else {
        if (step == 0) target_s *= 1.0 - 5e-7;
        limit_s = target_s * (1.0 + 4e-7);
      }
      if (step > 0 && target_s >= open_s) return;  // nothing lies between that was not asked
      const LinearProgram program = model.within(limit_s, time_functions(reduced_, limit_s));
      MilpResult result{.complete = true};
      if (model.every_type_has_choice()) {
        result = solve_milp(program, {.time_limit_s = std::max(0.05, 0.35 * (left_s() - until_s)),
                                      .node_limit = budget_.node_limit,
                                      .solution_limit = 1});
      }
      if (result.complete && !result.found) {
        note(target_s, each_node ? "destructive bisection per node" : "destructive bisection");
      } else {
        open_s = target_s;
      }
    }
  }

  const Reduced& reduced_;
  const MilpBudget& budget_;
  double lower_s_;
  double upper_s_;
  double begin_s_;
};

}  // namespace

void milp_bounds(const Reduced& reduced, double lower_s, const MilpBudget& budget) {
  MilpBounds(reduced, lower_s, budget).run();
}

}  // namespace saturn::plan

// Mixed-integer program over devices: which configuration and node (x), which devices (u), when (s), and for
// every pair of jobs which goes first where they share a device (a).
//
// Corrected against the paper: one start per job instead of one per device, the devices each node really has,
// and M as small as it can be: the makespan of a plan that is known, plus no more than a job's own time.

#include "plan/published.h"

#include <algorithm>
#include <string>

#include "plan/coin.h"
#include "plan/construct.h"
#include "plan/helper.h"

namespace saturn::plan {
namespace {

struct Published {
  struct Pick {
    int column;
    Choice choice;
  };
  LinearProgram program;
  std::vector<std::vector<Pick>> picks;  // per task
  std::vector<int> start;
};

Published formulate(const Reduced& reduced, double upper_s, double unit_s) {
  Published model;
  LinearProgram& program = model.program;
  const double most = upper_s / unit_s;
  const int makespan = program.add_column(1.0, 0.0, most);
  const std::size_t num_tasks = reduced.tasks.size();
  std::vector<std::vector<std::vector<int>>> use(num_tasks);  // [task][node][device]
  model.picks.resize(num_tasks);
  for (std::size_t t = 0; t < num_tasks; ++t) {
    const Task& task = reduced.tasks[t];
    model.start.push_back(program.add_column(0.0, 0.0, most));
    const int one = program.add_row(1.0, 1.0);
    const int ends = program.add_row(0.0, kUnbounded);  // makespan - start - time >= 0
    program.put(ends, makespan, 1.0);
    program.put(ends, model.start.back(), -1.0);
    for (std::size_t n = 0; n < reduced.nodes.size(); ++n) {
      const int width = program.add_row(0.0, 0.0);  // devices used = devices of the configuration
      std::vector<int> devices;
      for (int m = 0; m < static_cast<int>(task.modes.size()); ++m) {
        const Mode& mode = task.modes[m];
        if (!can_run(reduced, task, mode, static_cast<int>(n))) continue;
        const int x = program.add_column(0.0, 0.0, 1.0);
        program.columns[x].integer = true;
        program.put(one, x, 1.0);
        program.put(ends, x, -mode.time_s / unit_s);
        program.put(width, x, -mode.width);
        model.picks[t].push_back({x, {static_cast<int>(t), static_cast<int>(n), m}});
      }
      for (int d = 0; d < reduced.nodes[n].width; ++d) {
        devices.push_back(program.add_column(0.0, 0.0, 1.0));
        program.columns[devices.back()].integer = true;
        program.put(width, devices.back(), 1.0);
      }
      use[t].push_back(std::move(devices));
    }
  }
  for (std::size_t t = 0; t < num_tasks; ++t) {
    for (std::size_t other = t + 1; other < num_tasks; ++other) {
      const int first = program.add_column(0.0, 0.0, 1.0);
      program.columns[first].integer = true;
      // Where both use a device: start of the later one - start - time of the earlier one >= -M (what is not
      // so).
      const auto order = [&](std::size_t before, std::size_t after, bool forward, int u, int v) {
        const int row = program.add_row(forward ? -3.0 * most : -2.0 * most, kUnbounded);
        program.put(row, model.start[after], 1.0);
        program.put(row, model.start[before], -1.0);
        for (const Published::Pick& pick : model.picks[before]) {
          program.put(row, pick.column, -reduced.tasks[before].modes[pick.choice.mode].time_s / unit_s);
        }
        program.put(row, first, forward ? -most : most);
        program.put(row, u, -most);
        program.put(row, v, -most);
      };
      for (std::size_t n = 0; n < reduced.nodes.size(); ++n) {
        for (int d = 0; d < reduced.nodes[n].width; ++d) {
          order(t, other, true, use[t][n][d], use[other][n][d]);
          order(other, t, false, use[t][n][d], use[other][n][d]);
        }
      }
    }
  }
  return model;
}

// The choices in the order of their starts: list scheduling them leaves nothing to the solver's tolerances.
Solution replay(const Published& model, const std::vector<double>& x) {
  Solution solution;
  for (const auto& picks : model.picks) {
    const auto it = std::max_element(
        picks.begin(), picks.end(),
        [&](const Published::Pick& a, const Published::Pick& b) { return x[a.column] < x[b.column]; });
    if (it == picks.end()) return {};
    solution.push_back(it->choice);
  }
  std::stable_sort(solution.begin(), solution.end(), [&](const Choice& a, const Choice& b) {
    return x[model.start[a.task]] < x[model.start[b.task]];
  });
  return solution;
}

}  // namespace

void run_published(const Reduced& reduced, Incumbent& incumbent) {
  if (reduced.tasks.empty()) return;
  const Solution known = best_list(reduced, capped_allotments(reduced));
  if (known.empty()) return;
  const double upper_s = std::max(decode(reduced, known).value.makespan_s, 1e-9);
  const auto solve = [&](Link& link) {
    const Published model = formulate(reduced, upper_s, upper_s / 1000.0);
    const MilpResult result = solve_milp(model.program, {.time_limit_s = 0.85 * incumbent.left_s()});
    if (result.found) link.send({.by = "published formulation", .solution = replay(model, result.x)});
  };
  const std::unique_ptr<Helper> helper = Helper::start(solve);
  if (helper == nullptr) return;
  while (!helper->link().closed() && !incumbent.interrupted() && incumbent.left_s() > 0.0) {
    for (const Report& report : helper->link().receive(std::min(0.05, incumbent.left_s()))) {
      incumbent.offer(report.solution, report.by);
    }
  }
}

}  // namespace saturn::plan

// Greedy splitting: the jobs on the critical end of the plan are cut in two at a few places, and the general
// search says whether the plan got shorter.

#include "plan/segments.h"

#include <algorithm>

#include "plan/general.h"
#include "saturn/base/random.h"

namespace saturn::plan {
namespace {

// The same modes for the steps [from, to).
void restrict_steps(const Reduced& reduced, Task& task, std::int64_t from, std::int64_t to) {
  const Job& job = reduced.problem->jobs[task.job];
  const double share = static_cast<double>(to - from) / static_cast<double>(job.last_step - job.first_step);
  task.from_step = from;
  task.to_step = to;
  for (Mode& mode : task.modes) {
    const Configuration& configuration = job.configurations[mode.configuration];
    mode.time_s = mode.fixed ? job.running->remaining_s * share
                             : configuration.start_cost_s + configuration.time_s * share;
  }
}

bool can_split(const Reduced& reduced, int t, int max_segments) {
  const Task& task = reduced.tasks[t];
  const Job& job = reduced.problem->jobs[task.job];
  const auto segments = std::count_if(reduced.tasks.begin(), reduced.tasks.end(),
                                      [&](const Task& one) { return one.job == task.job; });
  return segments < max_segments && task.to_step - task.from_step >= 2 &&
         (!job.running || job.running->may_move);
}

}  // namespace

Reduced split(const Reduced& reduced, int t, std::int64_t step) {
  Reduced result = reduced;
  result.plain = false;
  result.integral = false;
  const int second = static_cast<int>(result.tasks.size());
  Task later = result.tasks[t];
  std::erase_if(later.modes, [](const Mode& mode) { return mode.fixed; });
  const std::int64_t end = later.to_step;
  for (Task& task : result.tasks) {
    std::replace(task.after.begin(), task.after.end(), t, second);
    task.twin_of = -1;
    if (task.job == later.job && task.segment > later.segment) ++task.segment;
  }
  restrict_steps(result, later, step, end);
  later.after = {t};
  later.segment += 1;
  later.twin_of = -1;
  restrict_steps(result, result.tasks[t], result.tasks[t].from_step, step);
  // Only the last segment of a job can miss its deadline.
  result.tasks[t].deadline_s = kNever;
  result.tasks.push_back(std::move(later));
  return result;
}

Segmented with_segments(const Reduced& reduced, const SolveOptions& options, Incumbent& incumbent) {
  Segmented best{reduced, incumbent.solution()};
  Value best_value = incumbent.value();
  const bool repeatable = options.iterations.has_value();
  const std::int64_t length = repeatable ? std::max<std::int64_t>(200, *options.iterations / 200) : 3000;
  for (int round = 0; round < static_cast<int>(reduced.tasks.size()) * (options.max_segments - 1); ++round) {
    // The jobs that hold the most device time, ending last first.
    std::vector<Placement> placements = decode(best.reduced, best.solution).placements;
    std::stable_sort(placements.begin(), placements.end(),
                     [](const Placement& a, const Placement& b) { return a.end_s > b.end_s; });
    bool improved = false;
    std::size_t tried = 0;
    for (const Placement& placement : placements) {
      const int t = placement.choice.task;
      if (!can_split(best.reduced, t, options.max_segments)) continue;
      if (++tried > 12 || incumbent.interrupted() || incumbent.left_s() <= 0.0) break;
      const Task& task = best.reduced.tasks[t];
      for (const int quarter : {2, 1, 3}) {
        const std::int64_t step = task.from_step + (task.to_step - task.from_step) * quarter / 4;
        if (step <= task.from_step || step >= task.to_step) continue;
        Reduced candidate = split(best.reduced, t, step);
        // Start from the plan as it is, the second half right behind the first.
        Solution start;
        for (const Choice& choice : best.solution) {
          start.push_back(choice);
          if (choice.task != t) continue;
          Choice second{static_cast<int>(candidate.tasks.size()) - 1, choice.node, 0};
          const Task& later = candidate.tasks.back();
          for (int m = 0; m < static_cast<int>(later.modes.size()); ++m) {
            if (later.modes[m].configuration == best.reduced.tasks[t].modes[choice.mode].configuration)
              second.mode = m;
          }
          if (!later.modes.empty() && can_run(candidate, later, later.modes[second.mode], choice.node))
            start.push_back(second);
        }
        if (start.size() != candidate.tasks.size()) continue;
        const GeneralResult result = anneal_general(
            candidate, start,
            mix_key(options.seed, static_cast<std::uint64_t>(round), static_cast<std::uint64_t>(t)),
            {length, [&] { return incumbent.interrupted() || incumbent.left_s() <= 0.0; }});
        incumbent.iterations += result.iterations;
        // A split must gain more than a rounding: a move is never free.
        if (!better(result.value, best_value) || result.value.objective > best_value.objective * (1.0 - 1e-4))
          continue;
        best = {std::move(candidate), result.solution};
        best_value = result.value;
        improved = true;
        break;
      }
      if (improved) break;
    }
    if (!improved) break;
  }
  return best;
}

}  // namespace saturn::plan

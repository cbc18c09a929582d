// The entry: validation, the policies, the certificate, and the check that every plan passes before it is
// given out.

#include "saturn/plan/solve.h"

#include <algorithm>
#include <cmath>

#include "plan/bounds.h"
#include "plan/construct.h"
#include "plan/incumbent.h"
#include "plan/pipeline.h"
#include "plan/published.h"
#include "plan/segments.h"
#include "saturn/base/log.h"
#include "saturn/base/nearest.h"
#include "saturn/plan/check.h"

namespace saturn::plan {
namespace {

Solution solution_by(const std::string& policy, const Reduced& reduced, std::uint64_t seed) {
  if (policy == "current-practice") return current_practice(reduced);
  if (policy == "minimal") return minimal_devices(reduced);
  if (policy == "random") return random_plan(reduced, seed);
  if (policy == "optimus-greedy") return optimus_greedy(reduced);
  return best_list(reduced, capped_allotments(reduced));
}

Diagnostics no_plan(const Reduced& reduced, const Incumbent& incumbent, const SolveOptions& options) {
  Diagnostics faults;
  const PlanProblem& problem = *reduced.problem;
  const auto add = [&](const std::string& where, std::string what, std::string expected, std::string fix) {
    faults.push_back({.kind = Kind::infeasible,
                      .where = problem.name + "#" + where,
                      .what = std::move(what),
                      .expected = std::move(expected),
                      .fix = std::move(fix)});
  };
  if (!incumbent.solution().empty()) {
    for (const Placement& placement : decode(reduced, incumbent.solution()).placements) {
      const Task& task = reduced.tasks[placement.choice.task];
      if (placement.end_s <= task.deadline_s) continue;
      const Job& job = problem.jobs[task.job];
      add("/jobs/" + std::to_string(task.job) + "/deadline_s",
          "job " + in_quotes(job.name) + " ends at " + std::to_string(placement.end_s) +
              " s in the best plan found",
          "an end by its deadline at " + std::to_string(task.deadline_s) + " s",
          "move the deadline, or give the other jobs less priority or more devices");
    }
    if (faults.empty() && problem.cost_limit) {
      add("/cost_limit", "the cheapest plan found costs " + std::to_string(incumbent.value().cost),
          "at most " + std::to_string(*problem.cost_limit), "raise the cost limit");
    }
  }
  if (faults.empty() && options.policy == "published") {
    add("", "policy \"published\" found no plan within its time limit",
        "a time in which CBC finds a first solution of that formulation, which grows fast with the jobs",
        "raise --time-limit, or leave --policy out");
  } else if (faults.empty()) {
    add("", "policy " + in_quotes(options.policy) + " found no plan in which every job runs",
        "devices that are there long enough, and not held by jobs that may not move",
        "look at outages, running jobs and memory limits");
  }
  return faults;
}

// Jobs that change their configuration on the way can beat every bound that counts on one: what holds is the
// device time and the fastest way through each job, start costs left out.
double segmented_bound_s(const PlanProblem& problem) {
  PlanProblem free = problem;
  for (Job& job : free.jobs) {
    for (Configuration& configuration : job.configurations) configuration.start_cost_s = 0.0;
  }
  return simple_bound_s(reduce(free));
}

Status status_of(const Incumbent& incumbent, const SolveOptions& options) {
  if (incumbent.proven()) return Status::optimal;
  if (incumbent.within_gap()) return Status::within_gap;
  if (incumbent.interrupted()) return Status::interrupted;
  const bool used_up = incumbent.left_s() <= 0.0 || options.iterations.has_value();
  return used_up && options.policy == "saturn" ? Status::time_limit : Status::heuristic;
}

}  // namespace

const std::vector<Policy>& policies() {
  static const std::vector<Policy> kPolicies = {
      {"saturn", "bounds, local search and exact search together"},
      {"current-practice", "all devices of a node, one job after another"},
      {"minimal", "as few devices as each job runs on"},
      {"random", "configurations and order by chance"},
      {"optimus-greedy", "one device more to the job that gains most, until none is left"},
      {"best-list", "the best list schedule over a sweep of allotments and orders"},
      {"published", "the big-M formulation of the paper, corrected, by CBC"},
  };
  return kPolicies;
}

double quick_bound_s(const PlanProblem& problem) {
  return validate(problem).empty() ? simple_bound_s(reduce(problem)) : 0.0;
}

Result<Plan> solve(const PlanProblem& problem, const SolveOptions& options) {
  const Incumbent::Moment start = std::chrono::steady_clock::now();
  std::vector<std::string> names;
  for (const Policy& policy : policies()) names.push_back(policy.name);
  if (std::find(names.begin(), names.end(), options.policy) == names.end()) {
    return Diagnostic{.what = "policy " + in_quotes(options.policy) + " does not exist",
                      .expected = "one of " + listed(names),
                      .fix = did_you_mean(options.policy, names)};
  }
  if (Diagnostics faults = validate(problem); !faults.empty()) return faults;

  const Reduced reduced = reduce(problem);
  Incumbent incumbent(reduced, options, start);
  if (options.start_from != nullptr) incumbent.offer(solution_of(reduced, *options.start_from), "start");
  if (options.policy == "saturn") {
    run_pipeline(reduced, options, incumbent);
  } else if (options.policy == "published") {
    incumbent.raise_bound(simple_bound_s(reduced), "area");
    run_published(reduced, incumbent);
  } else {
    incumbent.raise_bound(simple_bound_s(reduced), "area");
    incumbent.offer(solution_by(options.policy, reduced, options.seed), options.policy);
  }
  if (!reduced.tasks.empty() && !incumbent.value().feasible) return no_plan(reduced, incumbent, options);

  Segmented planned{reduced, incumbent.solution()};
  if (options.max_segments > 1 && options.policy == "saturn" && !reduced.tasks.empty()) {
    planned = with_segments(reduced, options, incumbent);
  }
  const bool segmented = planned.reduced.tasks.size() > reduced.tasks.size();
  Plan plan = build_plan(planned.reduced, planned.solution);
  plan.lower_bound_s =
      std::min(segmented ? segmented_bound_s(problem) : incumbent.bound_s(), plan.makespan_s);
  const bool is_makespan =
      problem.objective == Objective::makespan || problem.objective == Objective::makespan_under_cost;
  plan.objective_bound =
      is_makespan ? plan.lower_bound_s : std::min(incumbent.objective_bound(), plan.objective_value);
  if (segmented && !is_makespan) plan.objective_bound = 0.0;
  plan.status = segmented ? Status::time_limit : status_of(incumbent, options);
  plan.solver = {.policy = options.policy,
                 .found_by = incumbent.found_by(),
                 .bound_by = incumbent.bound_by(),
                 .wall_s = incumbent.elapsed_s(),
                 .time_limit_s = options.time_limit_s,
                 .iterations = incumbent.iterations,
                 .iteration_limit = options.iterations.value_or(-1),
                 .seed = options.seed};
  if (options.baselines) {
    for (const char* name : {"current-practice", "minimal", "random", "optimus-greedy", "best-list"}) {
      const Solution solution = solution_by(name, reduced, options.seed);
      if (solution.empty() && !reduced.tasks.empty()) continue;
      const Value value = decode(reduced, solution).value;
      if (value.lateness_s < kNever) plan.baselines.emplace_back(name, value.makespan_s);
    }
  }
  const Diagnostics faults = check(problem, plan, "plan");
  if (!faults.empty()) log_warning(to_text(faults));
  SATURN_CHECK(faults.empty(), "the solver's plan passes the independent check");
  return plan;
}

}  // namespace saturn::plan

// Planning from a bare table of measured configurations.

#include "cli/plan_table.h"

#include <unistd.h>

#include <csignal>

#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/plan/explain.h"
#include "saturn/view/gantt_text.h"

namespace saturn::cli {
namespace {

std::atomic<bool> stop_requested{false};

void request_stop(int) {
  stop_requested.store(true, std::memory_order_relaxed);
}

}  // namespace

void SolverArgs::declare(Options& options) {
  options.option("--time-limit", "SEC", time_limit_s, "stop the solver after SEC seconds", "60");
  options.option("--iterations", "N", iterations, "repeatable: the same plan for the same N and seed");
  options.option("--seed", "N", seed, "of the search", "1");
  options.option("--gap", "SHARE", gap, "stop when proven this close to the best", "0");
  options.option("--segments", "K", segments, "cut a job into at most K segments", "1");
  options.option("--policy", "NAME", policy, "saturn, current-practice, minimal, ...", "saturn");
  options.option("--objective", "NAME", objective, "makespan, mean_completion, cost, makespan_under_cost");
  options.option("--explain", "JOB", explain, "say why JOB is planned as it is");
}

Result<plan::SolveOptions> SolverArgs::solve_options(plan::SolveOptions options) const {
  Diagnostics faults;
  const auto outside = [&](const char* option, const std::string& expected) {
    faults.push_back({.what = std::string(option) + " is out of range", .expected = expected});
  };
  if (!policy.empty()) options.policy = policy;
  if (time_limit_s) {
    if (!(*time_limit_s > 0.0 && *time_limit_s <= 1e6))
      outside("--time-limit", "more than 0, at most 1000000 seconds");
    options.time_limit_s = *time_limit_s;
  }
  if (iterations) {
    if (*iterations < 0) outside("--iterations", "at least 0");
    options.iterations = *iterations;
  }
  if (seed) {
    if (*seed < 0) outside("--seed", "at least 0");
    options.seed = static_cast<std::uint64_t>(*seed);
  }
  if (gap) {
    if (!(*gap >= 0.0 && *gap < 1e6)) outside("--gap", "a share from 0, as 0.01 for 1 %");
    options.gap = *gap;
  }
  if (segments) {
    if (*segments < 1 || *segments > 8) outside("--segments", "1 to 8");
    options.max_segments = static_cast<int>(*segments);
  }
  if (!faults.empty()) return faults;
  return options;
}

Result<void> SolverArgs::apply_objective(plan::PlanProblem& problem) const {
  if (objective.empty()) return {};
  SATURN_TRY(problem.objective, plan::objective_from(objective));
  return {};
}

StopOnSignal::StopOnSignal() {
  stop_requested.store(false);
  std::signal(SIGINT, request_stop);
  std::signal(SIGTERM, request_stop);
}

StopOnSignal::~StopOnSignal() {
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGTERM, SIG_DFL);
}

const std::atomic<bool>* StopOnSignal::flag() const {
  return &stop_requested;
}

Result<int> plan_table(const std::string& table, const std::string& out, const SolverArgs& args,
                       const Context& context) {
  SATURN_TRY(plan::SolveOptions options, args.solve_options());
  SATURN_TRY(plan::PlanProblem problem, plan::read_table(table));
  SATURN_TRY_VOID(args.apply_objective(problem));
  const StopOnSignal stop;
  options.stop = stop.flag();
  SATURN_TRY(const plan::Plan plan, plan::solve(problem, options));

  SATURN_TRY(const std::string digest, digest_of_file(table));
  Json document = plan::to_json(plan, {{file_name_of(table), digest}});
  if (!out.empty()) SATURN_TRY_VOID(write_artefact(out, document));
  std::string explained;
  if (!args.explain.empty()) {
    SATURN_TRY(const plan::Explanation explanation, plan::explain(problem, plan, args.explain, options));
    explained = plan::to_text(explanation);
    if (context.json) document["explanation"] = plan::to_json(explanation);
  }
  if (context.json) {
    print_json(document);
    return 0;
  }
  view::Schedule schedule = view::schedule_of(plan, problem.nodes);
  schedule.title = file_name_of(table) + ": " + std::to_string(problem.jobs.size()) + " jobs";
  print(view::schedule_text(schedule, view::terminal_of(STDOUT_FILENO)) + (explained.empty() ? "" : "\n") +
        explained);
  return 0;
}

}  // namespace saturn::cli

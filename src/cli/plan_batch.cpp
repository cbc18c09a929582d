// Planning a batch: each step is a stage of its own, shared with `saturn run`.

#include "cli/plan_batch.h"

#include <unistd.h>

#include <algorithm>

#include "cli/stage.h"
#include "saturn/base/files.h"
#include "saturn/base/units.h"
#include "saturn/batch/identity.h"
#include "saturn/journal/run_directory.h"
#include "saturn/plan/check.h"
#include "saturn/plan/explain.h"
#include "saturn/profile/job_time.h"
#include "saturn/run/artefacts.h"
#include "saturn/run/progress.h"
#include "saturn/view/gantt_text.h"
#include "saturn/view/plan_diff.h"
#include "saturn/view/text.h"

namespace saturn::cli {
namespace {

// The profile to plan from, and the file it lies in.
struct Measured {
  profile::Profile profile;
  std::string path;
};

Result<Measured> named_profile(const Stage& stage, const std::string& path) {
  SATURN_TRY(profile::Profile profile, profile::read_profile(path));
  const std::vector<std::string> stale = profile::what_is_stale(profile, stage.batch, stage.machine);
  if (!stale.empty()) {
    return Diagnostic{.kind = Kind::stale,
                      .where = path,
                      .what = "this profile is not one of " + stage.batch.path + ": " + stale.front(),
                      .expected = "a profile made after the last change of the batch, on this machine",
                      .fix = "saturn profile " + stage.batch.path + " --out " + path};
  }
  return Measured{std::move(profile), path};
}

Result<Measured> own_profile(const Stage& stage, const journal::RunPaths& paths, bool quiet) {
  const SystemClock clock;
  StopSignals signals;
  SATURN_TRY(const std::unique_ptr<worker::Launcher> launcher, open_launcher(clock));
  launcher->set_wake_fds({signals.fd()});
  const std::optional<profile::TrialCache> cache = open_trial_cache(clock);
  TrialProgress progress(quiet, clock);
  Result<profile::Profile> profile = run::ensure_profile({.batch = &stage.batch,
                                                          .machine = &stage.machine,
                                                          .path = paths.profile(),
                                                          .trials_directory = paths.trials(),
                                                          .cache = cache ? &*cache : nullptr,
                                                          .stop =
                                                              [&signals] {
                                                                signals.drain();
                                                                return StopSignals::count() > 0;
                                                              }},
                                                         *launcher, clock, progress);
  progress.finish();
  if (!profile.ok()) return std::move(profile).faults();
  return Measured{*std::move(profile), paths.profile()};
}

// What the run directory says is done. The lock is held, so nothing runs; a job that has changed since begins
// again.
Result<journal::RunState> state_for(const batch::Batch& batch, journal::RunState state) {
  std::map<std::string, std::string> digests;
  for (const batch::Job& job : batch.jobs) {
    SATURN_TRY(digests[job.name], batch::result_digest(job, batch.data.at(job.data)));
  }
  std::erase_if(state.jobs, [&](const journal::JobRecord& record) {
    const auto found = digests.find(record.name);
    return found == digests.end() || found->second != record.result_digest;
  });
  for (journal::JobRecord& record : state.jobs) {
    if (journal::is_running(record.state)) record.state = journal::JobState::pending;
  }
  return state;
}

// Solves, with a line on stderr that follows the gap.
Result<plan::Plan> solved(const plan::PlanProblem& problem, plan::SolveOptions options, bool quiet) {
  const SystemClock clock;
  view::Display display(view::stderr_screen(quiet), clock);
  const StopOnSignal stop;
  options.stop = stop.flag();
  options.on_progress = [&display](const plan::Progress& progress) {
    display.draw([&](const view::Terminal& terminal) {
      std::string text = "planning: makespan " + format_duration(progress.makespan_s) + ", at least " +
                         format_duration(progress.lower_bound_s) + " (" + progress.by + ", " +
                         format_duration(progress.elapsed_s) + ")";
      return std::vector<std::string>{view::fitted(text, terminal.width, terminal.unicode)};
    });
  };
  Result<plan::Plan> plan = plan::solve(problem, options);
  display.finish();
  return plan;
}

// The plan in force; nothing where there is none that can be read.
std::optional<plan::Plan> plan_in_force(const journal::RunPaths& paths) {
  if (paths.last_plan() < 0) return std::nullopt;
  Result<plan::Plan> plan = plan::read_plan(paths.plan(paths.last_plan()));
  if (!plan.ok()) return std::nullopt;
  return *std::move(plan);
}

bool made_from_same(const std::string& path, const std::vector<MadeFrom>& sources) {
  const Result<Json> document = read_artefact(path, plan::kPlanFormat);
  return document.ok() && !run::why_stale(plan::made_from(*document), sources, path);
}

}  // namespace

Result<int> plan_batch(const PlanBatchArgs& args, const SolverArgs& solver, const Context& context) {
  // 1. The batch, its devices, its directory and its profile.
  SATURN_TRY(const Stage stage, open_stage(args.batch, args.directory, context.quiet));
  SATURN_TRY_VOID(require_jobs(stage.batch));
  const SystemClock clock;
  SATURN_TRY(const journal::RunDirectory held, journal::RunDirectory::open(stage.directory, clock));
  const journal::RunPaths& paths = held.paths();
  SATURN_TRY(const Measured measured, args.profile.empty() ? own_profile(stage, paths, context.quiet)
                                                           : named_profile(stage, args.profile));

  // 2. The problem of what is left.
  SATURN_TRY(const auto num_steps, profile::num_steps_of(stage.batch));
  SATURN_TRY(const journal::RunState state, state_for(stage.batch, held.state()));
  const profile::Profile estimates = run::estimates_of(measured.profile, state);
  SATURN_TRY(plan::PlanProblem problem, run::remaining_problem({.batch = &stage.batch,
                                                                .profile = &estimates,
                                                                .num_steps = &num_steps,
                                                                .state = &state,
                                                                .time_s = held.time_s()}));
  SATURN_TRY_VOID(solver.apply_objective(problem));
  SATURN_TRY(const plan::SolveOptions options, solver.solve_options(run::solve_options(stage.batch)));

  // 3. The plan, checked without the solver.
  SATURN_TRY(const plan::Plan plan, solved(problem, options, context.quiet));
  if (Diagnostics faults = plan::check(problem, plan); !faults.empty()) return faults;
  SATURN_TRY(const std::vector<MadeFrom> sources, run::plan_sources(stage.batch, measured.path));
  Json document = plan::to_json(plan, sources);

  // 4. Written where it says something new.
  const std::optional<plan::Plan> before = plan_in_force(paths);
  const bool differs = !before || !view::changes(*before, plan).empty();
  bool stands = false;
  std::string path = args.out;
  if (path.empty()) {
    stands = !differs && made_from_same(paths.plan(paths.last_plan()), sources);
    path = paths.plan(paths.last_plan() + (stands ? 0 : 1));
  }
  if (!stands) SATURN_TRY_VOID(write_artefact(path, document));

  // 5. Said.
  std::string explained;
  if (!solver.explain.empty()) {
    SATURN_TRY(const plan::Explanation explanation, plan::explain(problem, plan, solver.explain, options));
    explained = "\n" + plan::to_text(explanation);
    if (context.json) document["explanation"] = plan::to_json(explanation);
  }
  if (context.json) {
    print_json(document);
  } else {
    view::Schedule schedule = view::schedule_of(plan, problem.nodes);
    schedule.title =
        stage.batch.name + ": " + std::to_string(problem.jobs.size()) +
        (problem.jobs.size() == 1 ? " job" : " jobs") +
        (stage.batch.search.method.empty() ? "" : ", each as far as [search] is expected to train it");
    print(view::schedule_text(schedule, view::terminal_of(STDOUT_FILENO)) + explained + "\n" +
          (stands ? "unchanged: " : "written to ") + path + "\n");
  }
  return args.detailed_exitcode && differs ? 10 : 0;
}

}  // namespace saturn::cli

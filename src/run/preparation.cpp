// Finding and making the profile and the first plan.

#include "run/preparation.h"

#include <algorithm>
#include <filesystem>

#include "run/accept.h"
#include "run/append.h"
#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/plan/check.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobRecord;
using journal::JobState;

constexpr double kPollS = 0.25;

}  // namespace

Remainder Preparation::remainder() {
  estimates_ = estimates_of(profile_, directory_.state());
  return remainder_of(execution_, estimates_, directory_);
}

bool Preparation::stop_asked() {
  if (around_.stop_count && around_.stop_count() > 0) return true;
  for (const journal::Request& request : box_.look()) {
    if (request.verb == journal::Request::Verb::stop) return true;
  }
  return false;
}

Result<void> Preparation::find_profile() {
  const journal::RunPaths& paths = directory_.paths();
  SATURN_TRY(profile_, ensure_profile({.batch = &execution_.batch,
                                       .machine = request_.machine,
                                       .path = paths.profile(),
                                       .trials_directory = paths.trials(),
                                       .cache = around_.trial_cache,
                                       .stop = [this] { return stop_asked(); }},
                                      *around_.launcher, *around_.clock, *around_.profile_observer));
  execution_.profile = &profile_;
  SATURN_TRY(execution_.sources, plan_sources(execution_.batch, paths.profile()));
  return {};
}

Result<void> Preparation::begin_without_jobs() {
  around_.launcher->set_wake_fds(around_.wake_fds);
  profile_.machine = *request_.machine;
  execution_.profile = &profile_;
  execution_.plan.origin_s = directory_.time_s();
  return {};
}

Result<plan::Plan> Preparation::named_plan() const {
  const std::string& path = request_.plan_path;
  SATURN_TRY(const Json document, read_artefact(path, plan::kPlanFormat));
  SATURN_TRY(plan::Plan plan, plan::plan_from_json(document, path));
  if (const std::optional<Diagnostic> stale = why_stale(plan::made_from(document), execution_.sources, path))
    return *stale;
  SATURN_TRY(const plan::PlanProblem problem,
             remaining_problem(
                 {.batch = &execution_.batch, .profile = &profile_, .num_steps = &execution_.num_steps}));
  Diagnostics faults = plan::check(problem, plan, path);
  if (!faults.empty()) return faults;
  return plan;
}

// The latest plan of the run directory, where it is of this batch and this profile.
std::optional<plan::Plan> Preparation::plan_of_directory() {
  const journal::RunPaths& paths = directory_.paths();
  if (paths.last_plan() < 0) return std::nullopt;
  const std::string path = paths.plan(paths.last_plan());
  const auto read = [&]() -> Result<plan::Plan> {
    SATURN_TRY(const Json document, read_artefact(path, plan::kPlanFormat));
    SATURN_TRY(plan::Plan plan, plan::plan_from_json(document, path));
    if (const std::optional<Diagnostic> stale =
            why_stale(plan::made_from(document), execution_.sources, path))
      return *stale;
    SATURN_TRY(const plan::PlanProblem problem, remaining_problem(remainder()));
    Diagnostics faults = plan::check(problem, plan, path);
    if (!faults.empty()) return faults;
    return plan;
  };
  Result<plan::Plan> plan = read();
  if (plan.ok()) return *std::move(plan);
  around_.observer->on_note("planning again: " + plan.faults().front().what);
  return std::nullopt;
}

Result<plan::Plan> Preparation::wait_for_plan() {
  for (;;) {
    if (std::optional<Result<plan::Plan>> taken = around_.planner->take()) return *std::move(taken);
    if (stop_asked()) {
      around_.planner->cancel();
      return Diagnostic{.kind = Kind::interrupted, .what = "interrupted while planning"};
    }
    // Standby workers come up meanwhile; their launcher wakes for the planner's pipe as well.
    std::vector<int> wake = around_.wake_fds;
    if (around_.planner->fd() >= 0) wake.push_back(around_.planner->fd());
    around_.launcher->set_wake_fds(wake);
    around_.launcher->poll(kPollS);
    around_.launcher->set_wake_fds(around_.wake_fds);
  }
}

Result<void> Preparation::make_plan(const std::string& reason) {
  around_.observer->on_note("planning: " + reason);
  SATURN_TRY(const plan::PlanProblem problem, remaining_problem(remainder()));
  SATURN_TRY_VOID(around_.planner->start(problem, solve_options(execution_.batch)));
  SATURN_TRY(execution_.plan, wait_for_plan());
  Diagnostics faults = plan::check(problem, execution_.plan);
  if (!faults.empty()) return faults;
  return adopt_plan(execution_.plan, execution_.sources, reason, directory_, *around_.observer);
}

Result<void> Preparation::find_plan() {
  if (!request_.plan_path.empty()) {
    SATURN_TRY(execution_.plan, named_plan());
    execution_.plan.origin_s = directory_.time_s();
    return adopt_plan(execution_.plan, execution_.sources, "named on the command line: " + request_.plan_path,
                      directory_, *around_.observer);
  }
  const auto& jobs = directory_.state().jobs;
  const auto num_open = std::count_if(jobs.begin(), jobs.end(), [&](const JobRecord& record) {
    return record.state == JobState::pending && execution_.selected.contains(record.name);
  });
  const bool begun = std::any_of(jobs.begin(), jobs.end(), [](const JobRecord& record) {
    return record.state != JobState::pending || !record.attempts.empty();
  });
  if (begun) {
    return make_plan(std::to_string(num_open) + " of " + std::to_string(jobs.size()) +
                     (num_open == 1 ? " jobs is left" : " jobs are left"));
  }
  if (directory_.paths().last_plan() < 0) return make_plan("there is no plan yet");
  if (std::optional<plan::Plan> plan = plan_of_directory()) {
    execution_.plan = *std::move(plan);
    return record_plan(execution_.plan, directory_.paths().plan(directory_.paths().last_plan()),
                       "made before", directory_, *around_.observer);
  }
  return make_plan("the plan there is does not hold");
}

Result<void> record_plan(const plan::Plan& plan, const std::string& path, const std::string& reason,
                         journal::RunDirectory& directory, journal::RunObserver& observer) {
  SATURN_TRY(const std::string digest, digest_of_file(path));
  Event planned{.kind = EventKind::planned};
  planned.details = {{"file", file_name_of(path)},          {"digest", digest},
                     {"origin_s", plan.origin_s},           {"makespan_s", plan.makespan_s},
                     {"lower_bound_s", plan.lower_bound_s}, {"reason", reason}};
  return append(std::move(planned), directory, observer);
}

Result<void> adopt_plan(const plan::Plan& plan, const std::vector<MadeFrom>& sources,
                        const std::string& reason, journal::RunDirectory& directory,
                        journal::RunObserver& observer) {
  const std::string path = directory.paths().plan(directory.paths().last_plan() + 1);
  SATURN_TRY_VOID(write_artefact(path, plan::to_json(plan, sources)));
  return record_plan(plan, path, reason, directory, observer);
}

}  // namespace saturn::run

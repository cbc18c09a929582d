// One `saturn run`, stage by stage.

#include "saturn/run/session.h"

#include <algorithm>
#include <csignal>
#include <filesystem>

#include "run/accept.h"
#include "run/executor.h"
#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/base/signals.h"
#include "saturn/base/units.h"
#include "saturn/plan/check.h"
#include "saturn/profile/job_time.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobRecord;
using journal::JobState;

constexpr double kPollS = 0.25;
constexpr std::int64_t kBytesPerParameter = 4;
constexpr std::int64_t kStateCopies = 3;  // a checkpoint: weights and two moments

Result<std::set<std::string>> selected_jobs(const SessionRequest& request) {
  std::set<std::string> all;
  for (const batch::Job& job : request.batch->jobs) all.insert(job.name);
  if (request.only.empty()) return all;
  const std::vector<std::string> names(all.begin(), all.end());
  std::set<std::string> selected;
  Diagnostics faults;
  for (const std::string& name : request.only) {
    if (all.contains(name)) {
      selected.insert(name);
    } else {
      faults.push_back({.what = "--only: job " + in_quotes(name) + " is not in " + request.batch->path,
                        .expected = "some of " + listed(names),
                        .fix = did_you_mean(name, names)});
    }
  }
  if (!faults.empty()) return faults;
  return selected;
}

// Weights of every job and its checkpoints have to fit before anything is trained.
Result<void> foresee_disk(const batch::Batch& batch, const journal::RunState& state,
                          const std::string& root) {
  std::uint64_t needed = 0;
  for (const batch::Job& job : batch.jobs) {
    const JobRecord* const record = state.find(job.name);
    if (record != nullptr && journal::is_final(record->state)) continue;
    const std::int64_t weights = job.model.num_parameters * kBytesPerParameter;
    const std::int64_t checkpoints = batch.run.checkpoint_every > 0 ? batch.run.keep_checkpoints + 1 : 0;
    needed += static_cast<std::uint64_t>(weights + checkpoints * kStateCopies * weights);
  }
  SATURN_TRY(const std::uint64_t free, free_bytes(root));
  if (free >= needed) return {};
  return Diagnostic{
      .kind = Kind::machine,
      .where = root,
      .what = format_bytes(static_cast<double>(free)) + " are free, and this run writes up to " +
              format_bytes(static_cast<double>(needed)),
      .expected = "room for the weights and checkpoints of every job that is not done",
      .fix = "free space there, choose another directory with --dir, or lower keep_checkpoints"};
}

Result<void> append(Event event, journal::RunDirectory& directory, journal::RunObserver& observer) {
  SATURN_TRY(const Event appended, directory.append(std::move(event)));
  observer.on_event(appended, directory.state());
  return {};
}

Result<void> retry_failed(const std::set<std::string>& selected, journal::RunDirectory& directory,
                          journal::RunObserver& observer) {
  std::vector<std::string> failed;
  for (const JobRecord& record : directory.state().jobs) {
    if (record.state == JobState::failed && selected.contains(record.name)) failed.push_back(record.name);
  }
  for (const std::string& name : failed) {
    Event reset{.kind = EventKind::job_changed, .job = name};
    reset.details = {{"happened", "reset"}, {"reason", "--retry-failed"}};
    SATURN_TRY_VOID(append(std::move(reset), directory, observer));
  }
  return {};
}

class Session {
 public:
  Session(const SessionRequest& request, journal::RunDirectory& directory, const Surroundings& around)
      : request_(request), directory_(directory), around_(around) {}

  Result<SessionResult> run();

 private:
  Result<void> find_profile();
  Result<void> find_plan();
  Result<plan::Plan> named_plan() const;
  std::optional<plan::Plan> plan_of_directory();
  Result<void> make_plan(const std::string& reason);
  Result<plan::Plan> wait_for_plan() const;
  bool anything_left() const;
  Result<SessionResult> conclude(const Executor* executor);
  bool stop_asked() const { return around_.stop_count && around_.stop_count() > 0; }
  Remainder remainder() const;

  const SessionRequest& request_;
  journal::RunDirectory& directory_;
  const Surroundings& around_;
  profile::Profile profile_;
  Execution execution_;
};

Remainder Session::remainder() const {
  return {.batch = request_.batch,
          .profile = &profile_,
          .num_steps = &execution_.num_steps,
          .state = &directory_.state(),
          .selected = &execution_.selected,
          .excluded = request_.excluded,
          .time_s = directory_.time_s()};
}

bool Session::anything_left() const {
  return std::any_of(directory_.state().jobs.begin(), directory_.state().jobs.end(),
                     [&](const JobRecord& record) {
                       return record.state == JobState::pending && execution_.selected.contains(record.name);
                     });
}

// ---- Artefacts

Result<void> Session::find_profile() {
  const journal::RunPaths& paths = directory_.paths();
  // The library is loaded while the planner works, at the latest.
  SATURN_TRY(profile_, ensure_profile({.batch = request_.batch,
                                       .machine = request_.machine,
                                       .path = paths.profile(),
                                       .trials_directory = paths.trials(),
                                       .stop = [this] { return stop_asked(); }},
                                      *around_.launcher, *around_.clock, *around_.profile_observer));
  SATURN_TRY(execution_.sources, plan_sources(*request_.batch, paths.profile()));
  return {};
}

Result<plan::Plan> Session::named_plan() const {
  const std::string& path = request_.plan_path;
  SATURN_TRY(const Json document, read_artefact(path, plan::kPlanFormat));
  SATURN_TRY(plan::Plan plan, plan::plan_from_json(document, path));
  if (const std::optional<Diagnostic> stale = why_stale(plan::made_from(document), execution_.sources, path))
    return *stale;
  SATURN_TRY(
      const plan::PlanProblem problem,
      remaining_problem({.batch = request_.batch, .profile = &profile_, .num_steps = &execution_.num_steps}));
  Diagnostics faults = plan::check(problem, plan, path);
  if (!faults.empty()) return faults;
  return plan;
}

// The latest plan of the run directory, where it is of this batch and this profile.
std::optional<plan::Plan> Session::plan_of_directory() {
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

Result<plan::Plan> Session::wait_for_plan() const {
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

Result<void> Session::make_plan(const std::string& reason) {
  around_.observer->on_note("planning: " + reason);
  SATURN_TRY(const plan::PlanProblem problem, remaining_problem(remainder()));
  SATURN_TRY_VOID(around_.planner->start(problem, solve_options(*request_.batch)));
  SATURN_TRY(execution_.plan, wait_for_plan());
  Diagnostics faults = plan::check(problem, execution_.plan);
  if (!faults.empty()) return faults;
  return adopt_plan(execution_.plan, execution_.sources, reason, directory_, *around_.observer);
}

Result<void> Session::find_plan() {
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

// ---- The whole

Result<SessionResult> Session::conclude(const Executor* executor) {
  SessionResult result;
  if (executor != nullptr) {
    result.faults = executor->failures();
    result.interrupted = executor->interrupted();
  }
  const auto& jobs = directory_.state().jobs;
  const bool failed = std::any_of(jobs.begin(), jobs.end(), [&](const JobRecord& record) {
    return record.state == JobState::failed && execution_.selected.contains(record.name);
  });
  for (const JobRecord& record : jobs) {
    const bool earlier = record.state == JobState::failed && execution_.selected.contains(record.name) &&
                         (executor == nullptr || !executor->has_failed(record.name));
    if (!earlier) continue;
    result.faults.push_back(
        {.kind = Kind::job_failed,
         .where = directory_.paths().log(record.name),
         .what = "job " + in_quotes(record.name) + " failed in an earlier run: " + record.reason,
         .expected = "a job that trains to its last step",
         .fix = "saturn run " + request_.batch->path + " --retry-failed"});
  }
  const int signal_number = StopSignals::first() > 0 ? StopSignals::first() : SIGINT;
  Event ended{.kind = EventKind::run_ended};
  ended.details["outcome"] = result.interrupted ? "interrupted" : failed ? "failed" : "done";
  ended.details["exit_code"] = result.interrupted ? 128 + signal_number : failed ? 1 : 0;
  SATURN_TRY_VOID(append(std::move(ended), directory_, *around_.observer));
  result.summary = journal::summarise(directory_.state());
  SATURN_TRY_VOID(write_artefact(directory_.paths().summary(), journal::to_json(result.summary)));
  return result;
}

Result<SessionResult> Session::run() {
  const batch::Batch& batch = *request_.batch;
  SATURN_TRY(execution_.selected, selected_jobs(request_));
  SATURN_TRY(execution_.num_steps, profile::num_steps_of(batch));
  SATURN_TRY_VOID(directory_.begin());
  SATURN_TRY_VOID(recover(directory_, *around_.observer));
  SATURN_TRY_VOID(accept_batch(batch, execution_.num_steps, directory_, *around_.observer));
  if (request_.retry_failed)
    SATURN_TRY_VOID(retry_failed(execution_.selected, directory_, *around_.observer));
  if (!anything_left()) {
    around_.observer->on_note("nothing is left to run");
    return conclude(nullptr);
  }
  SATURN_TRY_VOID(foresee_disk(batch, directory_.state(), directory_.paths().root()));

  around_.launcher->set_wake_fds(around_.wake_fds);
  SATURN_TRY_VOID(find_profile());
  around_.launcher->set_num_standby(request_.machine->num_devices());
  SATURN_TRY_VOID(find_plan());

  execution_.batch = request_.batch;
  execution_.machine = request_.machine;
  execution_.profile = &profile_;
  execution_.excluded = request_.excluded;
  around_.observer->on_plan(execution_.plan, directory_.state());
  directory_.start_clock();
  Executor executor(execution_, directory_, around_);
  SATURN_TRY_VOID(executor.run());
  return conclude(&executor);
}

}  // namespace

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

Result<SessionResult> run_session(const SessionRequest& request, journal::RunDirectory& directory,
                                  const Surroundings& surroundings) {
  return Session(request, directory, surroundings).run();
}

}  // namespace saturn::run

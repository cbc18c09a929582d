// Finding, judging and making the artefacts of a run directory.

#include "saturn/run/artefacts.h"

#include <algorithm>
#include <filesystem>
#include <limits>

#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/profile/job_time.h"
#include "saturn/run/decide.h"
#include "saturn/run/introspection.h"
#include "saturn/run/progress.h"
#include "saturn/search/decide.h"

namespace saturn::run {
namespace {

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

std::string short_digest(const std::string& digest) {
  return digest.substr(0, 6);
}

const profile::Trial* trial_of(const profile::Profile& profile, const journal::Attempt& attempt) {
  return profile.find_id(attempt.trial);
}

std::int64_t step_now(const Remainder& remainder, const journal::JobRecord& record) {
  const auto seen = remainder.steps_now.find(record.name);
  return std::max(record.step, seen == remainder.steps_now.end() ? 0 : seen->second);
}

// The step that the job is expected to reach from `from_step`: its last, but for a search.
std::int64_t expected_end(const Remainder& remainder, const journal::JobRecord* record,
                          const std::string& job, std::int64_t from_step) {
  return search::expected_end(remainder.batch->search, remainder.state, record, from_step,
                              remainder.num_steps->at(job));
}

// Where a running job is, what it has left there, and what moving it would cost.
profile::RunningNow running_now(const Remainder& remainder, const batch::Job& job,
                                const journal::JobRecord& record, const profile::Trial& trial) {
  const journal::Attempt& attempt = *record.last_attempt();
  const batch::RunSettings& settings = remainder.batch->run;
  const auto newer = remainder.paces.find(record.name);
  const journal::StepPace& pace = newer == remainder.paces.end() ? attempt.pace : newer->second;
  const std::int64_t step = step_now(remainder, record);
  const std::int64_t end = expected_end(remainder, &record, job.name, step);
  profile::RunningNow now{.trial = attempt.trial,
                          .devices = attempt.devices,
                          .remaining_s = remaining_s(job, settings, trial, pace, step, end)};
  if (!attempt.first_step_s)
    now.remaining_s += profile::job_time(job, settings, trial, attempt.from_step, end).start_s;
  if (pace.num_timed >= kFewestTimedSteps) now.slowdown = pace.typical_s / trial.step_time_s;
  now.stop_cost_s = stop_cost_s(trial, pace.typical_s);
  const double move_cost_s = now.stop_cost_s + trial.start_time_s + trial.load_time_s;
  now.may_move = remainder.may_move && run::may_move(record, pace, now.remaining_s, move_cost_s, settings);
  return now;
}

profile::Remaining remaining_of(const Remainder& remainder, const batch::Job& job) {
  profile::Remaining left;
  left.finished = remainder.selected != nullptr && !remainder.selected->contains(job.name);
  const journal::JobRecord* const record =
      remainder.state == nullptr ? nullptr : remainder.state->find(job.name);
  if (record == nullptr) {
    left.expected_end = expected_end(remainder, nullptr, job.name, 0);
    return left;
  }
  left.finished |= journal::is_final(record->state) || record->state == journal::JobState::paused;
  left.from_step = resume_step(*record);
  left.expected_end = expected_end(remainder, record, job.name, left.from_step);
  left.release_s = std::max(0.0, record->not_before_s - remainder.time_s);
  for (const journal::Struck& struck : record->struck) left.struck_trials.push_back(struck.trial);
  if (!journal::is_running(record->state)) return left;
  const journal::Attempt& attempt = *record->last_attempt();
  left.from_step = attempt.from_step;
  left.release_s = 0.0;
  left.finished = false;
  if (const profile::Trial* const trial = trial_of(*remainder.profile, attempt)) {
    left.running = running_now(remainder, job, *record, *trial);
    if (left.running->may_move) left.from_step = step_now(remainder, *record);
    left.expected_end = expected_end(remainder, record, job.name, step_now(remainder, *record));
  }
  return left;
}

// What running jobs have reserved is no longer free, and theirs to keep.
void limit_disk(plan::PlanProblem& problem, std::int64_t free_bytes) {
  bool any = false;
  std::int64_t bytes = free_bytes;
  for (const plan::Job& job : problem.jobs) {
    for (const plan::Configuration& one : job.configurations) any |= one.disk_bytes > 0;
    if (job.running)
      bytes += job.configurations[static_cast<std::size_t>(job.running->configuration)].disk_bytes;
  }
  if (!any) return;
  for (plan::Node& node : problem.nodes) node.disk_bytes = bytes;
}

}  // namespace

Result<profile::Profile> ensure_profile(const ProfileRequest& request, worker::Launcher& launcher,
                                        const Clock& clock, profile::ProfileObserver& observer) {
  std::optional<profile::Profile> previous;
  if (exists(request.path)) {
    Result<profile::Profile> read = profile::read_profile(request.path);
    if (read.ok()) {
      previous = *std::move(read);
    } else {
      observer.on_note("making profile.json again: " + read.faults().front().what);
    }
  }
  if (previous && !request.measure_failed &&
      profile::what_is_stale(*previous, *request.batch, *request.machine).empty()) {
    const bool rests_on_lengths =
        previous->decision && previous->decision->why == profile::Decision::Why::settled;
    if (!rests_on_lengths) return *std::move(previous);
    SATURN_TRY(const auto num_steps, profile::num_steps_of(*request.batch));
    if (previous->decision->workload == profile::workload_of(*request.batch, num_steps))
      return *std::move(previous);
  }
  SATURN_TRY_VOID(make_directories(directory_of(request.path)));
  SATURN_TRY(profile::Profile profile,
             profile::measure({.batch = request.batch,
                               .machine = request.machine,
                               .trials_directory = request.trials_directory,
                               .previous = previous ? &*previous : nullptr,
                               .budget_s = request.budget_s,
                               .gap = request.gap.value_or(profile::usual_gap(*request.batch)),
                               .everything = request.everything,
                               .cache = request.cache,
                               .keep =
                                   [&](const profile::Profile& known) {
                                     return write_artefact(request.path, profile::to_json(known));
                                   },
                               .stop = request.stop},
                              launcher, clock, observer));
  return profile;
}

Result<std::vector<MadeFrom>> plan_sources(const batch::Batch& batch, const std::string& profile_path) {
  SATURN_TRY(const std::string digest, digest_of_file(profile_path));
  return std::vector<MadeFrom>{{.name = batch.path, .digest = batch.digest},
                               {.name = file_name_of(profile_path), .digest = digest}};
}

std::optional<Diagnostic> why_stale(const std::vector<MadeFrom>& made_from,
                                    const std::vector<MadeFrom>& sources, const std::string& plan_path) {
  for (const MadeFrom& source : sources) {
    const std::string name = file_name_of(source.name);
    const auto at = std::find_if(made_from.begin(), made_from.end(),
                                 [&](const MadeFrom& known) { return file_name_of(known.name) == name; });
    if (at != made_from.end() && at->digest == source.digest) continue;
    return Diagnostic{.kind = Kind::stale,
                      .where = plan_path + "#/made_from",
                      .what = at == made_from.end() ? "this plan was not made from " + name
                                                    : "this plan was made from another " + name +
                                                          " (digest " + short_digest(at->digest) +
                                                          ", it is " + short_digest(source.digest) + " now)",
                      .expected = "a plan made from the batch and the profile as they are",
                      .fix = "saturn plan " + sources.front().name};
  }
  return std::nullopt;
}

std::optional<std::int64_t> free_disk_of(const std::string& directory) {
  const Result<std::uint64_t> free = free_bytes(directory);
  if (!free.ok()) return std::nullopt;
  return static_cast<std::int64_t>(*free);
}

Result<plan::PlanProblem> remaining_problem(const Remainder& remainder) {
  std::map<std::string, profile::Remaining> remaining;
  for (const batch::Job& job : remainder.batch->jobs) remaining[job.name] = remaining_of(remainder, job);
  SATURN_TRY(plan::PlanProblem problem,
             profile::to_plan_problem(*remainder.batch, *remainder.profile, *remainder.num_steps, remaining,
                                      remainder.time_s, remainder.trials_of));
  for (plan::Node& node : problem.nodes) {
    plan::Outage outage{.from_s = 0.0, .to_s = std::numeric_limits<double>::infinity()};
    for (const plan::Device& device : remainder.excluded) {
      if (device.node == node.name) outage.devices.push_back(device.index);
    }
    if (!outage.devices.empty()) node.outages.push_back(std::move(outage));
  }
  if (remainder.free_disk_bytes) limit_disk(problem, *remainder.free_disk_bytes);
  return problem;
}

plan::SolveOptions solve_options(const batch::Batch& batch) {
  plan::SolveOptions options{
      .time_limit_s = batch.plan.time_limit_s, .seed = batch.seed, .gap = batch.plan.gap};
  if (batch.plan.iterations > 0) options.iterations = batch.plan.iterations;
  return options;
}

}  // namespace saturn::run

// One `saturn run`, stage by stage.

#include "saturn/run/session.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <utility>

#include "run/accept.h"
#include "run/answers.h"
#include "run/append.h"
#include "run/disk.h"
#include "run/early_stop.h"
#include "run/executor.h"
#include "run/preparation.h"
#include "saturn/base/nearest.h"
#include "saturn/base/signals.h"
#include "saturn/batch/check_devices.h"
#include "saturn/profile/job_time.h"
#include "saturn/run/progress.h"
#include "saturn/worker/catalogue.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobRecord;
using journal::JobState;

Result<std::set<std::string>> selected_jobs(const batch::Batch& batch, const std::vector<std::string>& only) {
  std::set<std::string> all;
  for (const batch::Job& job : batch.jobs) all.insert(job.name);
  if (only.empty()) return all;
  const std::vector<std::string> names(all.begin(), all.end());
  std::set<std::string> selected;
  Diagnostics faults;
  for (const std::string& name : only) {
    if (all.contains(name)) {
      selected.insert(name);
    } else {
      faults.push_back({.what = "--only: job " + in_quotes(name) + " is not in " + batch.path,
                        .expected = "some of " + listed(names),
                        .fix = did_you_mean(name, names)});
    }
  }
  if (!faults.empty()) return faults;
  return selected;
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
      : request_(request),
        directory_(directory),
        around_(around),
        box_(directory.paths()),
        preparation_(request, directory, box_, around, execution_) {}

  Result<SessionResult> run();

 private:
  Result<void> accept();
  Result<void> prepare(Executor& executor);
  Result<void> execute(Executor& executor);
  void remember();
  Result<void> acknowledge_stop();
  bool anything_left() const;
  bool may_be_proposed() const;
  Result<SessionResult> conclude(const Executor* executor);
  Diagnostics earlier_failures(const Executor* executor) const;
  Diagnostics failed_saves() const;

  const SessionRequest& request_;
  journal::RunDirectory& directory_;
  const Surroundings& around_;
  journal::ControlBox box_;
  Execution execution_;
  Preparation preparation_;
  std::map<std::string, int> failed_saves_before_;
};

bool Session::anything_left() const {
  return std::any_of(directory_.state().jobs.begin(), directory_.state().jobs.end(),
                     [&](const JobRecord& record) {
                       return record.state == JobState::pending && execution_.selected.contains(record.name);
                     });
}

// Whether the program that proposes jobs may have another.
bool Session::may_be_proposed() const {
  const batch::SearchSettings& search = execution_.batch.search;
  return search.method == "ask" && std::cmp_less(directory_.state().proposals.size(), search.samples);
}

// ---- The end

Diagnostics Session::earlier_failures(const Executor* executor) const {
  Diagnostics faults;
  for (const JobRecord& record : directory_.state().jobs) {
    const bool earlier = record.state == JobState::failed && execution_.selected.contains(record.name) &&
                         (executor == nullptr || !executor->has_failed(record.name));
    if (!earlier) continue;
    faults.push_back({.kind = Kind::job_failed,
                      .where = directory_.paths().log(record.name),
                      .what = "job " + in_quotes(record.name) + " failed in an earlier run: " + record.reason,
                      .expected = "a job that trains to its last step",
                      .fix = "saturn run " + request_.batch->path + " --retry-failed"});
  }
  return faults;
}

// Training went on, but a crash would have cost more than it should.
Diagnostics Session::failed_saves() const {
  Diagnostics faults;
  for (const JobRecord& record : directory_.state().jobs) {
    const auto before = failed_saves_before_.find(record.name);
    const int failed = record.num_failed_saves - (before == failed_saves_before_.end() ? 0 : before->second);
    if (failed <= 0) continue;
    faults.push_back({.kind = Kind::disk_full,
                      .where = directory_.paths().job(record.name),
                      .what = std::to_string(failed) + (failed == 1 ? " checkpoint" : " checkpoints") +
                              " of job " + in_quotes(record.name) + " could not be written",
                      .expected = "a disk that takes every checkpoint",
                      .fix = "free space there; `saturn log` shows what the disk said"});
  }
  return faults;
}

Result<SessionResult> Session::conclude(const Executor* executor) {
  SessionResult result;
  bool by_request = false;
  if (executor != nullptr) {
    result.faults = executor->failures();
    result.interrupted = executor->interrupted();
    by_request = executor->stopped_by_request();
  }
  for (const Diagnostics& more : {earlier_failures(executor), failed_saves()})
    result.faults.insert(result.faults.end(), more.begin(), more.end());
  const auto& jobs = directory_.state().jobs;
  const bool failed = std::any_of(jobs.begin(), jobs.end(), [&](const JobRecord& record) {
    return record.state == JobState::failed && execution_.selected.contains(record.name);
  });
  // Paused jobs, which nobody resumed.
  const bool waits = std::any_of(jobs.begin(), jobs.end(), [&](const JobRecord& record) {
    return !journal::is_final(record.state) && execution_.selected.contains(record.name);
  });
  if (result.interrupted) {
    const int signal_number = StopSignals::first() > 0 ? StopSignals::first() : SIGINT;
    result.exit_code = 128 + (by_request ? SIGTERM : signal_number);
  } else {
    result.exit_code = result.faults.empty() ? 0 : saturn::exit_code(result.faults);
  }
  Event ended{.kind = EventKind::run_ended};
  ended.details["outcome"] = by_request           ? "stopped"
                             : result.interrupted ? "interrupted"
                             : failed             ? "failed"
                             : waits              ? "stopped"
                                                  : "done";
  ended.details["exit_code"] = result.exit_code;
  SATURN_TRY_VOID(append(std::move(ended), directory_, *around_.observer));
  result.summary = journal::summarise(directory_.state());
  SATURN_TRY_VOID(write_artefact(directory_.paths().summary(), journal::to_json(result.summary)));
  return result;
}

// ---- The whole

Result<void> Session::accept() {
  SATURN_TRY_VOID(directory_.begin());
  SATURN_TRY_VOID(recover(directory_, *around_.observer));
  SATURN_TRY(execution_.batch, with_additions(*request_.batch, directory_.state(), directory_.paths()));
  // What was added brings its own, and jobs that the libraries were not asked about.
  if (!directory_.state().additions.empty())
    SATURN_TRY_VOID(worker::learn_techniques(execution_.batch, batch::device_groups(*request_.machine)));
  SATURN_TRY(execution_.selected, selected_jobs(execution_.batch, request_.only));
  SATURN_TRY(execution_.num_steps, profile::num_steps_of(execution_.batch));
  execution_.excluded = request_.excluded;
  execution_.machine = request_.machine;
  SATURN_TRY_VOID(accept_batch(execution_.batch, execution_.num_steps, directory_, *around_.observer));
  if (request_.retry_failed)
    SATURN_TRY_VOID(retry_failed(execution_.selected, directory_, *around_.observer));
  // What the last controller had seen of the search and not acted on.
  SATURN_TRY_VOID(follow_search(execution_.batch.search, directory_, *around_.observer));
  for (const JobRecord& record : directory_.state().jobs) {
    if (execution_.selected.contains(record.name))
      SATURN_TRY_VOID(obey_at_rest(record, directory_, *around_.observer));
  }
  for (const plan::Device& device : directory_.state().drained) {
    around_.observer->on_note("device " + text_of(device) + " is drained (saturn drain " +
                              directory_.paths().root() + " " + text_of(device) + " --undo)");
  }
  for (const JobRecord& record : directory_.state().jobs)
    failed_saves_before_[record.name] = record.num_failed_saves;
  return {};
}

Result<void> Session::prepare(Executor& executor) {
  SATURN_TRY_VOID(foresee_disk(execution_.batch, directory_.state(), directory_.paths().root()));
  around_.launcher->set_wake_fds(around_.wake_fds);
  SATURN_TRY_VOID(preparation_.find_profile());
  if (execution_.batch.search.method == "ask") SATURN_TRY_VOID(executor.fail_what_fits_nowhere());
  // The library is loaded while the planner works, at the latest.
  around_.launcher->set_num_standby(request_.machine->num_devices());
  return preparation_.find_plan();
}

// The run loop, and again after each time that jobs joined which had to be measured.
Result<void> Session::execute(Executor& executor) {
  for (;;) {
    if (!execution_.plan.assignments.empty()) around_.observer->on_plan(execution_.plan, directory_.state());
    SATURN_TRY_VOID(executor.run());
    if (!executor.wants_measuring()) return {};
    SATURN_TRY_VOID(preparation_.find_profile());
    around_.launcher->set_num_standby(request_.machine->num_devices());
    if (execution_.batch.search.method == "ask") SATURN_TRY_VOID(executor.fail_what_fits_nowhere());
    SATURN_TRY_VOID(preparation_.make_plan("jobs joined the run"));
    executor.measured();
  }
}

// A stop that came before the run loop has been obeyed by ending.
Result<void> Session::acknowledge_stop() {
  for (const journal::Request& request : box_.look()) {
    if (request.verb != journal::Request::Verb::stop) continue;
    SATURN_TRY_VOID(record_answer(request, {.accepted = true, .text = "ended before any job ran"}, directory_,
                                  *around_.observer));
    box_.remove(request);
  }
  return {};
}

Result<SessionResult> Session::run() {
  // Outside faults of a batch that was accepted in this directory are found before anything is journaled.
  SATURN_TRY_VOID(selected_jobs(*request_.batch, request_.only));
  SATURN_TRY_VOID(accept());
  if (!anything_left() && !may_be_proposed()) {
    around_.observer->on_note("nothing is left to run");
    return conclude(nullptr);
  }
  Executor executor(execution_, directory_, box_, around_);
  // Before the first proposal there is nothing to measure or to plan.
  const Result<void> prepared = anything_left() ? prepare(executor) : preparation_.begin_without_jobs();
  if (!prepared.ok()) {
    SATURN_TRY_VOID(acknowledge_stop());
    return prepared.faults();
  }
  directory_.start_clock();
  const Result<void> executed = execute(executor);
  if (!executed.ok()) {
    SATURN_TRY_VOID(acknowledge_stop());
    return executed.faults();
  }
  remember();
  return conclude(&executor);
}

// For the next batches on this hardware.
void Session::remember() {
  if (around_.trial_cache == nullptr) return;
  std::error_code ignored;
  const std::string run = std::filesystem::absolute(directory_.paths().root(), ignored).lexically_normal();
  for (const profile::Correction& correction : corrections_of(directory_.state())) {
    const profile::Trial* const trial = execution_.profile->find_id(correction.trial);
    if (trial == nullptr || !trial->is_measured()) continue;
    const Result<void> kept =
        around_.trial_cache->add_found(execution_.profile->conditions, run, *trial, correction);
    if (kept.ok()) continue;
    around_.observer->on_note("what was found is not kept for other batches: " + kept.faults().front().what);
    return;
  }
}

}  // namespace

Result<SessionResult> run_session(const SessionRequest& request, journal::RunDirectory& directory,
                                  const Surroundings& surroundings) {
  return Session(request, directory, surroundings).run();
}

}  // namespace saturn::run

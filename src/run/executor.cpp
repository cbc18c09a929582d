// The loop itself: moves, signals, re-planning.

#include "run/executor.h"

#include <algorithm>

#include "run/append.h"
#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobRecord;
using journal::JobState;

constexpr double kLongestWaitBlindS = 0.25;  // where nobody tells of requests

}  // namespace

std::vector<plan::Device> excluded_from(const Execution& execution, const journal::RunState& state) {
  std::vector<plan::Device> devices = execution.excluded;
  devices.insert(devices.end(), state.drained.begin(), state.drained.end());
  return devices;
}

Remainder remainder_of(const Execution& execution, const profile::Profile& estimates,
                       const journal::RunDirectory& directory) {
  return {.batch = &execution.batch,
          .profile = &estimates,
          .num_steps = &execution.num_steps,
          .state = &directory.state(),
          .selected = &execution.selected,
          .excluded = excluded_from(execution, directory.state()),
          .time_s = directory.time_s(),
          .free_disk_bytes = free_disk_of(directory.paths().root()),
          .trials_of = execution.trials_of};
}

Result<void> Executor::append(Event event) {
  return run::append(std::move(event), directory_, *around_.observer);
}

const JobRecord& Executor::record_of(const Live& live) const {
  const JobRecord* const record = directory_.state().find(live.job);
  SATURN_CHECK(record != nullptr, "a living attempt is of a job of the batch");
  return *record;
}

const batch::Job& Executor::job_of(const std::string& name) const {
  const std::vector<batch::Job>& jobs = execution_.batch.jobs;
  const auto at =
      std::find_if(jobs.begin(), jobs.end(), [&](const batch::Job& job) { return job.name == name; });
  SATURN_CHECK(at != jobs.end(), "the state's jobs are those of the batch");
  return *at;
}

Remainder Executor::remainder() {
  const std::map<std::string, journal::StepPace> paces = this->paces();
  estimates_ = estimates_of(*execution_.profile, directory_.state(), paces);
  Remainder remainder = remainder_of(execution_, estimates_, directory_);
  remainder.paces = paces;
  for (const auto& live : live_) remainder.steps_now[live->job] = live->step;
  return remainder;
}

// ---- The loop

Result<void> Executor::run() {
  SATURN_TRY_VOID(make_directories(directory_.paths().control()));  // only what is there can be watched
  const Result<void> ran = loop();
  end_everything();
  return ran;
}

Result<void> Executor::loop() {
  for (;;) {
    SATURN_TRY_VOID(heed_requests());
    SATURN_TRY_VOID(heed_signals());
    kill_the_late();
    if (!stopping_ && !measure_) {
      SATURN_TRY_VOID(consult());
      SATURN_TRY_VOID(search());
    }
    const std::vector<plan::Device> excluded = excluded_from(execution_, directory_.state());
    const Moves moves = next_moves({.state = directory_.state(),
                                    .plan = execution_.plan,
                                    .selected = execution_.selected,
                                    .excluded = excluded,
                                    .time_s = directory_.time_s()});
    if (live_.empty() && ((moves.finished && !is_asking()) || stopping_ || measure_)) return {};
    if (!stopping_ && !measure_) {
      SATURN_TRY_VOID(make_moves(moves));
      look_at_estimates();
      SATURN_TRY_VOID(re_plan());
      SATURN_TRY_VOID(resolve_stall(moves));
    }
    for (const worker::WorkerEvent& event : wait(moves)) SATURN_TRY_VOID(handle(event));
    look_for_hangs();
    keep_logs_short();
    SATURN_TRY_VOID(conclude_the_dead());
    SATURN_TRY_VOID(take_plan());
    around_.observer->on_tick(directory_.state(), directory_.time_s());
  }
}

// Until a rank says something, a signal, a request or a plan comes, or the next thing is due.
std::vector<worker::WorkerEvent> Executor::wait(const Moves& moves) {
  double longest_s = around_.longest_wait_s;
  if (box_.fd() < 0) longest_s = std::min(longest_s, kLongestWaitBlindS);
  for (const auto& live : live_) {
    if (!live->killed) longest_s = std::min(longest_s, live->kill_at_s - around_.clock->now_s());
  }
  if (moves.wake_at_s) longest_s = std::min(longest_s, *moves.wake_at_s - directory_.time_s());
  if (asker_ && asker_->waits())
    longest_s = std::min(longest_s, asker_->deadline_s() - around_.clock->now_s());
  std::vector<int> wake_fds = around_.wake_fds;
  for (const int fd : {box_.fd(), around_.planner->fd(), asker_ ? asker_->fd() : -1}) {
    if (fd >= 0) wake_fds.push_back(fd);
  }
  around_.launcher->set_wake_fds(std::move(wake_fds));
  std::vector<worker::WorkerEvent> events = around_.launcher->poll(std::max(longest_s, 0.0));
  around_.launcher->set_wake_fds(around_.wake_fds);
  return events;
}

Result<void> Executor::make_moves(const Moves& moves) {
  for (const plan::Assignment* const assignment : moves.start) SATURN_TRY_VOID(start(*assignment));
  around_.launcher->set_num_standby(moves.num_standby);
  return {};
}

void Executor::end_everything() {
  around_.planner->cancel();
  around_.launcher->set_num_standby(0);
  for (const auto& live : live_) around_.launcher->stop(live->attempt, 0.0);
  // Their ends are not journaled: this is only reached with living ranks where the journal cannot be written.
  while (around_.launcher->num_living() > 0) around_.launcher->poll(around_.longest_wait_s);
  live_.clear();
}

// ---- Jobs without a place

// A job that waits while nothing runs, nothing can start and no back-off ends has no place in the plan.
Result<void> Executor::resolve_stall(const Moves& moves) {
  const bool waits =
      is_asking() || !live_.empty() || !moves.start.empty() || moves.wake_at_s || planning_ || moves.finished;
  if (waits) return {};
  if (!stall_planned_) {
    stall_planned_ = true;
    re_plan_reason_ = "jobs are left without a place in the plan";
    return re_plan();
  }
  std::vector<std::string> stuck;
  for (const JobRecord& record : directory_.state().jobs) {
    if (record.state == JobState::pending && execution_.selected.contains(record.name))
      stuck.push_back(record.name);
  }
  if (!directory_.state().drained.empty()) {
    // Somebody took devices away and may give them back.
    if (!told_of_waiting_)
      around_.observer->on_note("waiting for a drained device: " + listed(stuck) + " cannot run without it");
    told_of_waiting_ = true;
    return {};
  }
  for (const std::string& job : stuck) SATURN_TRY_VOID(fail_job(job, "no plan has a place for it"));
  return {};
}

Result<void> Executor::fail_what_fits_nowhere() {
  for (const JobRecord& record : directory_.state().jobs) {
    if (record.state != JobState::pending || !execution_.selected.contains(record.name)) continue;
    const std::set<std::string> alone = {record.name};
    Remainder own = remainder();
    own.selected = &alone;
    const Result<plan::PlanProblem> left = remaining_problem(own);
    if (!left.ok()) SATURN_TRY_VOID(fail_job(record.name, left.faults().front().expected));
  }
  return {};
}

Result<void> Executor::fail_job(const std::string& job, const std::string& reason) {
  Event failed{.kind = EventKind::job_changed, .job = job};
  failed.details = {{"happened", "fail"}, {"reason", reason}};
  SATURN_TRY_VOID(append(std::move(failed)));
  failed_.insert(job);
  failures_.push_back({.kind = Kind::job_failed,
                       .where = job_of(job).position_of("name").text(),
                       .what = "job " + in_quotes(job) + " failed: " + reason,
                       .expected = "a configuration that runs on this machine",
                       .fix = "lower its batch_size, or allow more techniques and devices"});
  return {};
}

}  // namespace saturn::run

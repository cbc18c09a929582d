// What is asked from outside while the run goes on: signals, and requests in the control directory.

#include <algorithm>

#include "run/answers.h"
#include "run/disk.h"
#include "run/executor.h"
#include "saturn/base/nearest.h"
#include "saturn/batch/check_devices.h"
#include "saturn/profile/job_time.h"
#include "saturn/worker/catalogue.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobEvent;
using journal::JobRecord;
using journal::JobState;
using Verb = journal::Request::Verb;

constexpr double kLookEveryS = 2.0;    // a file system does not tell of what another machine put there
constexpr double kLookBlindlyS = 0.2;  // where nobody tells of requests
constexpr double kTermGraceS = 0.5;    // from TERM to KILL once the grace for saving is over

}  // namespace

// ---- Signals

// The first asks every job for a checkpoint and its end; the second ends them at once.
Result<void> Executor::heed_signals() {
  const int num_signals = around_.stop_count ? around_.stop_count() : 0;
  const int count = num_signals + num_stop_requests_;
  if (count >= 1 && !stopping_) {
    stopping_ = true;
    stopped_by_request_ = num_signals == 0;
    around_.planner->cancel();
    planning_.reset();
    around_.launcher->set_num_standby(0);
    around_.observer->on_note(live_.empty() ? "stopping" : "stopping: saving what runs (again: at once)");
    SATURN_TRY_VOID(stop_everything(stopped_by_request_ ? "stopped" : "interrupted"));
  }
  if (count >= 2 && !stopped_at_once_) {
    stopped_at_once_ = true;
    for (const auto& live : live_) {
      live->killed = true;
      around_.launcher->stop(live->attempt, 0.0);
    }
  }
  return {};
}

Result<void> Executor::stop_everything(const std::string& reason) {
  for (const auto& live : live_) SATURN_TRY_VOID(stop_job(*live, JobState::pending, reason));
  return {};
}

// Asks for the end; `conclude` moves the job on once its ranks are gone.
Result<void> Executor::stop_job(Live& live, JobState next, const std::string& reason, StopFor what) {
  const journal::Attempt& attempt = *record_of(live).last_attempt();
  // What was asked for the job stands when the whole run is asked to stop.
  if (next == JobState::pending && attempt.requested) {
    next = attempt.next;
    if (attempt.by_search) what = StopFor::search;
  }
  if (!live.killed) {
    // What asha stops may be promoted after all, from its checkpoint.
    const bool for_good = next == JobState::cancelled ||
                          (next == JobState::stopped_early && execution_.batch.search.method != "asha");
    const worker::ToRank ask =
        for_good ? worker::ToRank(worker::End{}) : worker::ToRank(worker::StopAtStep{});
    around_.launcher->send_all(live.attempt, ask);
    live.kill_at_s = std::min(
        live.kill_at_s, around_.clock->now_s() + stop_grace_s(live.trial, live.longest_step_s, live.save_s));
  }
  Event stopping{.kind = EventKind::stopping, .job = live.job, .attempt = live.number};
  stopping.details = {{"reason", reason}};
  if (what == StopFor::move) stopping.details["move"] = true;
  if (what == StopFor::search) stopping.details["search"] = true;
  stopping.details["next"] = journal::to_string(next);
  return append(std::move(stopping));
}

void Executor::kill_the_late() {
  const double now_s = around_.clock->now_s();
  for (const auto& live : live_) {
    if (live->killed || now_s < live->kill_at_s) continue;
    live->killed = true;
    around_.launcher->stop(live->attempt, kTermGraceS);
  }
}

// ---- Requests

Result<void> Executor::heed_requests() {
  const double now_s = around_.clock->now_s();
  const double every_s = box_.fd() >= 0 ? kLookEveryS : kLookBlindlyS;
  if (!box_.has_news() && now_s - requests_seen_s_ < every_s) return {};
  requests_seen_s_ = now_s;
  for (const journal::Request& request : box_.look()) {
    SATURN_TRY(const Answer answer, this->answer(request));
    around_.observer->on_note(std::string(to_string(request.verb)) +
                              (request.target.empty() ? "" : " " + request.target) + ": " + answer.text);
    SATURN_TRY_VOID(record_answer(request, answer, directory_, *around_.observer));
    box_.remove(request);
  }
  for (const std::string& warning : box_.take_warnings()) around_.observer->on_note("warning: " + warning);
  return {};
}

Executor::Live* Executor::living(const std::string& job) {
  const auto at =
      std::find_if(live_.begin(), live_.end(), [&](const auto& live) { return live->job == job; });
  return at == live_.end() ? nullptr : at->get();
}

Result<Answer> Executor::answer(const journal::Request& request) {
  switch (request.verb) {
    case Verb::stop:
      ++num_stop_requests_;
      return Answer{.accepted = true,
                    .text = num_stop_requests_ == 1 ? "saving what runs, then ending (again: at once)"
                                                    : "ending at once"};
    case Verb::add:
      return add(request.target);
    case Verb::drain:
    case Verb::undrain: {
      const std::optional<plan::Device> device = device_named(request.target, *execution_.machine);
      if (!device)
        return refused("there is no device " + in_quotes(request.target) + "; `saturn devices` shows them");
      return drain(*device, request);
    }
    case Verb::pause:
    case Verb::resume:
    case Verb::cancel:
      break;
  }
  const JobRecord* const record = directory_.state().find(request.target);
  if (record == nullptr) return no_such_job(directory_.state(), request.target);
  if (Live* const live = living(request.target)) {
    if (request.verb == Verb::pause) return pause(*live);
    if (request.verb == Verb::resume) return resume(*live);
    return cancel(*live);
  }
  const JobEvent happened = request.verb == Verb::pause    ? JobEvent::pause
                            : request.verb == Verb::resume ? JobEvent::resume
                                                           : JobEvent::cancel;
  SATURN_TRY(const Answer answer, change_job(*record, happened, directory_, *around_.observer));
  if (answer.accepted) re_plan_reason_ = "job " + in_quotes(request.target) + ": " + to_string(request.verb);
  return answer;
}

Result<Answer> Executor::pause(Live& live) {
  SATURN_TRY_VOID(stop_job(live, JobState::paused, "asked for"));
  re_plan_reason_ = "job " + in_quotes(live.job) + " is paused";
  return Answer{.accepted = true,
                .text = "job " + in_quotes(live.job) + " saves a checkpoint, then it is paused"};
}

// One that is on its way to being paused goes on once it is there.
Result<Answer> Executor::resume(const Live& live) {
  const journal::Attempt& attempt = *record_of(live).last_attempt();
  if (attempt.by_search) return refused(held_by_search(live.job));
  if (!attempt.requested || attempt.next != JobState::paused)
    return refused("job " + in_quotes(live.job) + " is " + journal::to_string(record_of(live).state) +
                   ", not paused");
  Event stopping{.kind = EventKind::stopping, .job = live.job, .attempt = live.number};
  stopping.details = {{"reason", "asked for"}, {"next", journal::to_string(JobState::pending)}};
  SATURN_TRY_VOID(append(std::move(stopping)));
  re_plan_reason_ = "job " + in_quotes(live.job) + " goes on";
  return Answer{.accepted = true, .text = "job " + in_quotes(live.job) + " goes on from its checkpoint"};
}

Result<Answer> Executor::cancel(Live& live) {
  SATURN_TRY_VOID(stop_job(live, JobState::cancelled, "asked for"));
  re_plan_reason_ = "job " + in_quotes(live.job) + " is cancelled";
  return Answer{.accepted = true, .text = "job " + in_quotes(live.job) + " is being ended"};
}

Result<Answer> Executor::drain(const plan::Device& device, const journal::Request& request) {
  if (request.verb == Verb::undrain) {
    SATURN_TRY_VOID(change_device(device, false, "asked for", directory_, *around_.observer));
    re_plan_reason_ = "device " + text_of(device) + " may be used again";
    told_of_waiting_ = false;
    stall_planned_ = false;
    return Answer{.accepted = true, .text = text_of(device) + " may be used again"};
  }
  SATURN_TRY_VOID(drain_device(device, "asked for"));
  return Answer{.accepted = true, .text = text_of(device) + " takes no new attempts; what runs there moves"};
}

// Attempts on it save, end, and are planned elsewhere.
Result<void> Executor::drain_device(const plan::Device& device, const std::string& reason) {
  SATURN_TRY_VOID(change_device(device, true, reason, directory_, *around_.observer));
  for (const auto& live : live_) {
    if (std::find(live->devices.begin(), live->devices.end(), device) == live->devices.end()) continue;
    SATURN_TRY_VOID(stop_job(*live, JobState::pending, "device " + text_of(device) + " is drained"));
  }
  re_plan_reason_ = "device " + text_of(device) + " is drained";
  stall_planned_ = false;
  return {};
}

// New jobs that the profile knows are planned at once. Others have to be measured, on devices that are free:
// what runs is saved and ended, and goes on after it.
Result<Answer> Executor::add(const std::string& path) {
  const Result<batch::Batch> addition = batch::read_batch(path);
  if (!addition.ok()) return refused(brief(addition.faults()));
  Result<batch::Batch> joined = join(execution_.batch, *addition, SameName::is_a_fault);
  if (!joined.ok()) return refused(brief(joined.faults()));
  const std::vector<batch::DeviceGroup> groups = batch::device_groups(*execution_.machine);
  if (!addition->libraries.empty()) {
    // Of the whole run: what is learnt replaces what was known. Nothing else is done meanwhile.
    const Result<void> learnt = worker::learn_techniques(*joined, groups, {.deadline_s = 10.0});
    if (!learnt.ok()) return refused(brief(learnt.faults()));
  }
  const Result<void> fits = batch::check_devices(*addition, groups);
  if (!fits.ok()) return refused(brief(fits.faults()));
  Result<std::map<std::string, std::int64_t>> num_steps = profile::num_steps_of(*joined);
  if (!num_steps.ok()) return refused(brief(num_steps.faults()));
  const Result<void> room = foresee_disk(*joined, directory_.state(), directory_.paths().root());
  if (!room.ok()) return refused(brief(room.faults()));

  SATURN_TRY(const int num_new, accept_addition(*addition, *joined, directory_, *around_.observer));
  Answer answer = joined_answer(num_new);
  if (num_new == 0) return answer;
  for (const batch::Job& job : addition->jobs) execution_.selected.insert(job.name);
  execution_.batch = *std::move(joined);
  execution_.num_steps = *std::move(num_steps);
  if (profile::what_is_stale(*execution_.profile, execution_.batch, *execution_.machine).empty()) {
    re_plan_reason_ = answer.text;
    return answer;
  }
  measure_ = true;
  around_.planner->cancel();
  planning_.reset();
  SATURN_TRY_VOID(stop_everything("jobs that joined the run are measured"));
  answer.text += "; they are measured first, and what runs goes on after that";
  return answer;
}

}  // namespace saturn::run

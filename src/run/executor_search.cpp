// Early stopping in the run loop: what a validation means to the search, and what its decisions do to jobs.
//
// A decision is journaled before it is acted on, and what acts on it looks at the state alone: whoever takes
// over between the two goes on with it.

#include <cmath>

#include "run/early_stop.h"
#include "run/executor.h"
#include "saturn/base/nearest.h"
#include "saturn/search/rungs.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobRecord;
using journal::JobState;
using journal::RungDecision;

}  // namespace

Result<void> Executor::reach_rung(const Live& live, const worker::Metric& metric) {
  const batch::SearchSettings& settings = execution_.batch.search;
  const JobRecord& record = record_of(live);
  const std::optional<std::int64_t> rung = search::rung_reached(settings, record, metric.step);
  if (!rung || metric.step >= record.num_steps) return {};
  std::optional<double> value;
  if (const auto found = metric.values.find(settings.metric);
      found != metric.values.end() && std::isfinite(found->second))
    value = found->second;
  if (settings.method == "ask") {
    if (!reported_.emplace(live.job, *rung).second) return {};
    reports_.push_back({.kind = Question::Kind::report,
                        .number = directory_.state().number_of_proposal(live.job),
                        .job = live.job,
                        .rung = *rung,
                        .step = metric.step,
                        .value = value});
    return {};
  }
  Event searched = event_of(search::judge(settings, directory_.state(), live.job, *rung, value));
  searched.details["step"] = metric.step;
  if (value) searched.details["value"] = *value;
  return append(std::move(searched));
}

// Whatever has happened since the last look may let others go on, or end their hope.
Result<void> Executor::search() {
  const journal::RunState& state = directory_.state();
  if (!searches() || state.next_seq == searched_seq_) return {};
  SATURN_TRY_VOID(follow_search(execution_.batch.search, directory_, *around_.observer));
  for (const JobRecord& record : state.jobs) {
    if (record.rungs.empty() || !execution_.selected.contains(record.name)) continue;
    if (Live* const live = living(record.name)) {
      SATURN_TRY_VOID(obey_search(*live));
      continue;
    }
    SATURN_TRY(const bool changed, obey_at_rest(record, directory_, *around_.observer));
    if (!changed || record.state == JobState::stopped_early) continue;  // its devices were free before
    re_plan_reason_ = "job " + in_quotes(record.name) + " is " + journal::to_string(record.state);
  }
  searched_seq_ = state.next_seq;
  return {};
}

// What a person has asked of the job comes first; once that is over, it is looked at again.
Result<void> Executor::obey_search(Live& live) {
  const JobRecord& record = record_of(live);
  const journal::Attempt& attempt = *record.last_attempt();
  const journal::RungRecord last = record.rungs.back();
  const bool stops = last.decision == RungDecision::pause || last.decision == RungDecision::stop;
  if (stops) {
    const JobState next = last.decision == RungDecision::pause ? JobState::paused : JobState::stopped_early;
    if (attempt.requested && (!attempt.by_search || attempt.next == next)) return {};
    re_plan_reason_ = "job " + in_quotes(live.job) + " makes room";
    return stop_job(live, next, last.reason, StopFor::search);
  }
  if (!attempt.by_search) return {};
  // Promoted while its end is on the way: from its checkpoint it goes on.
  Event stopping{.kind = EventKind::stopping, .job = live.job, .attempt = live.number};
  stopping.details = {{"reason", last.reason}, {"next", journal::to_string(JobState::pending)}};
  SATURN_TRY_VOID(append(std::move(stopping)));
  re_plan_reason_ = "job " + in_quotes(live.job) + " goes on";
  return {};
}

}  // namespace saturn::run

// Decisions into the journal, and from there to jobs that wait.

#include "run/early_stop.h"

#include "run/append.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobEvent;
using journal::JobRecord;
using journal::JobState;
using journal::RungDecision;

// What is to happen to the job; nothing where it is as it should be.
std::optional<JobEvent> to_happen(const JobRecord& record) {
  const bool waits = record.state == JobState::pending;
  switch (record.rungs.back().decision) {
    case RungDecision::go_on:
      return std::nullopt;
    case RungDecision::pause:
      return waits ? std::optional(JobEvent::pause) : std::nullopt;
    case RungDecision::stop: {
      const bool held = record.state == JobState::paused && record.held_by_search;
      return waits || held ? std::optional(JobEvent::stop_early) : std::nullopt;
    }
    case RungDecision::promote:
      return record.held_by_search ? std::optional(JobEvent::resume) : std::nullopt;
  }
  return std::nullopt;
}

}  // namespace

Event event_of(const search::Decision& decision) {
  Event searched{.kind = EventKind::searched, .job = decision.job};
  searched.details = {{"rung", decision.rung},
                      {"decision", journal::to_string(decision.decision)},
                      {"reason", decision.reason}};
  return searched;
}

Result<void> follow_search(const batch::SearchSettings& settings, journal::RunDirectory& directory,
                           journal::RunObserver& observer) {
  for (;;) {
    const std::vector<search::Decision> decisions = search::follow_ups(settings, directory.state());
    if (decisions.empty()) return {};
    for (const search::Decision& decision : decisions)
      SATURN_TRY_VOID(append(event_of(decision), directory, observer));
  }
}

Result<bool> obey_at_rest(const JobRecord& record, journal::RunDirectory& directory,
                          journal::RunObserver& observer) {
  if (record.rungs.empty() || journal::is_running(record.state)) return false;
  const std::optional<JobEvent> happened = to_happen(record);
  if (!happened) return false;
  Event changed{.kind = EventKind::job_changed, .job = record.name};
  changed.details = {
      {"happened", journal::to_string(*happened)}, {"reason", record.rungs.back().reason}, {"search", true}};
  SATURN_TRY_VOID(append(std::move(changed), directory, observer));
  return true;
}

}  // namespace saturn::run

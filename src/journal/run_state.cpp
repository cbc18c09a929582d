// The fold: each event moves the state on, or cannot follow it.

#include "saturn/journal/run_state.h"

#include <algorithm>
#include <array>

namespace saturn::journal {
namespace {

constexpr std::array kDecisionNames = {"continue", "pause", "promote", "stop"};

Diagnostic cannot_follow(const std::string& where, const Event& event, const std::string& why) {
  return {
      .where = where,
      .what = "event " + std::to_string(event.seq) + " (" + to_string(event.kind) + ") cannot follow: " + why,
      .expected = "events as one controller after the other appended them",
      .fix = "restore the file, or start in a new run directory with --dir"};
}

// What every handler works on; `read` collects the faults of missing details.
struct Fold {
  RunState& state;
  const Event& event;
  const std::string& where;
  JsonReader& read;

  Result<JobRecord*> job() const {
    JobRecord* record = state.find(event.job);
    if (record == nullptr)
      return cannot_follow(where, event, "job " + in_quotes(event.job) + " is not in the batch");
    return record;
  }

  Result<void> move(JobRecord& record, JobEvent happened) const {
    const std::optional<JobState> next = next_state(record.state, happened);
    if (!next) {
      return cannot_follow(where, event,
                           "job " + in_quotes(record.name) + " is " + to_string(record.state) + ", where \"" +
                               to_string(happened) + "\" cannot happen");
    }
    record.state = *next;
    return {};
  }

  // The attempt that the event is about, which must be the one that runs.
  Result<Attempt*> running_attempt(JobRecord& record) const {
    if (record.attempts.empty() || record.attempts.back().number != event.attempt ||
        record.attempts.back().end_s)
      return cannot_follow(where, event, "attempt " + std::to_string(event.attempt) + " does not run");
    return &record.attempts.back();
  }
};

void forget_results(JobRecord& record) {
  record.first_attempt += static_cast<int>(record.attempts.size());
  record.attempts.clear();
  record.checkpoint.reset();
  record.rungs.clear();
  record.held_by_search = false;
  record.struck.clear();
  record.skipped_steps.clear();
  record.num_failed_saves = 0;
  record.not_before_s = 0.0;
  record.step = 0;
  record.step_time_s = 0.0;
  record.train_loss.reset();
  record.metrics.clear();
  record.memory_peak_bytes = 0;
  record.host_memory_peak_bytes = 0;
}

Result<void> run_started(Fold& fold) {
  if (fold.read.string("format") != kEventsFormat)
    return cannot_follow(fold.where, fold.event, "it is of another format than the journal");
  fold.state.controller_pid = static_cast<int>(fold.read.integer("pid"));
  fold.state.controller_host = fold.read.string("host");
  fold.state.num_plans_before = fold.state.plans.size();
  fold.state.ended = false;
  fold.state.outcome.clear();
  fold.state.exit_code = 0;
  return {};
}

Result<void> batch_accepted(Fold& fold) {
  fold.state.batch_file = fold.read.string("file");
  fold.state.batch_path = fold.read.string("path");
  fold.state.batch_digest = fold.read.string("digest");
  fold.state.batch_name = fold.read.string("name");
  std::vector<JobRecord> jobs;
  const Json& listed_jobs = fold.read.array("jobs");
  for (std::size_t i = 0; i < listed_jobs.size(); ++i) {
    JsonReader entry = fold.read.child("jobs", i);
    const std::string name = entry.string("name");
    const JobRecord* before = fold.state.find(name);
    JobRecord record = before ? *before : JobRecord{.name = name};
    record.result_digest = entry.string("result_digest");
    record.num_steps = entry.integer("num_steps");
    if (const std::string reset = entry.string_or("reset", ""); !reset.empty()) {
      SATURN_TRY_VOID(fold.move(record, JobEvent::reset));
      forget_results(record);
      record.reason = reset;
    }
    jobs.push_back(std::move(record));
  }
  fold.state.jobs = std::move(jobs);
  return {};
}

Result<void> planned(Fold& fold) {
  fold.state.plans.push_back({.file = fold.read.string("file"),
                              .digest = fold.read.string("digest"),
                              .origin_s = fold.read.number("origin_s"),
                              .makespan_s = fold.read.number("makespan_s"),
                              .lower_bound_s = fold.read.number("lower_bound_s"),
                              .reason = fold.read.string("reason"),
                              .time_s = fold.event.time_s});
  return {};
}

// "0" within `node`, or "node:0".
plan::Device device_from(const Json& value, const std::string& node) {
  if (value.is_number_integer()) return {.node = node, .index = value.get<int>()};
  const std::string text = value.is_string() ? value.get<std::string>() : "";
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) return {.node = node, .index = -1};
  return {.node = text.substr(0, colon), .index = std::atoi(text.c_str() + colon + 1)};
}

Result<void> attempt_started(Fold& fold) {
  SATURN_TRY(JobRecord* const record, fold.job());
  if (fold.event.attempt != record->first_attempt + static_cast<int>(record->attempts.size()))
    return cannot_follow(fold.where, fold.event, "attempts are numbered one after the other");
  SATURN_TRY_VOID(fold.move(*record, JobEvent::start));
  Attempt attempt{.number = fold.event.attempt,
                  .technique = fold.read.string("technique"),
                  .num_devices = static_cast<int>(fold.read.integer("num_devices")),
                  .num_ranks = static_cast<int>(fold.read.integer("num_ranks")),
                  .device_class = fold.read.string("device_class"),
                  .knobs = fold.read.object("knobs"),
                  .trial = fold.read.string("trial"),
                  .from_step = fold.read.integer("from_step"),
                  .to_step = fold.read.integer("to_step"),
                  .resume_from = fold.read.string("resume_from"),
                  .predicted_s = fold.read.number("predicted_s"),
                  .predicted_step_s = fold.read.number_or("predicted_step_s", 0.0),
                  .predicted_start_s = fold.read.number_or("predicted_start_s", 0.0),
                  .start_s = fold.event.time_s};
  const std::string node = fold.read.string("node");
  for (const Json& device : fold.read.array("devices")) attempt.devices.push_back(device_from(device, node));
  const Json& ranks = fold.read.array("ranks");
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    JsonReader rank = fold.read.child("ranks", i);
    attempt.ranks.push_back({.pid = static_cast<int>(rank.integer("pid")),
                             .start_ticks = static_cast<std::uint64_t>(rank.integer("start_ticks"))});
  }
  attempt.last_step = attempt.from_step;
  record->step = attempt.from_step;
  record->reason.clear();
  record->attempts.push_back(std::move(attempt));
  return {};
}

// What events of an attempt say of its steps, where they say it.
void take_pace(Fold& fold, Attempt& attempt) {
  if (!fold.read.has("pace")) return;
  JsonReader pace = fold.read.child("pace");
  attempt.pace = {.typical_s = pace.number("typical_s"),
                  .spread_s = pace.number("spread_s"),
                  .drift = pace.number("drift"),
                  .num_timed = pace.integer("num_timed")};
}

Result<void> introspected(Fold& fold) {
  IntrospectionRecord record{.time_s = fold.event.time_s,
                             .trigger = fold.read.string("trigger"),
                             .decision = fold.read.string("decision"),
                             .reason = fold.read.string("reason"),
                             .kept_s = fold.read.number_or("kept_s", 0.0),
                             .planned_s = fold.read.number("planned_s"),
                             .cost_s = fold.read.number("cost_s")};
  const Json& moves = fold.read.array("moves");
  for (std::size_t i = 0; i < moves.size(); ++i)
    record.moved.push_back(fold.read.child("moves", i).string("job"));
  fold.state.introspections.push_back(std::move(record));
  return {};
}

Result<void> stepped(Fold& fold) {
  SATURN_TRY(JobRecord* const record, fold.job());
  SATURN_TRY(Attempt* const attempt, fold.running_attempt(*record));
  SATURN_TRY_VOID(fold.move(*record, JobEvent::step));
  record->step = attempt->last_step = fold.read.integer("step");
  if (!attempt->first_step_s) attempt->first_step_s = fold.event.time_s;
  if (fold.read.has("loss")) record->train_loss = fold.read.number("loss");
  record->step_time_s = fold.read.number_or("step_time_s", record->step_time_s);
  take_pace(fold, *attempt);
  return {};
}

Result<void> saving(Fold& fold) {
  SATURN_TRY(JobRecord* const record, fold.job());
  SATURN_TRY(Attempt* const attempt, fold.running_attempt(*record));
  SATURN_TRY_VOID(fold.move(*record, JobEvent::save));
  record->step = attempt->last_step = fold.read.integer("step");
  return {};
}

Result<void> checkpoint(Fold& fold) {
  SATURN_TRY(JobRecord* const record, fold.job());
  SATURN_TRY(Attempt* const attempt, fold.running_attempt(*record));
  attempt->save_s = std::max(attempt->save_s, fold.read.number("save_s"));
  record->checkpoint = Checkpoint{.path = fold.read.string("path"),
                                  .step = fold.read.integer("step"),
                                  .save_s = fold.read.number("save_s")};
  return {};
}

void take_metrics(JobRecord& record, const Json& values) {
  for (const auto& [name, value] : values.items()) {
    if (!value.is_number()) continue;
    if (name == "train_loss") {
      record.train_loss = value.get<double>();
    } else {
      record.metrics[name] = value.get<double>();
    }
  }
}

Result<void> metric(Fold& fold) {
  SATURN_TRY(JobRecord* const record, fold.job());
  SATURN_TRY_VOID(fold.running_attempt(*record));
  take_metrics(*record, fold.read.object("values"));
  return {};
}

Result<void> proposed(Fold& fold) {
  const std::int64_t number = fold.read.integer("number");
  if (number != static_cast<std::int64_t>(fold.state.proposals.size()))
    return cannot_follow(fold.where, fold.event, "proposals are numbered one after the other");
  JobRecord record{.name = fold.read.string("name")};
  record.result_digest = fold.read.string("result_digest");
  record.num_steps = fold.read.integer("num_steps");
  if (fold.state.find(record.name) != nullptr)
    return cannot_follow(fold.where, fold.event, "job " + in_quotes(record.name) + " is in the run already");
  fold.state.proposals.push_back(
      {.number = number, .parameters = fold.read.object("parameters"), .job = record.name});
  fold.state.jobs.push_back(std::move(record));
  return {};
}

Result<void> searched(Fold& fold) {
  SATURN_TRY(JobRecord* const record, fold.job());
  const std::int64_t rung = fold.read.integer("rung");
  const std::optional<RungDecision> decision = rung_decision_from(fold.read.string("decision"));
  if (!decision) return cannot_follow(fold.where, fold.event, "it does not say what was decided");
  std::vector<RungRecord>& rungs = record->rungs;
  const auto known =
      std::find_if(rungs.begin(), rungs.end(), [&](const RungRecord& one) { return one.rung == rung; });
  if (known != rungs.end()) {
    known->decision = *decision;
    known->reason = fold.read.string("reason");
    return {};
  }
  if (!rungs.empty() && rungs.back().rung > rung)
    return cannot_follow(fold.where, fold.event, "the job is beyond that rung");
  RungRecord reached{.rung = rung, .step = fold.read.integer("step"), .decision = *decision};
  if (fold.read.has("value")) reached.value = fold.read.number("value");
  reached.reason = fold.read.string("reason");
  reached.seq = fold.event.seq;
  rungs.push_back(std::move(reached));
  return {};
}

std::optional<JobEvent> event_that_leads_to(JobState next) {
  switch (next) {
    case JobState::done:
      return JobEvent::finish;
    case JobState::pending:
      return JobEvent::requeue;
    case JobState::failed:
      return JobEvent::fail;
    case JobState::paused:
      return JobEvent::pause;
    case JobState::cancelled:
      return JobEvent::cancel;
    case JobState::stopped_early:
      return JobEvent::stop_early;
    default:
      return std::nullopt;
  }
}

Result<void> stopping(Fold& fold) {
  SATURN_TRY(JobRecord* const record, fold.job());
  SATURN_TRY(Attempt* const attempt, fold.running_attempt(*record));
  SATURN_TRY_VOID(fold.move(*record, JobEvent::stop));
  attempt->requested = true;
  const std::optional<JobState> next =
      job_state_from(fold.read.string_or("next", to_string(JobState::pending)));
  if (!next || !event_that_leads_to(*next))
    return cannot_follow(fold.where, fold.event, "an attempt does not end in that state");
  attempt->next = *next;
  attempt->moves = fold.read.boolean_or("move", false);
  attempt->by_search = fold.read.boolean_or("search", false);
  record->reason = fold.read.string("reason");
  return {};
}

Result<void> attempt_ended(Fold& fold) {
  SATURN_TRY(JobRecord* const record, fold.job());
  SATURN_TRY(Attempt* const attempt, fold.running_attempt(*record));
  const std::optional<JobState> next = job_state_from(fold.read.string("next"));
  const std::optional<JobEvent> happened = next ? event_that_leads_to(*next) : std::nullopt;
  if (!happened) return cannot_follow(fold.where, fold.event, "an attempt does not end in that state");
  SATURN_TRY_VOID(fold.move(*record, *happened));
  record->held_by_search =
      attempt->by_search && (*next == JobState::paused || *next == JobState::stopped_early);
  attempt->end_s = fold.event.time_s;
  attempt->error_class = fold.read.string("class");
  attempt->message = fold.read.string("message");
  take_pace(fold, *attempt);
  record->step = attempt->last_step = fold.read.integer("step");
  record->reason = *next == JobState::done ? "" : attempt->message;
  record->not_before_s = fold.event.time_s + fold.read.number_or("retry_after_s", 0.0);
  if (fold.read.boolean_or("drop_checkpoint", false)) record->checkpoint.reset();
  take_metrics(*record, fold.read.object_or_empty("metrics"));
  record->memory_peak_bytes =
      std::max(record->memory_peak_bytes, fold.read.integer_or("memory_peak_bytes", 0));
  record->host_memory_peak_bytes =
      std::max(record->host_memory_peak_bytes, fold.read.integer_or("host_memory_peak_bytes", 0));
  return {};
}

Result<void> skipped(Fold& fold) {
  SATURN_TRY(JobRecord* const record, fold.job());
  SATURN_TRY_VOID(fold.running_attempt(*record));
  record->skipped_steps.insert(fold.read.integer("step"));
  return {};
}

Result<void> warning(Fold& fold) {
  SATURN_TRY(JobRecord* const record, fold.job());
  SATURN_TRY(Attempt* const attempt, fold.running_attempt(*record));
  const std::int64_t step = fold.read.integer("step");
  fold.read.string("message");
  const std::string about = fold.read.string("about");
  if (about == "checkpoint_not_saved") ++record->num_failed_saves;
  if (about == "checkpoint_damaged") {
    // It went on from an older one, which the next attempt begins with unless a newer is saved. Every rank
    // that could not read it says so, maybe after that.
    const std::string path = fold.read.string("path");
    if (record->checkpoint && record->checkpoint->path == attempt->resume_from)
      record->checkpoint = Checkpoint{.path = path, .step = step};
  }
  return {};
}

Result<void> batch_added(Fold& fold) {
  fold.state.additions.push_back({.file = fold.read.string("file"),
                                  .path = fold.read.string("path"),
                                  .digest = fold.read.string("digest")});
  const Json& listed_jobs = fold.read.array("jobs");
  for (std::size_t i = 0; i < listed_jobs.size(); ++i) {
    JsonReader entry = fold.read.child("jobs", i);
    JobRecord record{.name = entry.string("name")};
    record.result_digest = entry.string("result_digest");
    record.num_steps = entry.integer("num_steps");
    if (fold.state.find(record.name) != nullptr)
      return cannot_follow(fold.where, fold.event,
                           "job " + in_quotes(record.name) + " is in the run already");
    fold.state.jobs.push_back(std::move(record));
  }
  return {};
}

Result<void> device_changed(Fold& fold) {
  const plan::Device device{.node = fold.read.string("node"),
                            .index = static_cast<int>(fold.read.integer("device"))};
  const bool drained = fold.read.string("happened") == "drained";
  std::erase(fold.state.drained, device);
  if (drained) fold.state.drained.push_back(device);
  return {};
}

Result<void> struck(Fold& fold) {
  SATURN_TRY(JobRecord* const record, fold.job());
  record->struck.push_back({.trial = fold.read.string("trial"),
                            .technique = fold.read.string("technique"),
                            .num_devices = static_cast<int>(fold.read.integer("num_devices")),
                            .reason = fold.read.string("reason")});
  return {};
}

Result<void> job_changed(Fold& fold) {
  SATURN_TRY(JobRecord* const record, fold.job());
  const std::optional<JobEvent> happened = job_event_from(fold.read.string("happened"));
  if (!happened) return cannot_follow(fold.where, fold.event, "it does not say what happened to the job");
  SATURN_TRY_VOID(fold.move(*record, *happened));
  record->reason = fold.read.string("reason");
  record->held_by_search = fold.read.boolean_or("search", false) &&
                           (*happened == JobEvent::pause || *happened == JobEvent::stop_early);
  if (*happened == JobEvent::reset) {
    // A retry goes on from the last checkpoint; what was struck or failed is tried afresh.
    record->first_attempt += static_cast<int>(record->attempts.size());
    record->attempts.clear();
    record->struck.clear();
    record->skipped_steps.clear();
    record->not_before_s = 0.0;
  }
  return {};
}

Result<void> run_ended(Fold& fold) {
  fold.state.ended = true;
  fold.state.outcome = fold.read.string("outcome");
  fold.state.exit_code = static_cast<int>(fold.read.integer("exit_code"));
  return {};
}

Result<void> dispatch(Fold& fold) {
  switch (fold.event.kind) {
    case EventKind::run_started:
      return run_started(fold);
    case EventKind::batch_accepted:
      return batch_accepted(fold);
    case EventKind::planned:
      return planned(fold);
    case EventKind::introspected:
      return introspected(fold);
    case EventKind::attempt_started:
      return attempt_started(fold);
    case EventKind::training:
    case EventKind::progress:
      return stepped(fold);
    case EventKind::saving:
      return saving(fold);
    case EventKind::checkpoint:
      return checkpoint(fold);
    case EventKind::metric:
      return metric(fold);
    case EventKind::proposed:
      return proposed(fold);
    case EventKind::searched:
      return searched(fold);
    case EventKind::stopping:
      return stopping(fold);
    case EventKind::attempt_ended:
      return attempt_ended(fold);
    case EventKind::skipped:
      return skipped(fold);
    case EventKind::warning:
      return warning(fold);
    case EventKind::requested:
      return {};  // what came of it is an event of its own
    case EventKind::batch_added:
      return batch_added(fold);
    case EventKind::device_changed:
      return device_changed(fold);
    case EventKind::struck:
      return struck(fold);
    case EventKind::job_changed:
      return job_changed(fold);
    case EventKind::run_ended:
      return run_ended(fold);
  }
  SATURN_CHECK(false, "every kind of event is folded");
  return {};
}

}  // namespace

const char* to_string(RungDecision decision) {
  return kDecisionNames[static_cast<std::size_t>(decision)];
}

std::optional<RungDecision> rung_decision_from(const std::string& name) {
  for (std::size_t i = 0; i < kDecisionNames.size(); ++i) {
    if (name == kDecisionNames[i]) return static_cast<RungDecision>(i);
  }
  return std::nullopt;
}

double JobRecord::time_s(double now_s) const {
  double total = 0.0;
  for (const Attempt& attempt : attempts) total += attempt.end_s.value_or(now_s) - attempt.start_s;
  return total;
}

int JobRecord::num_failures() const {
  return static_cast<int>(std::count_if(attempts.begin(), attempts.end(),
                                        [](const Attempt& attempt) { return !attempt.error_class.empty(); }));
}

int JobRecord::num_skipped(std::int64_t step) const {
  return static_cast<int>(std::distance(skipped_steps.begin(), skipped_steps.upper_bound(step)));
}

int JobRecord::num_moves() const {
  return static_cast<int>(
      std::count_if(attempts.begin(), attempts.end(), [](const Attempt& attempt) { return attempt.moves; }));
}

JobRecord* RunState::find(const std::string& job) {
  const auto it =
      std::find_if(jobs.begin(), jobs.end(), [&](const JobRecord& record) { return record.name == job; });
  return it == jobs.end() ? nullptr : &*it;
}

const JobRecord* RunState::find(const std::string& job) const {
  return const_cast<RunState*>(this)->find(job);
}

bool RunState::all_final() const {
  return std::all_of(jobs.begin(), jobs.end(),
                     [](const JobRecord& record) { return is_final(record.state); });
}

std::int64_t RunState::number_of_proposal(const std::string& job) const {
  const auto it = std::find_if(proposals.begin(), proposals.end(),
                               [&](const Proposal& proposal) { return proposal.job == job; });
  return it == proposals.end() ? -1 : it->number;
}

const PlanRecord* RunState::first_plan_of_last_controller() const {
  if (plans.empty()) return nullptr;
  return &plans[std::min(num_plans_before, plans.size() - 1)];
}

Result<void> apply(RunState& state, const Event& event, const std::string& where) {
  if (event.seq != state.next_seq)
    return cannot_follow(where, event, "event " + std::to_string(state.next_seq) + " comes next");
  if (event.seq == 0 && event.kind != EventKind::run_started)
    return cannot_follow(where, event, "a journal begins with run_started");
  Diagnostics missing;
  JsonReader reader(event.details, where, "", missing);
  Fold fold{.state = state, .event = event, .where = where, .read = reader};
  // A faulty event leaves the state as it was: events of a job touch its record alone.
  const JobRecord* const record = state.find(event.job);
  const std::optional<JobRecord> record_before = record ? std::optional(*record) : std::nullopt;
  const std::optional<RunState> state_before = record ? std::nullopt : std::optional(state);
  Result<void> applied = dispatch(fold);
  if (applied.ok() && !missing.empty()) applied = missing;
  if (!applied.ok()) {
    if (record_before) *state.find(event.job) = *record_before;
    if (state_before) state = *state_before;
    return applied;
  }
  state.next_seq = event.seq + 1;
  state.time_s = event.time_s;
  return {};
}

Result<RunState> fold(const std::vector<Event>& events, const std::string& where) {
  RunState state;
  for (std::size_t i = 0; i < events.size(); ++i) {
    SATURN_TRY_VOID(apply(state, events[i], position(where, static_cast<int>(i) + 1, 1)));
  }
  return state;
}

}  // namespace saturn::journal

// The program that proposes jobs, beside the training: what it is asked and told, and what its answers do.
//
// A proposal is journaled before anything is done with it, so that it is not asked for again. What a program
// must know of the past it is told when it begins; it keeps nothing that the journal does not have.

#include <algorithm>
#include <utility>

#include "run/answers.h"
#include "run/disk.h"
#include "run/early_stop.h"
#include "run/executor.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/batch/check_devices.h"
#include "saturn/batch/identity.h"
#include "saturn/profile/job_time.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobRecord;

Event event_of_answer(const Question& question, bool stops) {
  Event searched = event_of({.job = question.job,
                             .rung = question.rung,
                             .decision = stops ? journal::RungDecision::stop : journal::RungDecision::go_on,
                             .reason = "at step " + std::to_string(question.step) + " its program " +
                                       (stops ? "stopped it" : "let it go on")});
  searched.details["step"] = question.step;
  if (question.value) searched.details["value"] = *question.value;
  return searched;
}

}  // namespace

bool Executor::is_asking() const {
  return asks() && (asker_ == nullptr || asker_->waits() || next_question().has_value());
}

Result<void> Executor::consult() {
  if (!asks()) return {};
  if (asker_ == nullptr) return begin_asking();
  while (std::optional<Result<Reply>> reply = asker_->take(around_.clock->now_s())) {
    if (!reply->ok()) return give_up_asking(reply->faults());
    SATURN_TRY_VOID(heed_reply(**reply));
    if (!asks()) return {};
  }
  if (asker_->waits()) return {};
  const std::optional<Question> question = next_question();
  if (question) {
    if (question->kind == Question::Kind::tell) told_.insert(question->job);
    if (question->kind == Question::Kind::report) reports_.pop_front();
    asker_->put(*question, directory_.state(), execution_.batch.seed, around_.clock->now_s());
  }
  // All that can be proposed now is there: one measurement for all of them.
  const bool proposes = question && question->kind == Question::Kind::ask;
  if (!measure_proposals_ || proposes) return {};
  measure_proposals_ = false;
  measure_ = true;
  around_.planner->cancel();
  planning_.reset();
  return stop_everything("jobs that were proposed are measured");
}

Result<void> Executor::begin_asking() {
  const batch::SearchSettings& settings = execution_.batch.search;
  const std::string log = join_path(directory_.paths().root(), "search.log");
  Result<std::unique_ptr<worker::LineProgram>> program =
      around_.start_program
          ? around_.start_program(log)
          : worker::start_line_program(settings.command, directory_of(execution_.batch.path), log);
  if (!program.ok()) return give_up_asking(program.faults());
  asker_ = std::make_unique<Asker>(settings, *std::move(program));
  for (const journal::Proposal& proposal : directory_.state().proposals) {
    const JobRecord* const record = directory_.state().find(proposal.job);
    if (record == nullptr || journal::is_final(record->state)) told_.insert(proposal.job);
  }
  asker_->put({.kind = Question::Kind::begin}, directory_.state(), execution_.batch.seed,
              around_.clock->now_s());
  return {};
}

// What was found at rungs comes first, so that no job is heard of after its end; then ends, for they say most
// about what to propose next.
std::optional<Question> Executor::next_question() const {
  const batch::SearchSettings& settings = execution_.batch.search;
  const std::vector<journal::Proposal>& proposals = directory_.state().proposals;
  if (!reports_.empty()) return reports_.front();
  std::size_t num_open = 0;
  for (const journal::Proposal& proposal : proposals) {
    const JobRecord* const record = directory_.state().find(proposal.job);
    if (record == nullptr || told_.contains(proposal.job)) continue;
    if (journal::is_final(record->state)) {
      return Question{.kind = Question::Kind::tell,
                      .number = proposal.number,
                      .job = proposal.job,
                      .value = result_of(*record, settings)};
    }
    ++num_open;
  }
  const auto at_once = static_cast<std::size_t>(
      settings.at_once > 0 ? settings.at_once : std::max(1, execution_.machine->num_devices()));
  if (proposed_all_ || num_open >= at_once || std::cmp_greater_equal(proposals.size(), settings.samples))
    return std::nullopt;
  return Question{.kind = Question::Kind::ask, .number = static_cast<std::int64_t>(proposals.size())};
}

Result<void> Executor::heed_reply(const Reply& reply) {
  switch (reply.question.kind) {
    case Question::Kind::begin:
    case Question::Kind::tell:
      return {};
    case Question::Kind::ask:
      if (reply.answer.contains("parameters"))
        return accept_proposal(reply.question.number, reply.answer["parameters"]);
      proposed_all_ = true;
      return {};
    case Question::Kind::report:
      if (journal::is_final(directory_.state().find(reply.question.job)->state))
        return {};  // too late to stop
      return append(event_of_answer(reply.question, reply.answer["stop"].get<bool>()));
  }
  return {};
}

Result<void> Executor::accept_proposal(std::int64_t number, const Json& parameters) {
  const auto refuse = [&](const Diagnostics& faults) {
    Diagnostic refused = faults.front();
    refused.kind = Kind::job_failed;
    refused.what = "what " + in_quotes(execution_.batch.search.command.front()) + " proposed (" +
                   parameters.dump() + ") is no job: " + refused.what;
    return give_up_asking({refused});
  };
  journal::RunState grown = directory_.state();
  grown.proposals.push_back({.number = number, .parameters = parameters});
  Result<batch::Batch> joined = with_additions(execution_.batch, grown, directory_.paths());
  if (!joined.ok()) return refuse(joined.faults());
  const batch::Job& job = joined->jobs.at(static_cast<std::size_t>(number));
  if (const Result<void> fits = batch::check_devices(*joined, batch::device_groups(*execution_.machine));
      !fits.ok())
    return refuse(fits.faults());
  Result<std::map<std::string, std::int64_t>> num_steps = profile::num_steps_of(*joined);
  if (!num_steps.ok()) return refuse(num_steps.faults());
  if (const Result<void> room = foresee_disk(*joined, directory_.state(), directory_.paths().root());
      !room.ok())
    return give_up_asking(room.faults());
  SATURN_TRY(const std::string digest, batch::result_digest(job, joined->data.at(job.data)));
  SATURN_TRY_VOID(directory_.set_aside_job(job.name));

  Event proposed{.kind = EventKind::proposed};
  proposed.details = {{"number", number},
                      {"parameters", parameters},
                      {"name", job.name},
                      {"result_digest", digest},
                      {"num_steps", num_steps->at(job.name)}};
  execution_.selected.insert(job.name);
  const std::string name = job.name;
  execution_.batch = *std::move(joined);
  execution_.num_steps = *std::move(num_steps);
  SATURN_TRY_VOID(append(std::move(proposed)));
  around_.observer->on_note("proposed: " + name);
  if (profile::what_is_stale(*execution_.profile, execution_.batch, *execution_.machine).empty()) {
    re_plan_reason_ = "job " + in_quotes(name) + " was proposed";
  } else {
    measure_proposals_ = true;
  }
  return {};
}

// What was proposed goes on to its end; another run on the directory asks again.
Result<void> Executor::give_up_asking(Diagnostics faults) {
  asker_.reset();
  reports_.clear();
  given_up_asking_ = true;
  around_.observer->on_note("no more is proposed: " + faults.front().what);
  failures_.insert(failures_.end(), faults.begin(), faults.end());
  return {};
}

}  // namespace saturn::run

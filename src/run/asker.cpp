// Questions to lines, and lines to answers.

#include "run/asker.h"

#include <cmath>

#include "saturn/base/nearest.h"
#include "saturn/base/units.h"

namespace saturn::run {
namespace {

constexpr int kProtocol = 1;
constexpr std::size_t kShownBytes = 200;  // of an answer that is none

Json value_json(std::optional<double> value) {
  return value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}

Json history_of(const journal::RunState& state, const batch::SearchSettings& settings) {
  Json history = Json::array();
  for (const journal::Proposal& proposal : state.proposals) {
    const journal::JobRecord* const record = state.find(proposal.job);
    if (record == nullptr) continue;  // the batch no longer has it
    Json reports = Json::array();
    for (const journal::RungRecord& rung : record->rungs)
      reports.push_back(Json::array({rung.step, value_json(rung.value)}));
    history.push_back({{"number", proposal.number},
                       {"parameters", proposal.parameters},
                       {"state", journal::to_string(record->state)},
                       {"reports", std::move(reports)},
                       {"value", value_json(result_of(*record, settings))}});
  }
  return history;
}

const char* name_of(Question::Kind kind) {
  switch (kind) {
    case Question::Kind::begin:
      return "begin";
    case Question::Kind::ask:
      return "ask";
    case Question::Kind::report:
      return "report";
    case Question::Kind::tell:
      return "tell";
  }
  return "";
}

// What is wrong with the answer; empty where nothing is.
std::string problem_of(const Question& question, const Json& answer) {
  if (!answer.is_object()) return "is not an object";
  const auto is = [&](const char* key, bool (Json::*type)() const noexcept) {
    const auto found = answer.find(key);
    return found != answer.end() && ((*found).*type)();
  };
  switch (question.kind) {
    case Question::Kind::begin:
      return is("ready", &Json::is_boolean) && answer["ready"].get<bool>() ? "" : "is not {\"ready\": true}";
    case Question::Kind::ask:
      return is("parameters", &Json::is_object) || is("finished", &Json::is_boolean)
                 ? ""
                 : "has neither parameters {} nor finished";
    case Question::Kind::report:
      return is("stop", &Json::is_boolean) ? "" : "does not say whether to stop, true or false";
    case Question::Kind::tell:
      return "";
  }
  return "";
}

}  // namespace

std::optional<double> result_of(const journal::JobRecord& record, const batch::SearchSettings& settings) {
  if (record.state == journal::JobState::done) {
    const auto found = record.metrics.find(settings.metric);
    return found == record.metrics.end() ? std::nullopt : std::optional(found->second);
  }
  return record.rungs.empty() ? std::nullopt : record.rungs.back().value;
}

void Asker::put(Question question, const journal::RunState& state, std::uint64_t seed, double now_s) {
  SATURN_CHECK(!open_, "one question is open at a time");
  Json line = {{"type", name_of(question.kind)}};
  switch (question.kind) {
    case Question::Kind::begin:
      line["protocol"] = kProtocol;
      line["metric"] = settings_.metric;
      line["goal"] = settings_.goal;
      line["samples"] = settings_.samples;
      line["seed"] = seed;
      line["history"] = history_of(state, settings_);
      break;
    case Question::Kind::ask:
      line["number"] = question.number;
      break;
    case Question::Kind::report:
      line["number"] = question.number;
      line["step"] = question.step;
      line["value"] = value_json(question.value);
      break;
    case Question::Kind::tell:
      line["number"] = question.number;
      line["state"] = journal::to_string(state.find(question.job)->state);
      line["value"] = value_json(question.value);
      break;
  }
  program_->send(to_line(line));
  open_ = std::move(question);
  deadline_s_ = now_s + settings_.answer_timeout_s;
}

std::optional<Result<Reply>> Asker::take(double now_s) {
  std::optional<Result<std::string>> line = program_->take();
  if (!line && open_ && now_s >= deadline_s_) {
    return Result<Reply>(Diagnostic{.kind = Kind::job_failed,
                                    .what = in_quotes(settings_.command.front()) + " did not answer " +
                                            in_quotes(name_of(open_->kind)) + " within " +
                                            format_duration(settings_.answer_timeout_s),
                                    .expected = "one line for every line that it is sent",
                                    .fix = "raise answer_timeout in [search], or flush its output"});
  }
  if (!line) return std::nullopt;
  if (!line->ok()) return Result<Reply>(std::move(*line).faults());
  if (!open_) return Result<Reply>(not_an_answer(**line, "comes without a question"));
  const Result<Json> answer = parse_json(**line, "answer");
  if (!answer.ok()) return Result<Reply>(not_an_answer(**line, "is not JSON"));
  if (answer->is_object() && answer->contains("error"))
    return Result<Reply>(not_an_answer(**line, "says that it cannot go on"));
  if (const std::string problem = problem_of(*open_, *answer); !problem.empty())
    return Result<Reply>(not_an_answer(**line, problem));
  Reply reply{.question = *std::move(open_), .answer = *answer};
  open_.reset();
  return Result<Reply>(std::move(reply));
}

Diagnostic Asker::not_an_answer(const std::string& line, const std::string& why) const {
  const std::string asked = open_ ? std::string(" to ") + in_quotes(name_of(open_->kind)) : "";
  return {.kind = Kind::job_failed,
          .what = "the answer of " + in_quotes(settings_.command.front()) + asked + " " + why + ": " +
                  line.substr(0, kShownBytes),
          .expected = "the protocol that README.md describes",
          .fix = "print nothing but answers to stdout; notes go to stderr"};
}

}  // namespace saturn::run

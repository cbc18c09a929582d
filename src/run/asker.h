// The conversation with the program that proposes jobs: one question at a time, each answered by one line.
//
//   sent: {"type":"begin","protocol":1,"metric":..,"goal":..,"samples":N,"seed":S,"history":[..]}
//   answered: {"ready":true}
//
//   sent: {"type":"ask","number":3}
//   answered: {"parameters":{"lr":0.001}}, or {"finished":true}
//
//   sent: {"type":"report","number":3,"step":100,"value":2.5}
//   answered: {"stop":false}
//
//   sent: {"type":"tell","number":3,"state":"done","value":2.25}
//   answered: {}
//
// history holds what was proposed before this program was started: [{"number", "parameters", "state",
// "reports": [[step, value]..], "value"}]; value is null where it was not finite or there is none. Any answer
// may be {"error": "why"} instead.

#pragma once

#include <memory>
#include <optional>
#include <string>

#include "saturn/batch/batch.h"
#include "saturn/journal/run_state.h"
#include "saturn/worker/line_program.h"

namespace saturn::run {

struct Question {
  enum class Kind { begin, ask, report, tell };
  Kind kind = Kind::begin;
  std::int64_t number = 0;
  std::string job;
  std::int64_t rung = 0;
  std::int64_t step = 0;
  std::optional<double> value;
};

struct Reply {
  Question question;
  Json answer = Json::object();
};

/// Times are of the caller's clock.
class Asker {
 public:
  Asker(const batch::SearchSettings& settings, std::unique_ptr<worker::LineProgram> program)
      : settings_(settings), program_(std::move(program)) {}

  /// `state` is what a `begin` tells of.
  void put(Question question, const journal::RunState& state, std::uint64_t seed, double now_s);
  bool waits() const { return open_.has_value(); }
  /// The answer to the open question; nothing while there is none.
  ///
  /// Errors: the program ended, did not answer in time, or answered what is no answer to the question. It is
  /// over then.
  std::optional<Result<Reply>> take(double now_s);
  double deadline_s() const { return deadline_s_; }
  int fd() const { return program_->fd(); }

 private:
  Diagnostic not_an_answer(const std::string& line, const std::string& why) const;

  const batch::SearchSettings& settings_;
  std::unique_ptr<worker::LineProgram> program_;
  std::optional<Question> open_;
  double deadline_s_ = 0.0;
};

/// What the search's metric came to at the job's end, or at its last rung where it was stopped there.
std::optional<double> result_of(const journal::JobRecord& record, const batch::SearchSettings& settings);

}  // namespace saturn::run

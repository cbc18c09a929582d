// Jobs that a program proposes, in whole runs on a virtual clock: the program is a function.

#include <doctest/doctest.h>

#include <algorithm>
#include <deque>
#include <functional>

#include "saturn/run/session.h"
#include "tests/support/scripted_run.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobRecord;
using journal::JobState;
using testing::ScriptedRun;
using worker::Mode;

struct Crash {};

// Answers each line at once by a function; an answer that is no text is none.
class Answers final : public worker::LineProgram {
 public:
  using Function = std::function<std::optional<std::string>(const Json&)>;
  Answers(Function answer, std::vector<Json>& heard) : answer_(std::move(answer)), heard_(heard) {}

  void send(const std::string& line) override {
    const Result<Json> message = parse_json(line, "line");
    REQUIRE(message.ok());
    heard_.push_back(*message);
    if (std::optional<std::string> text = answer_(*message)) ready_.push_back(*std::move(text));
  }
  std::optional<Result<std::string>> take() override {
    if (ready_.empty()) return std::nullopt;
    std::string line = std::move(ready_.front());
    ready_.pop_front();
    if (line == "gone")
      return Result<std::string>(
          Diagnostic{.kind = Kind::job_failed, .what = "\"propose\" ended with exit code 3"});
    return Result<std::string>(std::move(line));
  }
  int fd() const override { return -1; }

 private:
  Function answer_;
  std::vector<Json>& heard_;
  std::deque<std::string> ready_;
};

// Proposal k trains with lr 0.001 (k + 1); job-4 is the best; what reports more than 5 is stopped.
std::optional<std::string> sensible(const Json& message) {
  const std::string type = message["type"].get<std::string>();
  if (type == "begin") return R"({"ready":true})";
  if (type == "ask")
    return R"({"parameters":{"lr":)" + std::to_string(0.001 * (message["number"].get<double>() + 1)) + "}}";
  if (type == "report") {
    const bool stop = message["value"].is_null() || message["value"].get<double>() > 5.0;
    return stop ? R"({"stop":true})" : R"({"stop":false})";
  }
  return "{}";
}

struct Asked {
  ScriptedRun paper;
  std::vector<Json> heard;

  explicit Asked(const std::string& more = "samples = 6\nfirst_rung = 5\n") : paper(table()) {
    std::string text =
        "[batch]\nname = \"paper\"\nseed = 5\n[data.text]\nkind = \"text\"\npath = \"text.txt\"\n"
        "sequence_length = 16\n[plan]\niterations = 200\n[search]\nmethod = \"ask\"\ncommand = "
        "[\"propose\"]\n" +
        more +
        "[[job]]\nname = \"job-{sample}\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 20\nbatch_size = "
        "4\ntechniques = [\"single\", \"ddp\"]\noptimizer.kind = \"adamw\"\n";
    REQUIRE(write_whole(paper.batch_path(), text).ok());
    answer_by(sensible);
  }

  void answer_by(Answers::Function function) {
    paper.start_program = [this,
                           function](const std::string&) -> Result<std::unique_ptr<worker::LineProgram>> {
      return std::unique_ptr<worker::LineProgram>(std::make_unique<Answers>(function, heard));
    };
  }

  // Job k reports 10 - 2 k up to job-4, and 9 after it.
  static std::vector<worker::ScriptRow> table() {
    // Where it is of a class of its own, job-1 runs out of memory in every trial.
    std::vector<worker::ScriptRow> rows = {{.job = "job-1", .mode = Mode::trial}};
    rows.front().script.fault =
        worker::ScriptedFault{.after_step = 0, .error_class = worker::ErrorClass::out_of_memory};
    for (int k = 0; k < 8; ++k) {
      worker::ScriptRow row{.job = "job-" + std::to_string(k), .mode = Mode::train};
      row.script = {.start_s = 0.5, .load_s = 0.2, .save_s = 0.1, .step_time_s = 1.0};
      row.script.metrics_of = [value = k <= 4 ? 10.0 - 2.0 * k : 9.0](std::int64_t) {
        return std::map<std::string, double>{{"validation_loss", value}};
      };
      rows.push_back(std::move(row));
    }
    return rows;
  }

  int num_heard(const std::string& type) const {
    return static_cast<int>(
        std::count_if(heard.begin(), heard.end(), [&](const Json& one) { return one["type"] == type; }));
  }
};

std::size_t num_in(const journal::RunState& state, JobState wanted) {
  return static_cast<std::size_t>(std::count_if(
      state.jobs.begin(), state.jobs.end(), [&](const JobRecord& record) { return record.state == wanted; }));
}

TEST_SUITE("run") {
  TEST_CASE("run/ask: what a program proposes is trained and what it stops is stopped") {
    Asked asked;
    const Result<SessionResult> ran = asked.paper.run();
    REQUIRE_MESSAGE(ran.ok(), to_text(ran.ok() ? Diagnostics{} : ran.faults()));
    CHECK(ran->exit_code == 0);
    CHECK(ran->summary.outcome == "done");
    CHECK(ran->summary.best_job == "job-4");
    const journal::RunState state = asked.paper.state();
    REQUIRE(state.jobs.size() == 6);
    CHECK(num_in(state, JobState::done) == 2);  // job-3 and job-4 report 4 and 2
    CHECK(num_in(state, JobState::stopped_early) == 4);
    for (const JobRecord& record : state.jobs) {
      REQUIRE(record.rungs.size() >= 1);
      if (record.state == JobState::stopped_early) CHECK(record.step < 10);
    }
    // Every proposal is asked for once and every end is told once, with what it came to.
    CHECK(asked.num_heard("begin") == 1);
    CHECK(asked.num_heard("ask") == 6);
    CHECK(asked.num_heard("tell") == 6);
    for (const Json& message : asked.heard) {
      if (message["type"] == "tell" && message["number"] == 4) {
        CHECK(message["state"] == "done");
        CHECK(message["value"] == 2.0);
      }
    }
    // The jobs are of one speed class: they were measured once.
    int num_trials = 0;
    for (const worker::LaunchRequest& request : asked.paper.launcher->launched())
      num_trials += request.ranks.front().mode == Mode::trial ? 1 : 0;
    CHECK(num_trials > 0);
    CHECK(num_trials <= 8);
    CHECK(asked.paper.launcher->overlaps().empty());
    CHECK(asked.paper.trained("job-5").front().ranks.front().job["optimizer"]["lr"] ==
          doctest::Approx(0.006));
  }

  TEST_CASE("run/ask: no more jobs are open at one time than are asked for") {
    Asked asked("samples = 5\nat_once = 1\n");
    std::size_t most = 0;
    asked.paper.observer.after_event = [&](const Event& event) {
      if (event.kind != EventKind::proposed) return;
      std::size_t open = 0;
      for (const JobRecord& record : asked.paper.state().jobs)
        open += journal::is_final(record.state) ? 0 : 1;
      most = std::max(most, open);
    };
    REQUIRE(asked.paper.run().ok());
    CHECK(most == 1);
    CHECK(num_in(asked.paper.state(), JobState::done) == 5);  // without rungs nothing is stopped
    CHECK(asked.num_heard("report") == 0);
  }

  TEST_CASE("run/ask: a program that has no more ends the search before its samples") {
    Asked asked;
    asked.answer_by([](const Json& message) {
      return message["type"] == "ask" && message["number"] == 3 ? R"({"finished":true})" : sensible(message);
    });
    const Result<SessionResult> ran = asked.paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->exit_code == 0);
    CHECK(asked.paper.state().jobs.size() == 3);
    CHECK(asked.paper.state().all_final());
  }

  TEST_CASE("run/ask: a program that fails costs what it has not proposed and the next run asks again") {
    struct Row {
      std::string label;
      std::string to;  // the type of the message that goes wrong
      std::optional<std::string> answer;
      std::string says;
    };
    const std::vector<Row> rows = {
        {"it ends", "ask", "gone", "exit code 3"},
        {"it is silent", "ask", std::nullopt, "did not answer \"ask\" within"},
        {"it is silent from the beginning", "begin", std::nullopt, "did not answer \"begin\" within"},
        {"rubbish", "ask", "hello", "is not JSON"},
        {"another document", "ask", "[1, 2]", "is not an object"},
        {"an answer to something else", "ask", R"({"stop":true})", "has neither parameters"},
        {"no such parameter", "ask", R"({"parameters":{"lrr":1}})", "\"lrr\" is not a hyper-parameter"},
        {"a value out of range", "ask", R"({"parameters":{"lr":-1}})", "is no job"},
        {"a value of another type", "ask", R"({"parameters":{"lr":"fast"}})", "is no job"},
        {"its own error", "ask", R"({"error":"no space"})", "no space"},
        {"no decision", "report", "{}", "does not say whether to stop"}};
    for (const Row& row : rows) {
      CAPTURE(row.label);
      Asked asked;
      asked.answer_by([&](const Json& message) -> std::optional<std::string> {
        const bool later = message["type"] != "ask" || message["number"].get<int>() >= 2;
        return message["type"] == row.to && later ? row.answer : sensible(message);
      });
      const Result<SessionResult> ran = asked.paper.run();
      REQUIRE(ran.ok());
      CHECK(ran->exit_code == 1);
      REQUIRE_FALSE(ran->faults.empty());
      CHECK_MESSAGE(to_text(ran->faults).find(row.says) != std::string::npos, to_text(ran->faults));
      CHECK(asked.paper.state().all_final());
      const std::size_t num_before = asked.paper.state().jobs.size();
      CHECK(num_before < 6);
      // Whole again, it proposes the rest; what was proposed is history.
      asked.answer_by(sensible);
      asked.heard.clear();
      const Result<SessionResult> again = asked.paper.run();
      REQUIRE(again.ok());
      CHECK(again->exit_code == 0);
      CHECK(asked.paper.state().jobs.size() == 6);
      CHECK(asked.heard.front()["history"].size() == num_before);
      CHECK(asked.num_heard("ask") == static_cast<int>(6 - num_before));
    }
  }

  TEST_CASE("run/ask: a controller that dies after any event asks for no proposal twice") {
    Asked undisturbed("samples = 4\nfirst_rung = 5\n");
    REQUIRE(undisturbed.paper.run().ok());
    const int num_events = static_cast<int>(undisturbed.paper.observer.events.size());
    REQUIRE(num_events > 20);
    for (int crash_at = 1; crash_at <= num_events; ++crash_at) {
      CAPTURE(crash_at);
      Asked asked("samples = 4\nfirst_rung = 5\n");
      int seen = 0;
      asked.paper.observer.after_event = [&](const Event&) {
        if (++seen == crash_at) throw Crash{};
      };
      try {
        (void)asked.paper.run();
      } catch (const Crash&) {
      }
      const std::size_t num_before = asked.paper.state().proposals.size();
      asked.paper.observer.after_event = nullptr;
      asked.heard.clear();
      const Result<SessionResult> resumed = asked.paper.run();
      REQUIRE_MESSAGE(resumed.ok(), to_text(resumed.ok() ? Diagnostics{} : resumed.faults()));
      CHECK(resumed->exit_code == 0);
      const journal::RunState state = asked.paper.state();
      CHECK(state.jobs.size() == 4);
      CHECK(state.all_final());
      CHECK(state.find("job-3")->state == JobState::done);
      CHECK(state.find("job-0")->state == JobState::stopped_early);
      CHECK(asked.num_heard("ask") == static_cast<int>(4 - num_before));
      for (const Json& message : asked.heard) {
        if (message["type"] == "ask") CHECK(message["number"].get<std::size_t>() >= num_before);
      }
    }
  }

  TEST_CASE("run/ask: a proposal that fits nowhere fails alone") {
    Asked asked("samples = 3\n");
    asked.answer_by([](const Json& message) {
      return message["type"] == "ask" && message["number"] == 1
                 ? R"({"parameters":{"lr":0.1,"batch_size":8}})"
                 : sensible(message);
    });
    const Result<SessionResult> ran = asked.paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->exit_code == 1);
    CHECK(asked.paper.state().find("job-1")->state == JobState::failed);
    CHECK(num_in(asked.paper.state(), JobState::done) == 2);
  }
}

}  // namespace
}  // namespace saturn::run

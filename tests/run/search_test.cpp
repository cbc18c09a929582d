// Early stopping in whole runs on a virtual clock: who goes on, on which devices, and what a crash changes.

#include <doctest/doctest.h>

#include <algorithm>

#include "saturn/journal/control.h"
#include "saturn/run/control.h"
#include "saturn/run/session.h"
#include "saturn/search/decide.h"
#include "tests/support/scripted_run.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobRecord;
using journal::JobState;
using journal::RungDecision;
using testing::ScriptedRun;
using worker::Mode;
using worker::ScriptRow;
using Verb = journal::Request::Verb;

struct Crash {};

// A job whose validation loss falls towards `floor`.
ScriptRow falls_to(const std::string& job, double floor, const std::string& technique = "",
                   double step_time_s = 1.0) {
  ScriptRow row{.job = job, .technique = technique, .mode = Mode::train};
  row.script = {.start_s = 0.5, .load_s = 0.2, .save_s = 0.1, .step_time_s = step_time_s};
  row.script.metrics_of = [floor](std::int64_t step) {
    return std::map<std::string, double>{{"validation_loss", floor + 1.0 / static_cast<double>(step)}};
  };
  return row;
}

const std::string kAsha =
    "[search]\nmethod = \"asha\"\nfirst_rung = 2\nreduction_factor = 3\n[plan]\niterations = 300\n";

const std::vector<std::string> kNine = {"a", "b", "c", "d", "e", "f", "g", "h", "i"};

// "e" is the best of nine.
std::vector<ScriptRow> nine_jobs() {
  const std::vector<double> floors = {3.0, 5.0, 2.0, 8.0, 1.0, 7.0, 9.0, 4.0, 6.0};
  std::vector<ScriptRow> table;
  for (std::size_t i = 0; i < kNine.size(); ++i) table.push_back(falls_to(kNine[i], floors[i]));
  return table;
}

// Four jobs of which "b" is the best.
struct Four {
  ScriptedRun paper{{falls_to("a", 3.0), falls_to("b", 1.0), falls_to("c", 2.0), falls_to("d", 4.0)}};

  Four() {
    paper.write_batch({"a", "b", "c", "d"}, "",
                      "[search]\nmethod = \"asha\"\nfirst_rung = 4\nreduction_factor = 2\n[plan]\n"
                      "iterations = 100\n");
  }
};

std::vector<std::string> names_in(const journal::RunState& state, JobState wanted) {
  std::vector<std::string> names;
  for (const JobRecord& record : state.jobs) {
    if (record.state == wanted) names.push_back(record.name);
  }
  return names;
}

// Every decision of the journal is what its rule says of the events before it: a controller that had just
// read them would have decided the same.
void check_decisions_follow(const ScriptedRun& paper) {
  const Result<batch::Batch> batch = batch::read_batch(paper.batch_path());
  REQUIRE(batch.ok());
  const Result<journal::JournalContent> journal = journal::read_journal(paper.paths().events());
  REQUIRE(journal.ok());
  journal::RunState state;
  int num_decisions = 0;
  for (const Event& event : journal->events) {
    if (event.kind == EventKind::searched) {
      ++num_decisions;
      const std::int64_t rung = event.details["rung"].get<std::int64_t>();
      std::string expected;
      if (event.details.contains("step")) {
        std::optional<double> value;
        if (event.details.contains("value")) value = event.details["value"].get<double>();
        expected = to_string(search::judge(batch->search, state, event.job, rung, value).decision);
      } else {
        for (const search::Decision& one : search::follow_ups(batch->search, state)) {
          if (one.job == event.job && one.rung == rung) expected = to_string(one.decision);
        }
      }
      CAPTURE(event.seq);
      CHECK(event.details["decision"].get<std::string>() == expected);
    }
    REQUIRE(journal::apply(state, event).ok());
  }
  CHECK(num_decisions > 0);
}

TEST_SUITE("run") {
  TEST_CASE("run/search: asha trains the best of nine jobs to its end and stops most others on the way") {
    ScriptedRun paper(nine_jobs());
    paper.write_batch(kNine, "", kAsha);
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->exit_code == 0);
    CHECK(ran->summary.outcome == "done");
    CHECK(ran->summary.best_job == "e");
    const journal::RunState state = paper.state();
    const std::vector<std::string> done = names_in(state, JobState::done);
    CHECK(std::find(done.begin(), done.end(), "e") != done.end());
    CHECK(done.size() <= 3);
    CHECK(done.size() + names_in(state, JobState::stopped_early).size() == 9);
    std::int64_t steps = 0;
    for (const JobRecord& record : state.jobs) {
      for (const journal::Attempt& attempt : record.attempts) steps += attempt.last_step - attempt.from_step;
      REQUIRE_FALSE(record.rungs.empty());
      if (record.state != JobState::stopped_early) continue;
      CHECK(record.held_by_search);
      CHECK(record.checkpoint.has_value());  // what waited kept its own
      CHECK(record.reason.find("validation_loss") != std::string::npos);
    }
    CHECK(steps <= 9 * 20 / 2);
    CHECK(paper.launcher->overlaps().empty());
    // A promoted job goes on from where it was paused, never from the beginning.
    for (const JobRecord& record : state.jobs) {
      for (std::size_t i = 1; i < record.attempts.size(); ++i)
        CHECK(record.attempts[i].from_step == record.attempts[i - 1].last_step);
    }
    check_decisions_follow(paper);
  }

  TEST_CASE("run/search: the first plan counts on the steps that jobs are expected to train") {
    ScriptedRun with(nine_jobs());
    with.write_batch(kNine, "", kAsha);
    REQUIRE(with.run().ok());
    ScriptedRun without(nine_jobs());
    without.write_batch(kNine, "", "[plan]\niterations = 300\n");
    REQUIRE(without.run().ok());
    CHECK(names_in(without.state(), JobState::done).size() == 9);
    // 2 + 4/3 + 12/9 + 2/27 of 20 steps: about a quarter.
    CHECK(with.observer.plans.front().makespan_s <= 0.45 * without.observer.plans.front().makespan_s);
    CHECK(with.paths().last_plan() > 0);  // devices that became free were planned again
  }

  TEST_CASE("run/search: a controller that dies after any event is followed by one that decides the same") {
    Four undisturbed;
    REQUIRE(undisturbed.paper.run().ok());
    const int num_events = static_cast<int>(undisturbed.paper.observer.events.size());
    REQUIRE(num_events > 30);
    for (int crash_at = 1; crash_at <= num_events; ++crash_at) {
      CAPTURE(crash_at);
      Four four;
      ScriptedRun& paper = four.paper;
      int seen = 0;
      paper.observer.after_event = [&](const Event&) {
        if (++seen == crash_at) throw Crash{};
      };
      try {
        (void)paper.run();
      } catch (const Crash&) {
      }
      std::map<std::string, std::vector<journal::RungRecord>> before;
      for (const JobRecord& record : paper.state().jobs) before[record.name] = record.rungs;
      paper.observer.after_event = nullptr;
      const Result<SessionResult> resumed = paper.run();
      REQUIRE(resumed.ok());
      CHECK(resumed->summary.outcome == "done");
      const journal::RunState state = paper.state();
      CHECK(state.find("b")->state == JobState::done);
      CHECK(state.all_final());
      check_decisions_follow(paper);
      // What was found at a rung stands: no job is compared there twice.
      for (const auto& [job, rungs] : before) {
        const std::vector<journal::RungRecord>& after = state.find(job)->rungs;
        REQUIRE(after.size() >= rungs.size());
        for (std::size_t i = 0; i < rungs.size(); ++i) {
          CHECK(after[i].seq == rungs[i].seq);
          CHECK(after[i].value == rungs[i].value);
        }
      }
    }
  }

  TEST_CASE("run/search: the one that goes on takes over the devices of the other in width and technique") {
    std::vector<ScriptRow> table;
    for (const auto& [technique, step_time_s] : {std::pair("single", 4.0), std::pair("ddp", 2.4)}) {
      table.push_back({.technique = technique,
                       .mode = Mode::trial,
                       .script = {.start_s = 0.5, .load_s = 0.2, .save_s = 0.1, .step_time_s = step_time_s}});
      table.push_back(falls_to("a", 2.0, technique, step_time_s));
      table.push_back(falls_to("b", 1.0, technique, step_time_s));
    }
    ScriptedRun paper(std::move(table));
    paper.write_batch({"a", "b"}, "",
                      "[search]\nmethod = \"asha\"\nfirst_rung = 8\nreduction_factor = 4\n[plan]\n"
                      "iterations = 300\n");
    REQUIRE(paper.run().ok());
    const journal::RunState state = paper.state();
    CHECK(state.find("a")->state == JobState::stopped_early);
    const JobRecord& b = *state.find("b");
    CHECK(b.state == JobState::done);
    REQUIRE(b.attempts.size() >= 2);
    CHECK(b.attempts.front().technique == "single");
    CHECK(b.attempts.front().devices.size() == 1);
    CHECK(b.attempts.back().technique == "ddp");
    CHECK(b.attempts.back().devices.size() == 2);
    CHECK(b.attempts.back().from_step >= 8);
    CHECK(b.num_failures() == 0);
  }

  TEST_CASE("run/search: median stops a worse job for good and its devices go to the next") {
    ScriptedRun paper({falls_to("a", 1.0), falls_to("b", 2.0), falls_to("c", 9.0), falls_to("d", 1.5)});
    paper.write_batch({"a", "b", "c", "d"}, "devices = [1]\n",
                      "[search]\nmethod = \"median\"\nfirst_rung = 5\nmin_jobs = 2\n[plan]\niterations = "
                      "300\n");
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->exit_code == 0);
    CHECK(names_in(paper.state(), JobState::stopped_early) == std::vector<std::string>{"c"});
    const JobRecord c = *paper.state().find("c");
    CHECK(c.step < 10);
    REQUIRE(c.rungs.size() == 1);
    CHECK(c.rungs.front().decision == RungDecision::stop);
    CHECK(ran->summary.outcome == "done");
    check_decisions_follow(paper);
  }

  TEST_CASE("run/search: a job whose loss is not finite at a rung is never promoted") {
    ScriptRow diverges = falls_to("b", 0.0);
    diverges.script.metrics_of = [](std::int64_t step) {
      return std::map<std::string, double>{
          {"validation_loss", step < 20 ? std::numeric_limits<double>::quiet_NaN() : 0.0}};
    };
    ScriptedRun paper({falls_to("a", 3.0), diverges, falls_to("c", 4.0)});
    paper.write_batch({"a", "b", "c"}, "", kAsha);
    REQUIRE(paper.run().ok());
    CHECK(paper.state().find("a")->state == JobState::done);
    CHECK(paper.state().find("b")->state == JobState::stopped_early);
    CHECK(paper.state().find("b")->reason.find("is not finite") != std::string::npos);
    check_decisions_follow(paper);
  }

  TEST_CASE("run/search: the second best is let go when the best fails after its rung") {
    ScriptRow fails = falls_to("b", 1.0);
    fails.script.fault = worker::ScriptedFault{.after_step = 8, .error_class = worker::ErrorClass::data};
    ScriptedRun paper({falls_to("a", 3.0), fails, falls_to("c", 2.0)});
    paper.write_batch({"a", "b", "c"}, "", kAsha);
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->exit_code == 1);
    CHECK(paper.state().find("b")->state == JobState::failed);
    CHECK(paper.state().find("c")->state == JobState::done);
    CHECK(paper.state().find("a")->state == JobState::stopped_early);
    check_decisions_follow(paper);
  }

  TEST_CASE(
      "run/search: what a person pauses stays paused and what the search pauses is not resumed by hand") {
    ScriptedRun paper({falls_to("a", 3.0), falls_to("b", 1.0), falls_to("c", 2.0)});
    paper.write_batch({"a", "b", "c"}, "devices = [1]\n", kAsha);
    bool asked = false;
    bool resumed = false;
    paper.observer.after_event = [&](const Event& event) {
      // c has not come to its rung: a and b wait for it.
      if (!asked && event.kind == EventKind::training && event.job == "c") {
        asked = true;
        REQUIRE(journal::post(paper.paths(), {.verb = Verb::pause, .target = "c"}).ok());
      }
      if (!resumed && event.kind == EventKind::searched && event.job == "a") {
        resumed = true;
        REQUIRE(journal::post(paper.paths(), {.verb = Verb::resume, .target = "a"}).ok());
      }
    };
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(asked);
    bool refused = false;
    for (const Event& event : paper.observer.events) {
      if (event.kind == EventKind::requested && event.details["target"] == "a")
        refused = !event.details["accepted"].get<bool>();
    }
    CHECK(refused);
    if (paper.state().find("c")->rungs.empty()) {
      CHECK(ran->summary.outcome == "stopped");
      CHECK(names_in(paper.state(), JobState::paused).size() == 3);
      CHECK_FALSE(paper.state().find("c")->held_by_search);
      CHECK(paper.state().find("a")->held_by_search);
    }
    // Given back to the run it brings the search to its end.
    paper.observer.after_event = nullptr;
    {
      Result<journal::RunDirectory> directory = journal::RunDirectory::open(paper.root(), paper.clock());
      REQUIRE(directory.ok());
      const Result<Answer> answer =
          answer_at_rest({.verb = Verb::resume, .target = "c"}, *directory, paper.observer);
      REQUIRE(answer.ok());
    }
    REQUIRE(paper.run().ok());
    CHECK(paper.state().all_final());
    CHECK(paper.state().find("b")->state == JobState::done);
    check_decisions_follow(paper);
  }
}

}  // namespace
}  // namespace saturn::run

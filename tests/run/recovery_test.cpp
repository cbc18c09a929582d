// Faults while running, one by one: what happens to the job, and that the others do not notice.

#include <doctest/doctest.h>
#include <unistd.h>

#include <cmath>
#include <set>

#include "saturn/run/session.h"
#include "tests/checkpoint/shards.h"
#include "tests/support/scripted_run.h"

namespace saturn::run {
namespace {

using journal::EventKind;
using journal::JobRecord;
using journal::JobState;
using testing::ScriptedRun;
using worker::ErrorClass;
using worker::Mode;
using worker::ScriptedFault;
using worker::ScriptRow;

// The launch of job "b" that goes wrong (0 = every one).
ScriptRow faulty(int launch, ScriptedFault fault, const std::string& technique = "") {
  return {.job = "b",
          .technique = technique,
          .launch = launch,
          .mode = Mode::train,
          .script = {
              .start_s = 0.5, .load_s = 0.2, .save_s = 0.1, .step_time_s = 1.0, .fault = std::move(fault)}};
}

ScriptedFault error_of(ErrorClass error_class, std::int64_t after_step = 7) {
  return {.kind = ScriptedFault::Kind::error, .after_step = after_step, .error_class = error_class};
}

ScriptedFault death_at(std::int64_t step) {
  return {.kind = ScriptedFault::Kind::death, .after_step = step};
}

void check_others_done(const ScriptedRun& paper) {
  for (const char* const name : {"a", "c"}) {
    const journal::RunState state = paper.state();
    CHECK(state.find(name)->state == JobState::done);
    CHECK(state.find(name)->attempts.size() == 1);
  }
  CHECK(paper.launcher->overlaps().empty());
  CHECK(paper.launcher->num_living() == 0);
}

// What stands on disk and must be the same however often the controller died.
std::string outcome_of(const journal::RunState& state) {
  std::string text;
  for (const JobRecord& record : state.jobs) {
    text += record.name + " " + journal::to_string(record.state) + " " + std::to_string(record.step);
    for (const auto& [name, value] : record.metrics) text += " " + name + "=" + std::to_string(value);
    text += "\n";
  }
  return text;
}

struct Crash {};

TEST_SUITE("run") {
  TEST_CASE("run/recovery: a rank's death is followed by a restart from the last checkpoint") {
    ScriptedRun paper({faulty(1, death_at(7))});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->faults.empty());
    const journal::RunState state = paper.state();
    const JobRecord& b = *state.find("b");
    CHECK(b.state == JobState::done);
    REQUIRE(b.attempts.size() == 2);
    CHECK(b.attempts[0].error_class == "rank_lost");
    CHECK(b.attempts[0].last_step == 7);
    CHECK(b.attempts[1].from_step == 5);
    CHECK(b.attempts[1].resume_from == "checkpoints/step-000005");
    CHECK(b.attempts[1].start_s - *b.attempts[0].end_s >= 1.0);
    CHECK(paper.trained("b").back().ranks.front().resume_from ==
          paper.paths().job("b") + "/checkpoints/step-000005");
    check_others_done(paper);
  }

  TEST_CASE("run/recovery: a job that dies once too often fails alone and is retried on request only") {
    ScriptedRun paper({faulty(1, death_at(2)), faulty(2, death_at(3)), faulty(3, death_at(4))});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    REQUIRE(ran->faults.size() == 1);
    CHECK(exit_code(ran->faults) == 1);
    const std::string text = to_text(ran->faults);
    CHECK(text.starts_with(paper.paths().log("b") + ":3:1: error: job \"b\" failed at step 4 (rank_lost)"));
    CHECK(text.find("for the third time") != std::string::npos);
    CHECK(text.find("at most 2 restarts (max_restarts") != std::string::npos);
    CHECK(text.find("--retry-failed") != std::string::npos);
    CHECK(paper.state().find("b")->attempts.size() == 3);
    CHECK(ran->summary.outcome == "failed");
    check_others_done(paper);

    const Result<SessionResult> again = paper.run();
    REQUIRE(again.ok());
    CHECK(paper.launcher->launched().empty());
    CHECK(exit_code(again->faults) == 1);

    paper.request.retry_failed = true;
    paper.script({});
    const Result<SessionResult> retried = paper.run();
    REQUIRE(retried.ok());
    CHECK(retried->faults.empty());
    CHECK(paper.state().find("b")->state == JobState::done);
    CHECK(paper.state().find("b")->attempts.front().number == 4);
  }

  TEST_CASE(
      "run/recovery: the same failure at the same step three times ends the job whatever it may restart") {
    ScriptedRun paper({faulty(0, death_at(5))});
    paper.write_batch({"a", "b", "c"}, "", "checkpoint_every = 5\nmax_restarts = 50\n");
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(paper.state().find("b")->attempts.size() == 3);
    CHECK(to_text(ran->faults).find("three times at step 5") != std::string::npos);
    check_others_done(paper);
  }

  TEST_CASE("run/recovery: failures that would come again end the job at once") {
    for (const ErrorClass error_class :
         {ErrorClass::data, ErrorClass::numerical, ErrorClass::bad_configuration, ErrorClass::disk_full}) {
      CAPTURE(worker::to_string(error_class));
      ScriptedRun paper({faulty(0, error_of(error_class))});
      const Result<SessionResult> ran = paper.run();
      REQUIRE(ran.ok());
      CHECK(ran->faults.size() == 1);
      CHECK(exit_code(ran->faults) == 1);
      CHECK(paper.state().find("b")->attempts.size() == 1);
      CHECK(paper.state().find("b")->state == JobState::failed);
      check_others_done(paper);
    }
  }

  TEST_CASE("run/recovery: a checkpoint that cannot be continued from is followed by a new beginning") {
    ScriptedRun paper({faulty(1, death_at(7)), faulty(2, error_of(ErrorClass::data, 0))});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->faults.empty());
    const journal::RunState state = paper.state();
    const JobRecord& b = *state.find("b");
    REQUIRE(b.attempts.size() == 3);
    CHECK(b.attempts[1].from_step == 5);
    CHECK(b.attempts[2].from_step == 0);
    CHECK(b.state == JobState::done);
  }

  TEST_CASE("run/recovery: out of memory strikes that configuration and the job goes on under another") {
    // single x1 runs out during the run, though its trial did not.
    ScriptedRun paper({{.job = "b",
                        .technique = "single",
                        .num_devices = 1,
                        .mode = Mode::train,
                        .script = {.step_time_s = 1.0, .fault = error_of(ErrorClass::out_of_memory)}}});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->faults.empty());
    const journal::RunState state = paper.state();
    const JobRecord& b = *state.find("b");
    CHECK(b.state == JobState::done);
    REQUIRE(b.struck.size() == 1);
    CHECK(b.struck.front().technique == "single");
    REQUIRE(b.attempts.size() == 2);
    CHECK(b.attempts[1].num_devices == 2);
    CHECK(b.attempts[1].from_step == 5);
    CHECK(state.plans.size() >= 2);
    CHECK(state.plans.back().reason.find("job \"b\" cannot run as single x1") != std::string::npos);
    check_others_done(paper);
  }

  TEST_CASE("run/recovery: a job whose every configuration is struck fails alone") {
    ScriptedRun paper({faulty(0, error_of(ErrorClass::out_of_memory))});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->faults.size() == 1);
    CHECK(exit_code(ran->faults) == 1);
    CHECK(paper.state().find("b")->state == JobState::failed);
    CHECK(paper.state().find("b")->reason.find("failed during the run") != std::string::npos);
    check_others_done(paper);
  }

  TEST_CASE("run/recovery: a rank that stands still is ended and its job restarted") {
    ScriptedRun paper({faulty(1, {.kind = ScriptedFault::Kind::hang, .after_step = 7})});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    const journal::RunState state = paper.state();
    const JobRecord& b = *state.find("b");
    REQUIRE(b.attempts.size() == 2);
    CHECK(b.attempts[0].error_class == "hang");
    CHECK(b.attempts[0].message.find("while in \"step\"") != std::string::npos);
    CHECK(*b.attempts[0].end_s - b.attempts[0].start_s < 80.0);
    CHECK(b.state == JobState::done);
    check_others_done(paper);
  }

  TEST_CASE("run/recovery: a rank that gives no sign of life is found and named in seconds (fault 5)") {
    ScriptedRun paper({faulty(1, {.kind = ScriptedFault::Kind::freeze, .after_step = 7})});
    REQUIRE(paper.run().ok());
    const JobRecord b = *paper.state().find("b");
    REQUIRE(b.attempts.size() == 2);
    CHECK(b.attempts[0].error_class == "hang");
    CHECK(b.attempts[0].message.find("rank 0 gives no sign of life for 15") != std::string::npos);
    CHECK(b.attempts[0].message.find("while in \"step\", after step 7") != std::string::npos);
    CHECK(*b.attempts[0].end_s - b.attempts[0].start_s < 30.0);
    CHECK(b.state == JobState::done);
    check_others_done(paper);
  }

  TEST_CASE("run/recovery: a step that is not finite is skipped within a budget of the whole job (fault 9)") {
    const auto bad_at = [](std::set<std::int64_t> steps) {
      return
          [steps](std::int64_t step) { return steps.contains(step) ? NAN : 1.0 / static_cast<double>(step); };
    };
    ScriptRow row = faulty(1, death_at(12));
    row.script.loss_of = bad_at({7, 11});
    ScriptRow second = faulty(2, {});
    second.script.fault.reset();
    second.script.loss_of = bad_at({7, 11});
    ScriptedRun paper({row, second});
    REQUIRE(paper.run().ok());
    const JobRecord b = *paper.state().find("b");
    CHECK(b.state == JobState::done);
    CHECK(b.skipped_steps == std::set<std::int64_t>{7, 11});
    CHECK(journal::summarise(paper.state()).jobs[1].trouble() == "2 steps skipped");
    CHECK(paper.observer.count(EventKind::skipped, "b") == 3);  // step 11 came again after the restart
    REQUIRE(paper.trained("b").size() == 2);
    CHECK(paper.trained("b")[0].ranks.front().max_skipped_steps == 10);
    CHECK(paper.trained("b")[0].ranks.front().num_skipped_steps == 0);
    CHECK(paper.trained("b")[1].ranks.front().from_step == 10);
    CHECK(paper.trained("b")[1].ranks.front().num_skipped_steps == 1);
    check_others_done(paper);
  }

  TEST_CASE("run/recovery: a checkpoint that the disk has no room for costs the checkpoint alone (fault 4)") {
    ScriptRow row = faulty(1, {});
    row.script.fault.reset();
    row.script.save_fails_of = [](std::int64_t step) { return step == 10; };
    ScriptedRun paper({row});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(paper.state().find("b")->state == JobState::done);
    CHECK(paper.state().find("b")->attempts.size() == 1);
    CHECK(paper.state().find("b")->checkpoint->step == 15);
    CHECK(ran->exit_code == 1);
    CHECK(to_text(ran->faults).find("1 checkpoint of job \"b\" could not be written") != std::string::npos);
    CHECK(paper.observer.count(EventKind::warning, "b") == 1);
    CHECK(ran->summary.jobs[1].num_failed_saves == 1);
    CHECK(ran->summary.jobs[1].trouble() == "1 checkpoint not saved");
    check_others_done(paper);
    const Result<SessionResult> again = paper.run();
    REQUIRE(again.ok());
    CHECK(again->exit_code == 0);  // it was told once
  }

  TEST_CASE(
      "run/recovery: a damaged checkpoint is told of and the next attempt begins with the one before (fault "
      "11)") {
    ScriptRow second = faulty(2, death_at(8));  // dies before it has saved again
    second.script.falls_back_to = 5;
    ScriptedRun paper({faulty(1, death_at(12)), second});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    const JobRecord b = *paper.state().find("b");
    CHECK(b.state == JobState::done);
    REQUIRE(b.attempts.size() == 3);
    CHECK(b.attempts[1].from_step == 10);
    CHECK(b.attempts[2].from_step == 5);
    CHECK(b.attempts[2].resume_from == "checkpoints/step-000005");
    CHECK(paper.observer.count(EventKind::warning, "b") == 1);
    check_others_done(paper);
  }

  TEST_CASE(
      "run/recovery: a device that is lost takes no new attempts and the job goes on elsewhere (fault 21)") {
    ScriptedRun paper({faulty(1, error_of(ErrorClass::device_lost))});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->summary.outcome == "done");
    const JobRecord b = *paper.state().find("b");
    REQUIRE(b.attempts.size() == 2);
    CHECK(b.attempts[0].error_class == "device_lost");
    REQUIRE(paper.state().drained.size() == 1);
    CHECK(b.attempts[0].devices.front() == paper.state().drained.front());
    CHECK(b.attempts[1].devices.front() != paper.state().drained.front());
    CHECK(b.attempts[1].from_step == 5);
    CHECK(paper.launcher->overlaps().empty());
  }

  TEST_CASE("run/recovery: somebody's signal to a rank is told apart from a crash") {
    ScriptedRun paper({faulty(1, {.kind = ScriptedFault::Kind::death, .after_step = 7, .signal = 15})});
    REQUIRE(paper.run().ok());
    CHECK(paper.state().find("b")->attempts[0].error_class == "killed");
    CHECK(paper.state().find("b")->state == JobState::done);
    check_others_done(paper);
  }

  TEST_CASE("run/recovery: a jump of the wall clock changes nothing (fault 22)") {
    ScriptedRun paper;
    bool jumped = false;
    paper.observer.after_event = [&](const journal::Event& event) {
      if (jumped || event.kind != EventKind::checkpoint) return;
      jumped = true;
      paper.clock().jump_unix_s(-7.0e7);
    };
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->summary.outcome == "done");
    CHECK(ran->summary.makespan_s < 100.0);
    CHECK(std::abs(*ran->summary.prediction_error()) < 0.1);
    double before_s = 0.0;
    bool backwards = false;
    for (const journal::Event& event : paper.observer.events) {
      CHECK(event.time_s >= before_s);
      before_s = event.time_s;
      backwards |= event.unix_s < 1.65e9;
    }
    CHECK(backwards);
    check_others_done(paper);
  }

  TEST_CASE("run/recovery: the time that the controller itself was stopped is nobody's hang") {
    ScriptedRun paper({faulty(1, {.kind = ScriptedFault::Kind::freeze, .after_step = 7})});
    int num_hangs = 0;
    bool stopped = false;
    paper.observer.after_event = [&](const journal::Event& event) {
      if (!stopped && event.kind == EventKind::checkpoint && event.job == "a") {
        stopped = true;
        paper.clock().advance_s(5000.0);
      }
      if (event.kind == EventKind::attempt_ended && event.details["class"] == "hang") ++num_hangs;
    };
    REQUIRE(paper.run().ok());
    CHECK(stopped);
    CHECK(num_hangs == 1);
    CHECK(paper.state().find("a")->attempts.size() == 1);
    CHECK(paper.state().find("b")->state == JobState::done);
  }

  TEST_CASE("run/recovery: the first signal saves what runs and the next run goes on from there") {
    ScriptedRun paper;
    bool stop = false;
    paper.observer.after_event = [&](const journal::Event& event) {
      stop |= event.kind == EventKind::progress && event.details["step"] > 8;
    };
    paper.stop_count = [&] { return stop ? 1 : 0; };
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->interrupted);
    CHECK(ran->summary.outcome == "interrupted");
    CHECK(paper.launcher->num_living() == 0);
    const journal::RunState stopped = paper.state();
    int num_saved = 0;
    for (const JobRecord& record : stopped.jobs) {
      CHECK(record.state == JobState::pending);
      CHECK(record.num_failures() == 0);
      num_saved += record.checkpoint && record.checkpoint->step > 8 ? 1 : 0;
    }
    CHECK(num_saved >= 1);

    paper.observer.after_event = nullptr;
    stop = false;
    paper.clock().advance_s(3600.0);
    const Result<SessionResult> again = paper.run();
    REQUIRE(again.ok());
    CHECK(again->summary.outcome == "done");
    for (const worker::LaunchRequest& request : paper.trained()) {
      const JobRecord& before = *stopped.find(request.ranks.front().job["name"].get<std::string>());
      CHECK(request.ranks.front().from_step == (before.checkpoint ? before.checkpoint->step : 0));
    }
    CHECK(again->summary.makespan_s < 100.0);  // the hour in between is nobody's run time
    CHECK(std::abs(*again->summary.prediction_error()) < 0.1);
  }

  TEST_CASE("run/recovery: the second signal ends everything at once") {
    ScriptedRun paper;
    int signals = 0;
    paper.observer.after_event = [&](const journal::Event& event) {
      if (event.kind == EventKind::training) signals = std::max(signals, 1);
      if (event.kind == EventKind::stopping) signals = 2;
    };
    paper.stop_count = [&] { return signals; };
    const double began_s = paper.clock().now_s();
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->interrupted);
    CHECK(paper.launcher->num_living() == 0);
    CHECK(paper.observer.count(EventKind::checkpoint) == 0);
    CHECK(paper.clock().now_s() > began_s);
  }

  TEST_CASE("run/recovery: a job that does not save in time is killed after a grace of its own measure") {
    ScriptedRun paper({{.mode = Mode::train, .script = {.save_s = 100.0, .step_time_s = 30.0}}});
    paper.write_batch({"a", "b", "c"}, "", "");
    double asked_s = -1.0;
    paper.observer.after_event = [&](const journal::Event& event) {
      if (event.kind == EventKind::training && asked_s < 0.0) asked_s = paper.clock().now_s();
    };
    paper.stop_count = [&] { return asked_s >= 0.0 ? 1 : 0; };
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->interrupted);
    CHECK(paper.launcher->num_living() == 0);
    // 5 s, two steps of the 30 s that were seen, three saves of the 0.1 s that were measured; then TERM and
    // KILL.
    CHECK(paper.clock().now_s() - asked_s <= 5.0 + 60.0 + 0.3 + 1.0);
  }

  TEST_CASE("run/recovery: what was saved before the controller died and not journaled is gone on from") {
    struct Row {
      std::string label;
      std::int64_t saved;  ///< on disk when the controller dies; the journal knows of step 5
      bool damaged = false;
      std::int64_t want = 0;
    };
    for (const Row& row : {Row{"newer", 10, false, 10}, Row{"newer without a whole manifest", 10, true, 5},
                           Row{"older", 3, false, 5}}) {
      CAPTURE(row.label);
      ScriptedRun paper;
      paper.observer.after_event = [](const journal::Event& event) {
        if (event.kind == EventKind::checkpoint && event.job == "b") throw Crash{};
      };
      CHECK_THROWS_AS((void)paper.run(), Crash);
      paper.observer.after_event = nullptr;
      REQUIRE(paper.state().find("b")->checkpoint->step == 5);
      const std::string saved =
          paper.paths().job("b") + "/checkpoints/" + checkpoint::name_of_step(row.saved);
      REQUIRE(testing::save_made_up(saved, row.saved).ok());
      if (row.damaged) REQUIRE(::truncate((saved + "/manifest.json").c_str(), 9) == 0);
      REQUIRE(paper.run().ok());
      REQUIRE(!paper.trained("b").empty());
      const worker::Assign assign = paper.trained("b").front().ranks.front();
      CHECK(assign.from_step == row.want);
      CHECK(assign.resume_from ==
            paper.paths().job("b") + "/checkpoints/" + checkpoint::name_of_step(row.want));
      CHECK(paper.state().find("b")->state == JobState::done);
    }
  }

  TEST_CASE("run/recovery: a controller that dies after any event is followed by one that ends the same") {
    const std::vector<ScriptRow> table = {faulty(1, death_at(7))};
    ScriptedRun undisturbed(table);
    REQUIRE(undisturbed.run().ok());
    const std::string want = outcome_of(undisturbed.state());
    const int num_events = static_cast<int>(undisturbed.observer.events.size());
    REQUIRE(num_events > 20);
    for (int crash_at = 1; crash_at <= num_events; ++crash_at) {
      CAPTURE(crash_at);
      ScriptedRun paper(table);
      int seen = 0;
      paper.observer.after_event = [&](const journal::Event&) {
        if (++seen == crash_at) throw Crash{};
      };
      try {
        (void)paper.run();
      } catch (const Crash&) {
      }
      const journal::RunState crashed = paper.state();
      paper.observer.after_event = nullptr;
      const Result<SessionResult> resumed = paper.run();
      REQUIRE(resumed.ok());
      CHECK(outcome_of(paper.state()) == want);
      for (const JobRecord& before : crashed.jobs) {
        if (before.state == JobState::done) CHECK(paper.trained(before.name).empty());
        for (const worker::LaunchRequest& request : paper.trained(before.name)) {
          const bool first = request.attempt == paper.trained(before.name).front().attempt;
          if (first)
            CHECK(request.ranks.front().from_step == (before.checkpoint ? before.checkpoint->step : 0));
        }
      }
    }
  }
}

}  // namespace
}  // namespace saturn::run

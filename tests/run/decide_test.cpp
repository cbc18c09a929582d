// The decisions, without anything that runs.

#include "saturn/run/decide.h"

#include <doctest/doctest.h>

namespace saturn::run {
namespace {

using journal::JobRecord;
using journal::JobState;

JobRecord pending(const std::string& name) {
  return {.name = name, .num_steps = 10};
}

JobRecord running(const std::string& name, std::vector<int> devices) {
  JobRecord record = pending(name);
  record.state = JobState::training;
  journal::Attempt attempt{.number = 1};
  for (const int index : devices) attempt.devices.push_back({.node = "n", .index = index});
  record.attempts.push_back(attempt);
  return record;
}

plan::Assignment assignment(const std::string& job, std::vector<int> devices, double start_s,
                            int num_ranks = 1) {
  plan::Assignment entry{
      .job = job, .num_ranks = num_ranks, .start_s = start_s, .to_step = 10, .trial = "t-" + job};
  for (const int index : devices) entry.devices.push_back({.node = "n", .index = index});
  return entry;
}

struct Case {
  std::vector<JobRecord> jobs;
  std::vector<plan::Assignment> assignments;
  double time_s = 0.0;
};

std::string starts(const Case& c) {
  const journal::RunState state{.jobs = c.jobs};
  const plan::Plan plan{.assignments = c.assignments};
  std::set<std::string> selected;
  for (const JobRecord& record : c.jobs) selected.insert(record.name);
  const Moves moves = next_moves({.state = state, .plan = plan, .selected = selected, .time_s = c.time_s});
  std::string text = moves.finished ? "finished" : "";
  for (const plan::Assignment* const start : moves.start) text += (text.empty() ? "" : " ") + start->job;
  return text + "|" + std::to_string(moves.num_standby);
}

JobRecord with_failures(int n, const std::string& error_class, std::int64_t step) {
  JobRecord record = pending("j");
  for (int i = 1; i <= n; ++i)
    record.attempts.push_back({.number = i, .end_s = 1.0 * i, .last_step = step, .error_class = error_class});
  record.attempts.push_back({.number = n + 1});
  record.state = JobState::training;
  return record;
}

TEST_SUITE("run") {
  TEST_CASE("run/decide: assignments start in plan order on devices that nobody holds or wants before them") {
    const std::vector<plan::Assignment> three = {assignment("a", {0}, 0), assignment("b", {1}, 0),
                                                 assignment("c", {0, 1}, 5, 2)};
    CHECK(starts({{pending("a"), pending("b"), pending("c")}, three}) == "a b|2");
    CHECK(starts({{running("a", {0}), pending("b"), pending("c")}, three}) == "b|2");
    CHECK(starts({{running("a", {0}), running("b", {1}), pending("c")}, three}) == "|2");
    CHECK(starts({{running("a", {1}), pending("b"), pending("c")}, three}) == "|1");
    JobRecord done = pending("a");
    done.state = JobState::done;
    CHECK(starts({{done, running("b", {1}), pending("c")}, three}) == "|1");
  }

  TEST_CASE("run/decide: a job behind one that waits does not overtake it on a device both want") {
    const std::vector<plan::Assignment> plan = {assignment("a", {0}, 0), assignment("wide", {0, 1}, 5),
                                                assignment("late", {1}, 9)};
    CHECK(starts({{running("a", {0}), pending("wide"), pending("late")}, plan}) == "|1");
  }

  TEST_CASE("run/decide: a job in back-off keeps its place and wakes the loop") {
    JobRecord waiting = pending("a");
    waiting.not_before_s = 8.0;
    const Case c{{waiting, pending("b")}, {assignment("a", {0}, 0), assignment("b", {0}, 5)}, 7.0};
    CHECK(starts(c) == "|0");
    const journal::RunState state{.jobs = c.jobs};
    const plan::Plan plan{.assignments = c.assignments};
    const std::set<std::string> selected = {"a", "b"};
    CHECK(next_moves({.state = state, .plan = plan, .selected = selected, .time_s = 7.0}).wake_at_s == 8.0);
    CHECK(next_moves({.state = state, .plan = plan, .selected = selected, .time_s = 8.0}).start.size() == 1);
  }

  TEST_CASE("run/decide: nothing starts on an excluded device") {
    const journal::RunState state{.jobs = {pending("a"), pending("b")}};
    const plan::Plan plan{.assignments = {assignment("a", {0}, 0), assignment("b", {1}, 0)}};
    const std::set<std::string> selected = {"a", "b"};
    const std::vector<plan::Device> excluded = {{.node = "n", .index = 0}};
    const Moves moves =
        next_moves({.state = state, .plan = plan, .selected = selected, .excluded = excluded});
    REQUIRE(moves.start.size() == 1);
    CHECK(moves.start.front()->job == "b");
    CHECK_FALSE(moves.finished);
  }

  TEST_CASE("run/decide: a struck configuration does not start and does not stand in the way") {
    JobRecord struck = pending("a");
    struck.struck.push_back({.trial = "t-a"});
    CHECK(starts({{struck, pending("b")}, {assignment("a", {0}, 0), assignment("b", {0}, 5)}}) == "b|0");
  }

  TEST_CASE("run/decide: segments follow one another from checkpoint to checkpoint") {
    plan::Assignment first = assignment("a", {0}, 0);
    first.to_step = 4;
    plan::Assignment second = assignment("a", {1}, 5);
    second.from_step = 4;
    CHECK(starts({{pending("a")}, {first, second}}) == "a|0");
    JobRecord half = pending("a");
    half.checkpoint = journal::Checkpoint{.path = "checkpoints/step-000004", .step = 4};
    const journal::RunState state{.jobs = {half}};
    const plan::Plan plan{.assignments = {first, second}};
    const std::set<std::string> selected = {"a"};
    const Moves moves = next_moves({.state = state, .plan = plan, .selected = selected});
    REQUIRE(moves.start.size() == 1);
    CHECK(moves.start.front()->from_step == 4);
  }

  TEST_CASE("run/decide: the run is over when no selected job waits and nothing runs") {
    JobRecord failed = pending("a");
    failed.state = JobState::failed;
    JobRecord paused = pending("b");
    paused.state = JobState::paused;
    CHECK(starts({{failed, paused}, {}}) == "finished|0");
    CHECK(starts({{failed, running("b", {0})}, {}}) == "|0");
    CHECK(starts({{failed, pending("b")}, {}}) == "|0");
  }

  TEST_CASE("run/decide: each class of failure has its policy") {
    const batch::RunSettings settings{.max_restarts = 2};
    struct Row {
      std::string error_class;
      int failures_before;
      JobState next;
      double retry_after_s;
      bool strike;
    };
    const std::vector<Row> rows = {
        {"out_of_memory", 0, JobState::pending, 0.0, true},
        {"host_out_of_memory", 0, JobState::pending, 0.0, true},
        {"unsupported", 5, JobState::pending, 0.0, true},
        {"data", 0, JobState::failed, 0.0, false},
        {"numerical", 0, JobState::failed, 0.0, false},
        {"bad_configuration", 0, JobState::failed, 0.0, false},
        {"disk_full", 0, JobState::failed, 0.0, false},
        {"rank_lost", 0, JobState::pending, 1.0, false},
        {"hang", 1, JobState::pending, 2.0, false},
        {"internal", 2, JobState::failed, 0.0, false},
        {"peer_lost", 0, JobState::pending, 1.0, false},
        {"killed", 0, JobState::pending, 1.0, false},
        {"device_lost", 7, JobState::pending, 0.0, false},
    };
    std::set<std::string> without = {};
    for (const std::string& name : failure_classes()) without.insert(name);
    for (const Row& row : rows) {
      CAPTURE(row.error_class);
      const AttemptEnd end{.step = 7, .error_class = row.error_class, .message = "m", .made_progress = true};
      const Verdict verdict =
          verdict_on(end, with_failures(row.failures_before, row.error_class, 3), settings);
      CHECK(verdict.next == row.next);
      CHECK(verdict.retry_after_s == row.retry_after_s);
      CHECK(verdict.strike == row.strike);
      CHECK(verdict.drain == (row.error_class == "device_lost"));
      CHECK_FALSE(verdict.message.empty());
      without.erase(row.error_class);
    }
    CHECK(without.empty());
  }

  TEST_CASE("run/decide: the back-off doubles up to a minute and the same step three times is enough") {
    const batch::RunSettings patient{.max_restarts = 100};
    const AttemptEnd end{.step = 7, .error_class = "rank_lost", .message = "m", .made_progress = true};
    CHECK(verdict_on(end, with_failures(3, "rank_lost", 3), patient).retry_after_s == 8.0);
    CHECK(verdict_on(end, with_failures(30, "rank_lost", 3), patient).retry_after_s == 60.0);
    CHECK(verdict_on(end, with_failures(1, "rank_lost", 7), patient).next == JobState::pending);
    CHECK(verdict_on(end, with_failures(2, "rank_lost", 7), patient).next == JobState::failed);
    CHECK(verdict_on(end, with_failures(2, "hang", 7), patient).next == JobState::pending);
  }

  TEST_CASE("run/decide: a job that was asked to stop has not failed and one that finished is done") {
    const batch::RunSettings settings;
    JobRecord record = with_failures(0, "", 0);
    CHECK(verdict_on({.finished = true, .step = 10}, record, settings).next == JobState::done);
    CHECK(verdict_on({.finished = true, .step = 6}, record, settings).next == JobState::pending);
    record.attempts.back().requested = true;
    const Verdict killed =
        verdict_on({.step = 6, .error_class = "rank_lost", .message = "m"}, record, settings);
    CHECK(killed.next == JobState::pending);
    CHECK(killed.retry_after_s == 0.0);
    CHECK(verdict_on({.finished = true, .step = 10}, record, settings).next == JobState::done);
    record.attempts.back().next = JobState::cancelled;
    CHECK(verdict_on({.finished = true, .step = 6}, record, settings).next == JobState::cancelled);
  }

  TEST_CASE(
      "run/decide: a configuration that fails twice before its first step is struck and a signal is not "
      "blamed on a step") {
    const batch::RunSettings patient{.max_restarts = 100};
    AttemptEnd end{.step = 0, .error_class = "internal", .message = "m"};
    CHECK_FALSE(verdict_on(end, with_failures(0, "internal", 0), patient).strike);
    CHECK(verdict_on(end, with_failures(1, "internal", 0), patient).strike);
    end.made_progress = true;
    CHECK_FALSE(verdict_on(end, with_failures(1, "internal", 0), patient).strike);
    const AttemptEnd killed{.step = 7, .error_class = "killed", .message = "m", .made_progress = true};
    CHECK(verdict_on(killed, with_failures(9, "killed", 7), patient).next == JobState::pending);
  }

  TEST_CASE("run/decide: hang limits and grace follow what the trial measured") {
    const profile::Trial trial{.step_time_s = 10.0,
                               .step_time_spread_s = 1.0,
                               .start_time_s = 2.0,
                               .save_time_s = 40.0,
                               .load_time_s = 30.0,
                               .evaluate_time_s = 1.0,
                               .end_time_s = 50.0};
    CHECK(hang_limit_s("step", &trial, 0.0) == 20.0 * 13.0);
    CHECK(hang_limit_s("step", &trial, 100.0) == 2000.0);
    CHECK(hang_limit_s("loading", &trial, 0.0) == 20.0 * 32.0);
    CHECK(hang_limit_s("saving", &trial, 0.0) == 800.0);
    CHECK(hang_limit_s("evaluating", &trial, 0.0) == 300.0);
    CHECK(hang_limit_s("writing the model", &trial, 0.0) == 1000.0);
    CHECK(hang_limit_s("step", nullptr, 0.0) == 30.0);
    CHECK(hang_limit_s("loading", nullptr, 0.0) == 900.0);
    CHECK(stop_grace_s(&trial, 1.0, 1.0) == 5.0 + 2.0 * 10.0 + 3.0 * 40.0);
    CHECK(stop_grace_s(nullptr, 1.0, 2.0) == 5.0 + 2.0 + 6.0);
  }
}

}  // namespace
}  // namespace saturn::run

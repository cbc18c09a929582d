// The fold, and what summary.json makes of it.

#include "saturn/journal/run_state.h"

#include <doctest/doctest.h>

#include "saturn/journal/summary.h"

namespace saturn::journal {
namespace {

// Writes a journal by hand: seq and time advance by themselves.
class Script {
 public:
  Script() {
    add(EventKind::run_started, "", 0,
        {{"format", kEventsFormat}, {"saturn", "0.1.0"}, {"pid", 11}, {"host", "here"}});
  }

  Script& add(EventKind kind, const std::string& job, int attempt, Json details) {
    Event event{.seq = static_cast<std::int64_t>(events.size()),
                .time_s = time_s,
                .unix_s = 1.0e9 + time_s,
                .kind = kind,
                .job = job,
                .attempt = attempt};
    event.details = std::move(details);
    events.push_back(std::move(event));
    return *this;
  }
  Script& after(double seconds) {
    time_s += seconds;
    return *this;
  }
  Script& accept(const std::string& reset_of_b = "") {
    Json b = {{"name", "b"}, {"result_digest", reset_of_b.empty() ? "bb" : "b2"}, {"num_steps", 20}};
    if (!reset_of_b.empty()) b["reset"] = reset_of_b;
    return add(EventKind::batch_accepted, "", 0,
               {{"file", "batch.000.toml"},
                {"path", "/x/sweep.toml"},
                {"digest", "d0"},
                {"name", "sweep"},
                {"jobs", {{{"name", "a"}, {"result_digest", "aa"}, {"num_steps", 10}}, b}}});
  }
  Script& plan(double origin_s, double makespan_s) {
    return add(EventKind::planned, "", 0,
               {{"file", "plan.000.json"},
                {"digest", "p0"},
                {"origin_s", origin_s},
                {"makespan_s", makespan_s},
                {"lower_bound_s", makespan_s * 0.9},
                {"reason", "there is none"}});
  }
  Script& start(const std::string& job, int attempt, int device, std::int64_t from_step = 0) {
    return add(EventKind::attempt_started, job, attempt,
               {{"technique", "single"},
                {"num_devices", 1},
                {"num_ranks", 1},
                {"device_class", "cpu"},
                {"node", "local"},
                {"devices", {device}},
                {"knobs", Json::object()},
                {"trial", "t-" + job},
                {"from_step", from_step},
                {"to_step", 10},
                {"resume_from", ""},
                {"predicted_s", 6.0},
                {"ranks", {{{"pid", 100}, {"start_ticks", 4242}}}}});
  }
  Script& step(const std::string& job, int attempt, std::int64_t step, double loss) {
    return add(EventKind::training, job, attempt, {{"step", step}, {"loss", loss}, {"step_time_s", 0.5}});
  }
  Script& end(const std::string& job, int attempt, const char* next, std::int64_t step,
              const char* error_class = "") {
    return add(EventKind::attempt_ended, job, attempt,
               {{"next", next},
                {"class", error_class},
                {"message", error_class},
                {"step", step},
                {"retry_after_s", 2.0},
                {"metrics", {{"validation_loss", job == "a" ? 1.5 : 1.25}}}});
  }

  std::vector<Event> events;
  double time_s = 0.0;
};

Script whole_run() {
  Script script;
  script.accept().plan(0.0, 12.0).start("a", 1, 0).after(1.0).step("a", 1, 1, 5.0);
  script.after(3.0)
      .end("a", 1, "pending", 4, "internal")
      .after(2.0)
      .start("a", 2, 0)
      .after(1.0)
      .step("a", 2, 1, 5.0);
  script.start("b", 1, 1).after(4.0).step("b", 1, 1, 4.0).end("b", 1, "done", 20).end("a", 2, "done", 10);
  script.add(EventKind::run_ended, "", 0, {{"outcome", "done"}, {"exit_code", 0}});
  return script;
}

}  // namespace

TEST_SUITE("journal") {
  TEST_CASE("journal/run_state: a run with a failure and a retry folds to what happened") {
    const Result<RunState> state = fold(whole_run().events);
    REQUIRE(state.ok());
    CHECK(state->batch_name == "sweep");
    CHECK(state->controller_pid == 11);
    CHECK(state->all_final());
    CHECK(state->ended);
    const JobRecord* const a = state->find("a");
    REQUIRE(a != nullptr);
    REQUIRE(a->attempts.size() == 2);
    CHECK(a->num_failures() == 1);
    CHECK(a->attempts[0].error_class == "internal");
    CHECK(a->attempts[0].end_s == 4.0);
    CHECK(a->attempts[0].ranks.front().start_ticks == 4242);
    CHECK(a->attempts[1].first_step_s == 7.0);
    CHECK(a->attempts[1].devices.front() == plan::Device{.node = "local", .index = 0});
    CHECK(a->not_before_s == doctest::Approx(13.0));
    CHECK(a->time_s(100.0) == doctest::Approx(4.0 + 5.0));
    CHECK(state->find("b")->metrics.at("validation_loss") == 1.25);
  }

  TEST_CASE("journal/run_state: every prefix folds and every dropped line is noticed") {
    const std::vector<Event> events = whole_run().events;
    for (std::size_t n = 0; n <= events.size(); ++n) {
      CHECK(fold({events.begin(), events.begin() + static_cast<std::ptrdiff_t>(n)}).ok());
      if (n + 1 >= events.size()) continue;
      std::vector<Event> gap = events;
      gap.erase(gap.begin() + static_cast<std::ptrdiff_t>(n));
      CAPTURE(n);
      CHECK_FALSE(fold(gap).ok());
    }
  }

  TEST_CASE("journal/run_state: an event that cannot follow changes nothing and names its line") {
    const auto refused = [](Script script, const char* said) {
      RunState state;
      const std::vector<Event> good(script.events.begin(), script.events.end() - 1);
      for (const Event& event : good) REQUIRE(apply(state, event).ok());
      const std::string before = to_text(to_json(summarise(state)));
      const Result<void> applied = apply(state, script.events.back(), "events.jsonl:9:1");
      REQUIRE_FALSE(applied.ok());
      CHECK(applied.faults().front().where.starts_with("events.jsonl:9:1"));
      CHECK(to_text(applied.faults()).find(said) != std::string::npos);
      CHECK(to_text(to_json(summarise(state))) == before);
      CHECK(state.next_seq == static_cast<std::int64_t>(good.size()));
    };
    refused(Script().accept().step("a", 1, 1, 2.0), "does not run");
    refused(Script().accept().start("a", 2, 0), "numbered");
    refused(Script().accept().start("a", 1, 0).start("a", 2, 0), "starting");
    refused(Script().accept().start("zz", 1, 0), "not in the batch");
    refused(Script().accept().start("a", 1, 0).end("a", 1, "training", 4), "does not end in that state");
    refused(Script().accept().start("a", 1, 0).add(EventKind::saving, "a", 1, Json::object()),
            "\"step\" is missing");
    refused(Script().accept().start("a", 1, 0).accept("lr changed").start("b", 1, 0).accept("again"),
            "starting");
  }

  TEST_CASE(
      "journal/run_state: a changed job begins again with new attempt numbers and the others keep theirs") {
    Script script = whole_run();
    script.accept("lr 0.001 -> 0.0003");
    const Result<RunState> state = fold(script.events);
    REQUIRE(state.ok());
    CHECK(state->find("a")->state == JobState::done);
    const JobRecord* const b = state->find("b");
    CHECK(b->state == JobState::pending);
    CHECK(b->reason == "lr 0.001 -> 0.0003");
    CHECK(b->result_digest == "b2");
    CHECK(b->attempts.empty());
    CHECK(b->first_attempt == 2);
    CHECK(b->metrics.empty());
    CHECK(fold(script.start("b", 2, 1).events).ok());
  }

  TEST_CASE(
      "journal/run_state: a damaged checkpoint gives way to the one that was used until another is saved") {
    const auto saved = [](std::int64_t step) {
      return Json{{"step", step}, {"path", "checkpoints/step-" + std::to_string(step)}, {"save_s", 0.1}};
    };
    const Json damaged = {{"step", 4},
                          {"about", "checkpoint_damaged"},
                          {"class", "data"},
                          {"message", "cut off"},
                          {"path", "checkpoints/step-4"}};
    Script script;
    script.accept().start("a", 1, 0).step("a", 1, 1, 5.0);
    script.add(EventKind::checkpoint, "a", 1, saved(4)).add(EventKind::checkpoint, "a", 1, saved(8));
    script.end("a", 1, "pending", 8, "rank_lost").start("a", 2, 0, 8);
    script.events.back().details["resume_from"] = "checkpoints/step-8";
    script.add(EventKind::warning, "a", 2, damaged);
    const Result<RunState> state = fold(script.events);
    REQUIRE(state.ok());
    CHECK(state->find("a")->checkpoint->path == "checkpoints/step-4");
    CHECK(state->find("a")->checkpoint->step == 4);
    CHECK(state->find("a")->num_failed_saves == 0);
    // Another rank says the same, after a new one was saved.
    script.add(EventKind::checkpoint, "a", 2, saved(6)).add(EventKind::warning, "a", 2, damaged);
    CHECK(fold(script.events)->find("a")->checkpoint->step == 6);
  }

  TEST_CASE("journal/run_state: what a search decides and who paused a job can be told apart") {
    Script script;
    script.accept().plan(0.0, 10.0).start("a", 1, 0);
    script.add(EventKind::searched, "a", 0,
               {{"rung", 4}, {"step", 4}, {"value", 2.5}, {"decision", "pause"}, {"reason", "2 of 2"}});
    script.add(EventKind::stopping, "a", 1, {{"reason", "2 of 2"}, {"search", true}, {"next", "paused"}});
    script.add(EventKind::attempt_ended, "a", 1,
               {{"next", "paused"}, {"class", ""}, {"message", ""}, {"step", 5}});
    script.add(EventKind::job_changed, "b", 0, {{"happened", "pause"}, {"reason", "asked for"}});
    Result<RunState> state = fold(script.events);
    REQUIRE_MESSAGE(state.ok(), to_text(state.ok() ? Diagnostics{} : state.faults()));
    CHECK(state->find("a")->held_by_search);
    CHECK(state->find("b")->state == JobState::paused);
    CHECK_FALSE(state->find("b")->held_by_search);
    REQUIRE(state->find("a")->rungs.size() == 1);
    const std::int64_t seq = state->find("a")->rungs.front().seq;
    // A later decision at the rung keeps what was found there; letting go ends the hold.
    script.add(EventKind::searched, "a", 0, {{"rung", 4}, {"decision", "promote"}, {"reason", "1 of 2"}});
    script.add(EventKind::job_changed, "a", 0,
               {{"happened", "resume"}, {"reason", "1 of 2"}, {"search", true}});
    state = fold(script.events);
    REQUIRE(state.ok());
    CHECK_FALSE(state->find("a")->held_by_search);
    const RungRecord& rung = state->find("a")->rungs.front();
    CHECK(rung.decision == RungDecision::promote);
    CHECK(rung.value == 2.5);
    CHECK(rung.seq == seq);
    // The summary tells it, and is read back.
    const Json document = to_json(summarise(*state));
    CHECK(document["jobs"][0]["rungs"][0]["decision"] == "promote");
    const Result<Summary> back = summary_from_json(document, "summary.json");
    REQUIRE(back.ok());
    CHECK(to_text(to_json(*back)) == to_text(document));
    // Nobody goes back to a rung that a job is beyond; a decision has one of four names.
    Script wrong = script;
    wrong.add(EventKind::searched, "a", 0, {{"rung", 2}, {"step", 5}, {"decision", "stop"}, {"reason", ""}});
    CHECK_FALSE(fold(wrong.events).ok());
    wrong = script;
    wrong.add(EventKind::searched, "a", 0,
              {{"rung", 8}, {"step", 8}, {"decision", "perhaps"}, {"reason", ""}});
    CHECK_FALSE(fold(wrong.events).ok());
  }

  TEST_CASE("journal/run_state: a proposed job joins the run under its number") {
    const auto proposal = [](std::int64_t number, const std::string& name) {
      return Json{{"number", number},
                  {"parameters", {{"lr", 0.1}}},
                  {"name", name},
                  {"result_digest", "d"},
                  {"num_steps", 7}};
    };
    Script script;
    script.accept().add(EventKind::proposed, "", 0, proposal(0, "p-0"));
    const Result<RunState> state = fold(script.events);
    REQUIRE_MESSAGE(state.ok(), to_text(state.ok() ? Diagnostics{} : state.faults()));
    REQUIRE(state->jobs.size() == 3);
    CHECK(state->find("p-0")->num_steps == 7);
    CHECK(state->number_of_proposal("p-0") == 0);
    CHECK(state->number_of_proposal("a") == -1);
    CHECK(state->proposals.front().parameters["lr"] == 0.1);
    for (const Json& wrong : {proposal(0, "p-1"), proposal(2, "p-1"), proposal(1, "a")}) {
      Script other = script;
      other.add(EventKind::proposed, "", 0, wrong);
      CHECK_FALSE(fold(other.events).ok());
    }
  }

  TEST_CASE("journal/summary: predicted and measured times and the best job are what the events say") {
    const Result<RunState> state = fold(whole_run().events);
    REQUIRE(state.ok());
    const Summary summary = summarise(*state);
    CHECK(summary.outcome == "done");
    CHECK(summary.makespan_s == doctest::Approx(11.0));
    CHECK(summary.predicted_makespan_s == 12.0);
    CHECK(*summary.prediction_error() == doctest::Approx(12.0 / 11.0 - 1.0));
    CHECK(summary.best_job == "b");
    CHECK(summary.jobs[0].attempts == 2);
    CHECK(summary.jobs[0].techniques == std::vector<std::string>{"single x1"});
    CHECK(summary.jobs[0].last_attempt_s == doctest::Approx(5.0));
    CHECK(summary.jobs[1].validation.at("loss") == 1.25);
    CHECK(summary.jobs[1].model_dir == "jobs/b/model");
  }

  TEST_CASE("journal/summary: the document is read back as it was written") {
    const Summary summary = summarise(*fold(whole_run().events));
    const Json document = to_json(summary);
    const Result<Summary> back = summary_from_json(document, "summary.json");
    REQUIRE(back.ok());
    CHECK(to_text(to_json(*back)) == to_text(document));
    Json wrong = document;
    wrong["jobs"][1]["state"] = "asleep";
    const Result<Summary> refused = summary_from_json(wrong, "summary.json");
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.faults().front().where == "summary.json#/jobs/1/state");
  }
}

}  // namespace saturn::journal

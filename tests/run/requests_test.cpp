// What people ask of a run from another terminal, while a controller works and while none does.

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>

#include "saturn/base/files.h"
#include "saturn/journal/control.h"
#include "saturn/run/control.h"
#include "saturn/run/session.h"
#include "tests/support/scripted_run.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobRecord;
using journal::JobState;
using journal::Request;
using testing::ScriptedRun;
using worker::Mode;
using Verb = journal::Request::Verb;

// Posts `request` when job `job` has saved its checkpoint at `step`, once.
void post_at(ScriptedRun& paper, const std::string& job, std::int64_t step, std::vector<Request> requests) {
  auto posted = std::make_shared<bool>(false);
  auto before = paper.observer.after_event;
  paper.observer.after_event = [&paper, job, step, requests, posted, before](const Event& event) {
    if (before) before(event);
    if (*posted || event.kind != EventKind::checkpoint || event.job != job || event.details["step"] != step)
      return;
    *posted = true;
    for (const Request& request : requests) REQUIRE(journal::post(paper.paths(), request).ok());
  };
}

struct Told {
  bool accepted;
  std::string text;
};

std::vector<Told> answers(const ScriptedRun& paper) {
  std::vector<Told> told;
  for (const Event& event : paper.observer.events) {
    if (event.kind == EventKind::requested)
      told.push_back({event.details["accepted"].get<bool>(), event.details["answer"].get<std::string>()});
  }
  return told;
}

Result<Answer> ask_at_rest(ScriptedRun& paper, const Request& request) {
  SATURN_TRY(journal::RunDirectory directory, journal::RunDirectory::open(paper.root(), paper.clock()));
  return answer_at_rest(request, directory, paper.observer);
}

bool is_control_empty(const ScriptedRun& paper) {
  std::error_code ignored;
  return std::filesystem::is_empty(paper.paths().control(), ignored);
}

TEST_SUITE("run") {
  TEST_CASE("run/requests: a paused job saves and waits and goes on from there when it is resumed") {
    ScriptedRun paper;
    post_at(paper, "b", 10, {{.verb = Verb::pause, .target = "b"}});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->exit_code == 0);
    CHECK(ran->summary.outcome == "stopped");
    const JobRecord paused = *paper.state().find("b");
    CHECK(paused.state == JobState::paused);
    REQUIRE(paused.checkpoint.has_value());
    CHECK(paused.checkpoint->step > 10);
    CHECK(paused.num_failures() == 0);
    CHECK(paper.state().find("a")->state == JobState::done);
    CHECK(paper.state().find("c")->state == JobState::done);
    CHECK(is_control_empty(paper));
    REQUIRE(answers(paper).size() == 1);
    CHECK(answers(paper).front().accepted);

    const Result<Answer> resumed = ask_at_rest(paper, {.verb = Verb::resume, .target = "b"});
    REQUIRE(resumed.ok());
    CHECK(resumed->accepted);
    paper.observer.after_event = nullptr;
    REQUIRE(paper.run().ok());
    CHECK(paper.state().find("b")->state == JobState::done);
    REQUIRE(paper.trained("b").size() == 1);
    CHECK(paper.trained("b").front().ranks.front().from_step == paused.checkpoint->step);
    CHECK(paper.trained().size() == 1);
  }

  TEST_CASE("run/requests: pause and resume at once leave the job training") {
    ScriptedRun paper;
    post_at(paper, "b", 10, {{.verb = Verb::pause, .target = "b"}, {.verb = Verb::resume, .target = "b"}});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(paper.state().find("b")->state == JobState::done);
    CHECK(ran->summary.outcome == "done");
    CHECK(paper.launcher->overlaps().empty());
  }

  TEST_CASE("run/requests: a cancelled job ends alone without a checkpoint and is not run again") {
    ScriptedRun paper;
    post_at(paper, "b", 10, {{.verb = Verb::cancel, .target = "b"}});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->exit_code == 0);
    CHECK(paper.state().find("b")->state == JobState::cancelled);
    CHECK(paper.state().find("b")->checkpoint->step == 10);
    CHECK(paper.state().find("a")->state == JobState::done);
    paper.observer.after_event = nullptr;
    REQUIRE(paper.run().ok());
    CHECK(paper.trained().empty());
  }

  TEST_CASE("run/requests: stop saves everything and a second one ends at once") {
    ScriptedRun paper;
    post_at(paper, "b", 10, {{.verb = Verb::stop}});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->interrupted);
    CHECK(ran->exit_code == 143);
    CHECK(ran->summary.outcome == "stopped");
    CHECK(paper.state().find("b")->checkpoint->step > 10);
    CHECK(paper.launcher->num_living() == 0);

    ScriptedRun twice({{.mode = Mode::train, .script = {.save_s = 50.0, .step_time_s = 1.0}}});
    twice.write_batch({"a", "b", "c"}, "", "");
    double asked_s = -1.0;
    twice.observer.after_event = [&](const Event& event) {
      if (event.kind != EventKind::training || asked_s >= 0.0) return;
      asked_s = twice.clock().now_s();
      REQUIRE(journal::post(twice.paths(), {.verb = Verb::stop}).ok());
      REQUIRE(journal::post(twice.paths(), {.verb = Verb::stop}).ok());
    };
    REQUIRE(twice.run().ok());
    CHECK(twice.clock().now_s() - asked_s < 1.0);
    CHECK(twice.launcher->num_living() == 0);
  }

  TEST_CASE("run/requests: a stop that comes while trials are measured ends the run before any job") {
    ScriptedRun paper;
    REQUIRE(make_directories(paper.root()).ok());
    REQUIRE(journal::post(paper.paths(), {.verb = Verb::stop}).ok());
    const Result<SessionResult> ran = paper.run();
    REQUIRE_FALSE(ran.ok());
    CHECK(ran.faults().front().kind == Kind::interrupted);
    CHECK(is_control_empty(paper));
    CHECK(answers(paper).size() == 1);
    CHECK(paper.launcher->num_living() == 0);
  }

  TEST_CASE("run/requests: what cannot be met is refused with the reason and changes nothing") {
    ScriptedRun paper;
    post_at(paper, "b", 10,
            {{.verb = Verb::pause, .target = "bb"},
             {.verb = Verb::resume, .target = "b"},
             {.verb = Verb::drain, .target = "local:7"},
             {.verb = Verb::add, .target = "/no/such/batch.toml"},
             {.verb = Verb::cancel, .target = "../b"}});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->summary.outcome == "done");
    const std::vector<Told> told = answers(paper);
    REQUIRE(told.size() == 5);
    for (const Told& one : told) CHECK_FALSE(one.accepted);
    CHECK(told[0].text.find("did you mean \"b\"?") != std::string::npos);
    CHECK(told[1].text == "job \"b\" is training, not paused");
    CHECK(told[2].text.find("there is no device \"local:7\"") != std::string::npos);
    CHECK(told[3].text.find("/no/such/batch.toml") != std::string::npos);
    CHECK(paper.observer.count(EventKind::attempt_started) == 3);
  }

  TEST_CASE(
      "run/requests: a drained device is left by what runs there and used again when it is given back") {
    ScriptedRun paper;
    post_at(paper, "a", 10, {{.verb = Verb::drain, .target = "local:0"}});
    double drained_s = -1.0;
    auto post = paper.observer.after_event;
    paper.observer.after_event = [&](const Event& event) {
      post(event);
      if (event.kind == EventKind::device_changed) drained_s = event.time_s;
      if (event.kind == EventKind::attempt_started && drained_s >= 0.0)
        CHECK(event.details["devices"] == Json::array({1}));
    };
    REQUIRE(paper.run().ok());
    CHECK(drained_s > 0.0);
    CHECK(paper.state().all_final());
    CHECK(paper.launcher->overlaps().empty());
    REQUIRE(paper.state().drained.size() == 1);
    CHECK(paper.observer.count(EventKind::planned) >= 2);

    const Result<Answer> again = ask_at_rest(paper, {.verb = Verb::undrain, .target = "0"});
    REQUIRE(again.ok());
    CHECK(again->accepted);
    CHECK(paper.state().drained.empty());
  }

  TEST_CASE("run/requests: with every device drained jobs wait until one is given back (fault 21)") {
    ScriptedRun paper;
    post_at(paper, "a", 10, {{.verb = Verb::drain, .target = "0"}, {.verb = Verb::drain, .target = "1"}});
    const auto post = paper.observer.after_event;
    bool waited = false;
    paper.observer.after_event = post;
    paper.observer.after_note = [&](const std::string& note) {
      if (waited || note.find("waiting for a drained device") == std::string::npos) return;
      waited = true;
      REQUIRE(journal::post(paper.paths(), {.verb = Verb::undrain, .target = "1"}).ok());
    };
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(waited);
    CHECK(ran->summary.outcome == "done");
  }

  TEST_CASE("run/requests: a batch that is added while others train joins the plan") {
    ScriptedRun paper;
    paper.write_batch({"d"}, "", "", "1e-4", "more.toml");
    post_at(paper, "a", 10, {{.verb = Verb::add, .target = paper.file("more.toml")}});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->summary.outcome == "done");
    CHECK(ran->summary.jobs.size() == 4);
    CHECK(paper.state().find("d")->state == JobState::done);
    CHECK(paper.trained().size() == 4);  // its speed class is known: nothing was stopped for it
    CHECK(std::filesystem::exists(paper.root() + "/batch.001.toml"));
    REQUIRE(answers(paper).size() == 1);
    CHECK(answers(paper).front().text == "1 job has joined the run");

    paper.observer.after_event = nullptr;
    REQUIRE(paper.run().ok());  // the first batch again: what was added stays
    CHECK(paper.trained().empty());
    CHECK(paper.state().jobs.size() == 4);
  }

  TEST_CASE("run/requests: jobs of an unknown speed class are measured between two attempts of what runs") {
    ScriptedRun paper;
    paper.write_batch({"d"}, "precision = \"fp32\"\nmicro_batches = 2\n", "", "1e-4", "more.toml");
    post_at(paper, "a", 10, {{.verb = Verb::add, .target = paper.file("more.toml")}});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->summary.outcome == "done");
    CHECK(paper.state().find("d")->state == JobState::done);
    const JobRecord a = *paper.state().find("a");
    REQUIRE(a.attempts.size() == 2);
    CHECK(a.attempts[1].from_step > 10);
    CHECK(a.num_failures() == 0);
    CHECK(paper.launcher->overlaps().empty());
  }

  TEST_CASE(
      "run/requests: a batch whose names are taken is refused at its line and one that is known adds "
      "nothing") {
    ScriptedRun paper;
    REQUIRE(paper.run().ok());
    paper.write_batch({"c"}, "", "", "1e-4", "other.toml");
    const Result<Answer> other = ask_at_rest(paper, {.verb = Verb::add, .target = paper.file("other.toml")});
    REQUIRE(other.ok());
    CHECK_FALSE(other->accepted);
    CHECK(other->text.find("other.toml:") != std::string::npos);
    CHECK(other->text.find("job \"c\" is in the run already") != std::string::npos);
    const Result<Answer> same = ask_at_rest(paper, {.verb = Verb::add, .target = paper.batch_path()});
    REQUIRE(same.ok());
    CHECK(same->accepted);
    CHECK(same->text.find("already") != std::string::npos);
    paper.write_batch({"e"}, "", "", "1e-4", "fresh.toml");
    const Result<Answer> fresh = ask_at_rest(paper, {.verb = Verb::add, .target = paper.file("fresh.toml")});
    REQUIRE(fresh.ok());
    CHECK(fresh->text.find("1 job has joined the run; `saturn run") != std::string::npos);
    REQUIRE(paper.run().ok());
    CHECK(paper.trained().size() == 1);
    CHECK(paper.trained("e").size() == 1);
  }

  TEST_CASE("run/requests: at rest a job of a dead controller is closed before it is changed") {
    struct Crash {};
    ScriptedRun paper;
    paper.observer.after_event = [&](const Event& event) {
      if (event.kind == EventKind::checkpoint && event.job == "b") throw Crash{};
    };
    CHECK_THROWS_AS((void)paper.run(), Crash);
    paper.observer.after_event = nullptr;
    CHECK(journal::is_running(paper.state().find("b")->state));
    const Result<Answer> cancelled = ask_at_rest(paper, {.verb = Verb::cancel, .target = "b"});
    REQUIRE(cancelled.ok());
    CHECK(cancelled->accepted);
    CHECK(paper.state().find("b")->state == JobState::cancelled);
    REQUIRE(paper.run().ok());
    CHECK(paper.trained("b").empty());
    CHECK(paper.state().find("a")->state == JobState::done);
  }

  TEST_CASE(
      "run/requests: a pause is kept by the next controller when this one dies before the job has ended") {
    struct Crash {};
    ScriptedRun paper;
    post_at(paper, "b", 10, {{.verb = Verb::pause, .target = "b"}});
    const auto post = paper.observer.after_event;
    paper.observer.after_event = [&](const Event& event) {
      post(event);
      if (event.kind == EventKind::stopping && event.job == "b") throw Crash{};
    };
    CHECK_THROWS_AS((void)paper.run(), Crash);
    paper.observer.after_event = nullptr;
    REQUIRE(paper.run().ok());
    CHECK(paper.state().find("b")->state == JobState::paused);
    CHECK(paper.state().find("a")->state == JobState::done);
  }
}

}  // namespace
}  // namespace saturn::run

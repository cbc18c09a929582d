// A whole `saturn run`, and the second one after it.

#include "saturn/run/session.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "tests/support/scripted_run.h"

namespace saturn::run {
namespace {

using journal::EventKind;
using journal::JobState;
using testing::ScriptedRun;

TEST_SUITE("run") {
  TEST_CASE("run/session: a batch is profiled and planned and every job trained on devices of its own") {
    ScriptedRun paper;
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->faults.empty());
    CHECK(ran->summary.outcome == "done");
    for (const journal::JobSummary& job : ran->summary.jobs) {
      CHECK(job.state == JobState::done);
      CHECK(job.steps == 20);
      CHECK(job.attempts == 1);
      CHECK(job.validation.at("loss") == 2.0);
      CHECK(job.validation.at("unigram_loss") == 3.0);
    }
    CHECK(paper.launcher->overlaps().empty());
    CHECK(paper.launcher->num_living() == 0);
    CHECK(paper.observer.num_steps == 60);
    CHECK(paper.observer.has_note("there is no plan yet"));
    for (const char* const name :
         {"batch.000.toml", "profile.json", "plan.000.json", "events.jsonl", "summary.json"})
      CHECK(std::filesystem::exists(paper.root() + "/" + name));
    CHECK(std::filesystem::exists(paper.paths().job("a") + "/job.json"));
  }

  TEST_CASE("run/session: the makespan that was planned is the one that is measured") {
    ScriptedRun paper;
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    REQUIRE(ran->summary.predicted_makespan_s.has_value());
    CHECK(ran->summary.makespan_s > 20.0);
    CHECK(std::abs(*ran->summary.prediction_error()) < 0.03);
    for (const journal::JobSummary& job : ran->summary.jobs)
      CHECK(*job.predicted_time_s == doctest::Approx(*job.last_attempt_s).epsilon(0.03));
  }

  TEST_CASE("run/session: a second run finds nothing to do and trains nothing") {
    ScriptedRun paper;
    REQUIRE(paper.run().ok());
    const Result<SessionResult> again = paper.run();
    REQUIRE(again.ok());
    CHECK(again->summary.outcome == "done");
    CHECK(paper.launcher->launched().empty());
    CHECK(paper.observer.has_note("nothing is left to run"));
    CHECK(paper.paths().last_batch() == 0);
  }

  TEST_CASE("run/session: a changed learning rate runs that job alone again and says why") {
    ScriptedRun paper;
    REQUIRE(paper.run().ok());
    paper.write_batch({"a", "b", "c"}, "", "checkpoint_every = 5\n", "3e-4");
    const Result<SessionResult> again = paper.run();
    REQUIRE(again.ok());
    CHECK(paper.trained().size() == 1);
    CHECK(paper.trained("c").size() == 1);
    CHECK(paper.trained("c").front().ranks.front().resume_from.empty());
    CHECK(paper.observer.has_note("job \"c\" begins again: optimizer.lr 0.001 -> 0.0003"));
    CHECK(std::filesystem::exists(paper.root() + "/replaced/c.000/job.json"));
    CHECK(std::filesystem::exists(paper.root() + "/batch.001.toml"));
    CHECK(paper.launcher->launched().size() == 1);  // the trials of its speed class hold
  }

  TEST_CASE("run/session: settings that change no result and new jobs leave what is done alone") {
    ScriptedRun paper;
    REQUIRE(paper.run().ok());
    paper.write_batch({"a", "b", "c", "d"}, "techniques = [\"single\"]\n", "max_restarts = 7\n");
    const Result<SessionResult> again = paper.run();
    REQUIRE(again.ok());
    CHECK(paper.trained().size() == 1);
    CHECK(paper.trained("d").size() == 1);
    CHECK(again->summary.jobs.size() == 4);
  }

  TEST_CASE("run/session: only the jobs that were asked for are run and an unknown one is named") {
    ScriptedRun paper;
    paper.request.only = {"b"};
    const Result<SessionResult> one = paper.run();
    REQUIRE(one.ok());
    CHECK(paper.trained().size() == 1);
    CHECK(paper.state().find("a")->state == JobState::pending);
    CHECK(paper.state().find("b")->state == JobState::done);
    paper.request.only = {"bb"};
    const Result<SessionResult> wrong = paper.run();
    REQUIRE_FALSE(wrong.ok());
    CHECK(to_text(wrong.faults()).find("did you mean \"b\"?") != std::string::npos);
  }

  TEST_CASE("run/session: an excluded device is not used") {
    ScriptedRun paper;
    paper.request.excluded = {{.node = "local", .index = 0}};
    REQUIRE(paper.run().ok());
    for (const worker::LaunchRequest& request : paper.trained()) {
      for (const worker::Assign& rank : request.ranks) {
        for (const devices::Device& device : rank.devices) CHECK(device.index == 1);
      }
    }
  }

  TEST_CASE("run/session: standby workers are asked for ahead of the next start and sent home at the end") {
    ScriptedRun paper;
    int most = 0;
    paper.observer.after_event = [&](const journal::Event&) {
      most = std::max(most, paper.launcher->num_standby());
    };
    REQUIRE(paper.run().ok());
    CHECK(most > 0);
    CHECK(paper.launcher->num_standby() == 0);
  }

  TEST_CASE("run/session: a profile that cannot be read is made again and the reason said") {
    ScriptedRun paper;
    REQUIRE(paper.run().ok());
    paper.write_batch({"a", "b", "c"}, "", "checkpoint_every = 5\n", "3e-4");
    REQUIRE(write_whole(paper.paths().profile(), "{\"format\": \"saturn.profile/1\"}").ok());
    REQUIRE(paper.run().ok());
    CHECK(paper.launcher->launched().size() > 1);
    CHECK(paper.state().all_final());
  }

  TEST_CASE("run/session: two jobs on one directory are refused while the first runs") {
    ScriptedRun paper;
    bool refused = false;
    paper.observer.after_event = [&](const journal::Event& event) {
      if (event.kind != EventKind::training || refused) return;
      const Result<journal::RunDirectory> second = journal::RunDirectory::open(paper.root(), paper.clock());
      REQUIRE_FALSE(second.ok());
      CHECK(exit_code(second.faults()) == 2);
      refused = true;
    };
    REQUIRE(paper.run().ok());
    CHECK(refused);
  }
}

}  // namespace
}  // namespace saturn::run

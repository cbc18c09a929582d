// The run directory and what it meets: links, read-only places, changed data, other devices, slow ranks.

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "saturn/base/files.h"
#include "saturn/run/session.h"
#include "tests/support/scripted_run.h"

namespace saturn::run {
namespace {

using journal::EventKind;
using journal::JobState;
using testing::ScriptedRun;
using worker::Mode;

TEST_SUITE("run") {
  TEST_CASE(
      "run/confined: a link in place of a job's directory is refused and its target left alone (fault 15)") {
    for (const std::string inside : {"", "/checkpoints", "/model", "/metrics.jsonl"}) {
      CAPTURE(inside);
      ScriptedRun paper;
      REQUIRE(paper.run().ok());
      paper.write_batch({"a", "b", "c", "d"});
      const std::string target = paper.file("elsewhere");
      REQUIRE(make_directories(target).ok());
      paper.observer.after_event = [&](const journal::Event& event) {
        if (event.kind != EventKind::batch_accepted) return;
        const std::string link = paper.paths().job("d") + inside;
        REQUIRE(make_directories(directory_of(link)).ok());
        REQUIRE(::symlink(target.c_str(), link.c_str()) == 0);
      };
      const Result<SessionResult> ran = paper.run();
      REQUIRE_FALSE(ran.ok());
      CHECK(exit_code(ran.faults()) == 2);
      CHECK(to_text(ran.faults()).find("a symbolic link stands where Saturn keeps its own files") !=
            std::string::npos);
      CHECK(std::filesystem::is_empty(target));
      CHECK(paper.launcher->num_living() == 0);
    }
  }

  TEST_CASE("run/confined: a directory that cannot be written is told of before anything starts (fault 22)") {
    if (::geteuid() == 0) {
      ScriptedRun paper;
      REQUIRE(write_whole(paper.root(), "a file where the directory should be").ok());
      const Result<SessionResult> ran = paper.run();
      REQUIRE_FALSE(ran.ok());
      CHECK(to_text(ran.faults()).find(paper.root()) != std::string::npos);
      CHECK(paper.launcher == nullptr);
      return;
    }
    ScriptedRun paper;
    REQUIRE(make_directories(paper.root()).ok());
    REQUIRE(::chmod(paper.root().c_str(), 0500) == 0);
    const Result<SessionResult> ran = paper.run();
    REQUIRE_FALSE(ran.ok());
    CHECK(exit_code(ran.faults()) == 2);
    CHECK(paper.launcher == nullptr);
    REQUIRE(::chmod(paper.root().c_str(), 0700) == 0);
  }

  TEST_CASE("run/confined: what does not fit is told before anything starts (fault 4)") {
    // 64 checkpoints of 1.6 billion weights with their moments, of each of hundreds of jobs.
    ScriptedRun paper;
    std::vector<std::string> names;
    for (int i = 0; i < 300; ++i) names.push_back("job-" + std::to_string(i));
    paper.write_batch(names, "", "checkpoint_every = 5\nkeep_checkpoints = 64\n");
    std::string text = *read_whole(paper.batch_path());
    const std::string toy = "\"gpt2-toy\"";
    for (std::size_t at = text.find(toy); at != std::string::npos; at = text.find(toy, at))
      text.replace(at, toy.size(), "\"gpt2-xl\"");
    REQUIRE(write_whole(paper.batch_path(), text).ok());
    const Result<SessionResult> ran = paper.run();
    REQUIRE_FALSE(ran.ok());
    const std::string told = to_text(ran.faults());
    CAPTURE(told);
    CHECK(exit_code(ran.faults()) == 2);
    CHECK(told.find("are free, and this run writes up to") != std::string::npos);
    CHECK(told.find("lower keep_checkpoints") != std::string::npos);
    REQUIRE(paper.launcher != nullptr);
    CHECK(paper.launcher->launched().empty());
  }

  TEST_CASE("run/confined: what a run leaves has the modes that the umask says and no more") {
    ScriptedRun paper;
    const mode_t before = ::umask(027);
    const Result<SessionResult> ran = paper.run();
    ::umask(before);
    REQUIRE(ran.ok());
    for (const auto& entry : std::filesystem::recursive_directory_iterator(paper.root())) {
      CAPTURE(entry.path().string());
      struct stat status {};
      REQUIRE(::stat(entry.path().c_str(), &status) == 0);
      CHECK((status.st_mode & 0777) == (entry.is_directory() ? 0750U : 0640U));
    }
  }

  TEST_CASE("run/confined: nothing of the environment is written into the run directory") {
    ::setenv("SATURN_TEST_SECRET", "hunter2-correct-horse", 1);
    ScriptedRun paper;
    REQUIRE(paper.run().ok());
    for (const auto& entry : std::filesystem::recursive_directory_iterator(paper.root())) {
      if (!entry.is_regular_file()) continue;
      CAPTURE(entry.path().string());
      CHECK(read_whole(entry.path().string())->find("hunter2") == std::string::npos);
    }
    ::unsetenv("SATURN_TEST_SECRET");
  }

  TEST_CASE("run/confined: data that changed between two runs begins its jobs again (fault 17)") {
    ScriptedRun paper;
    REQUIRE(paper.run().ok());
    REQUIRE(write_whole(paper.file("text.txt"), std::string(4000, 'b')).ok());
    REQUIRE(paper.run().ok());
    CHECK(paper.trained().size() == 3);
    CHECK(paper.observer.has_note("begins again: the content of its data or of its initial weights changed"));
  }

  TEST_CASE(
      "run/confined: fewer devices than before are planned anew and jobs go on from checkpoints (fault 21)") {
    ScriptedRun paper;
    bool stop = false;
    paper.observer.after_event = [&](const journal::Event& event) {
      stop |= event.kind == EventKind::checkpoint && event.job == "b";
    };
    paper.stop_count = [&] { return stop ? 1 : 0; };
    REQUIRE(paper.run().ok());
    const journal::RunState before = paper.state();
    REQUIRE(before.find("b")->checkpoint.has_value());
    paper.observer.after_event = nullptr;
    stop = false;
    paper.machine = testing::cpu_machine(1);
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    CHECK(ran->summary.outcome == "done");
    for (const worker::LaunchRequest& request : paper.trained()) {
      for (const worker::Assign& rank : request.ranks) {
        for (const devices::Device& device : rank.devices) CHECK(device.index == 0);
      }
    }
    CHECK(paper.trained("b").front().ranks.front().from_step == before.find("b")->checkpoint->step);
  }

  TEST_CASE(
      "run/confined: a job that turns out slower than planned is told as such in the summary (fault 24)") {
    ScriptedRun paper(
        {{.job = "b", .mode = Mode::train, .script = {.start_s = 0.5, .save_s = 0.1, .step_time_s = 3.0}}});
    const Result<SessionResult> ran = paper.run();
    REQUIRE(ran.ok());
    for (const journal::JobSummary& job : ran->summary.jobs) {
      if (job.name == "b") CHECK(*job.last_attempt_s > 2.5 * *job.predicted_time_s);
      if (job.name == "a") CHECK(*job.last_attempt_s == doctest::Approx(*job.predicted_time_s).epsilon(0.05));
    }
    CHECK(ran->summary.outcome == "done");
  }
}

}  // namespace
}  // namespace saturn::run

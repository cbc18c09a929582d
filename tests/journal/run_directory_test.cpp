// The run directory: one holder, a repaired journal, and clear words where it cannot be used.

#include "saturn/journal/run_directory.h"

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "saturn/base/digest.h"
#include "tests/support/temporary_directory.h"

namespace saturn::journal {
namespace {

// Takes the directory and begins to run it, as `saturn run` does.
Result<RunDirectory> begin(const std::string& root, const Clock& clock) {
  SATURN_TRY(RunDirectory directory, RunDirectory::open(root, clock));
  SATURN_TRY_VOID(directory.begin());
  return directory;
}

Event accepted() {
  Event event{.kind = EventKind::batch_accepted};
  event.details = {{"file", "batch.000.toml"},
                   {"path", "/x/sweep.toml"},
                   {"digest", "d0"},
                   {"name", "sweep"},
                   {"jobs", {{{"name", "a"}, {"result_digest", "aa"}, {"num_steps", 10}}}}};
  return event;
}

void append_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::app | std::ios::binary) << bytes;
}

}  // namespace

TEST_SUITE("journal") {
  TEST_CASE("journal/run_directory: what was appended is there after reopening and time goes on from it") {
    const testing::TemporaryDirectory temporary;
    FakeClock clock;
    const std::string root = temporary.file("runs/sweep");
    {
      Result<RunDirectory> directory = begin(root, clock);
      REQUIRE(directory.ok());
      REQUIRE(directory->append(accepted()).ok());
      clock.advance_s(5.0);
      CHECK(directory->time_s() == 0.0);
      directory->start_clock();
      clock.advance_s(3.0);
      Event ended{.kind = EventKind::run_ended};
      ended.details = {{"outcome", "interrupted"}, {"exit_code", 130}};
      const Result<Event> stamped = directory->append(ended);
      REQUIRE(stamped.ok());
      CHECK(stamped->seq == 2);
      CHECK(stamped->time_s == 3.0);
    }
    clock.advance_s(1000.0);
    Result<RunDirectory> again = begin(root, clock);
    REQUIRE(again.ok());
    CHECK(again->time_s() == 3.0);
    CHECK(again->state().jobs.size() == 1);
    CHECK_FALSE(again->state().ended);
    CHECK_FALSE(again->repaired());
    const Result<RunState> seen = read_run_state(again->paths());
    REQUIRE(seen.ok());
    CHECK(seen->next_seq == 4);
  }

  TEST_CASE(
      "journal/run_directory: a second holder is refused with the first one's pid and gets in after it") {
    const testing::TemporaryDirectory temporary;
    FakeClock clock;
    {
      const Result<RunDirectory> first = RunDirectory::open(temporary.path(), clock);
      REQUIRE(first.ok());
      CHECK(is_locked(first->paths()));
      const Result<RunDirectory> second = RunDirectory::open(temporary.path(), clock);
      REQUIRE_FALSE(second.ok());
      CHECK(second.faults().front().kind == Kind::machine);
      CHECK(second.faults().front().what.find("pid " + std::to_string(::getpid())) != std::string::npos);
    }
    CHECK_FALSE(is_locked(RunPaths(temporary.path())));
    CHECK(RunDirectory::open(temporary.path(), clock).ok());
  }

  TEST_CASE("journal/run_directory: the lock of a killed holder is taken over") {
    const testing::TemporaryDirectory temporary;
    FakeClock clock;
    int ready[2];
    REQUIRE(::pipe(ready) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      const Result<RunDirectory> held = RunDirectory::open(temporary.path(), clock);
      const char byte = held.ok() ? 'y' : 'n';
      if (::write(ready[1], &byte, 1) != 1) ::_exit(1);
      for (;;) ::pause();
    }
    char byte = 0;
    REQUIRE(::read(ready[0], &byte, 1) == 1);
    CHECK(byte == 'y');
    const Result<RunDirectory> refused = RunDirectory::open(temporary.path(), clock);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.faults().front().what.find("pid " + std::to_string(child)) != std::string::npos);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    CHECK(RunDirectory::open(temporary.path(), clock).ok());
    ::close(ready[0]);
    ::close(ready[1]);
  }

  TEST_CASE("journal/run_directory: a line torn at any byte is cut off and the journal goes on") {
    const testing::TemporaryDirectory temporary;
    FakeClock clock;
    const RunPaths paths(temporary.path());
    { REQUIRE(begin(paths.root(), clock).ok()); }
    const std::string whole = *read_whole(paths.events());
    for (std::size_t kept = 1; kept < whole.size(); kept += 7) {
      std::ofstream(paths.events(), std::ios::trunc | std::ios::binary) << whole << whole.substr(0, kept);
      CAPTURE(kept);
      const Result<RunDirectory> directory = begin(paths.root(), clock);
      REQUIRE(directory.ok());
      CHECK(directory->repaired());
      const Result<JournalContent> content = read_journal(paths.events());
      REQUIRE(content.ok());
      CHECK(content->events.size() == 2);
      CHECK_FALSE(content->torn);
    }
  }

  TEST_CASE("journal/run_directory: a changed line before the last one is refused with its number") {
    const testing::TemporaryDirectory temporary;
    FakeClock clock;
    const RunPaths paths(temporary.path());
    { REQUIRE(begin(paths.root(), clock).ok()); }
    { REQUIRE(begin(paths.root(), clock).ok()); }
    std::string text = *read_whole(paths.events());
    text[text.find("run_started")] = 'R';
    std::ofstream(paths.events(), std::ios::trunc | std::ios::binary) << text;
    const Result<RunDirectory> directory = begin(paths.root(), clock);
    REQUIRE_FALSE(directory.ok());
    CHECK(directory.faults().front().where == paths.events() + ":1:1");
    CHECK(*read_whole(paths.events()) == text);
  }

  TEST_CASE("journal/run_directory: a journal of a newer version is refused with advice and not cut") {
    const testing::TemporaryDirectory temporary;
    FakeClock clock;
    const RunPaths paths(temporary.path());
    // Only the first line is ours to understand: what follows may look like anything, and like a torn line.
    const std::vector<std::string> rests = {"", "{\"seq\":1,\"event\":\"teleported\"}\n", "\x93\x01binary",
                                            "{\"seq\":1,\"ev"};
    for (const std::string& rest : rests) {
      CAPTURE(rest);
      const std::string text =
          "{\"seq\":0,\"time_s\":0.0,\"unix_s\":1.0,\"event\":\"run_started\",\"format\":\"saturn.events/2\","
          "\"saturn\":\"9.1.0\",\"sha256\":\"00\"}\n" +
          rest;
      std::ofstream(paths.events(), std::ios::trunc | std::ios::binary) << text;
      const Result<RunDirectory> directory = RunDirectory::open(paths.root(), clock);
      REQUIRE_FALSE(directory.ok());
      const Diagnostic& fault = directory.faults().front();
      CHECK(fault.kind == Kind::input);
      CHECK(fault.where == paths.events() + ":1:1");
      CHECK(fault.what == "this journal has the format \"saturn.events/2\"");
      CHECK(fault.expected.starts_with("\"saturn.events/1\""));
      CHECK(fault.fix == "use version 9.1.0 of saturn, or start in a new run directory with --dir");
      CHECK(*read_whole(paths.events()) == text);
    }
  }

  TEST_CASE("journal/run_directory: a last line that was written whole is never cut off") {
    const testing::TemporaryDirectory temporary;
    FakeClock clock;
    const RunPaths paths(temporary.path());
    { REQUIRE(begin(paths.root(), clock).ok()); }
    // A kind that only a newer reader knows, with the right checksum.
    const std::string body = "{\"seq\":1,\"time_s\":0.0,\"unix_s\":1.0,\"event\":\"teleported\"";
    char checksum[9];
    std::snprintf(checksum, sizeof checksum, "%08x", crc32c(body));
    append_bytes(paths.events(), body + ",\"crc32c\":\"" + checksum + "\"}\n");
    const std::string text = *read_whole(paths.events());
    CHECK_FALSE(RunDirectory::open(paths.root(), clock).ok());
    CHECK(*read_whole(paths.events()) == text);
  }

  TEST_CASE("journal/run_directory: a file of someone else is refused and left as it is") {
    const testing::TemporaryDirectory temporary;
    FakeClock clock;
    append_bytes(temporary.file("events.jsonl"), "{\"hello\": 1}\n{\"hello\": 2}\n");
    CHECK_FALSE(RunDirectory::open(temporary.path(), clock).ok());
    CHECK(read_whole(temporary.file("events.jsonl"))->size() == 26);
  }

  TEST_CASE("journal/run_directory: planted links are refused") {
    const testing::TemporaryDirectory temporary;
    const testing::TemporaryDirectory elsewhere;
    FakeClock clock;
    for (const std::string name : {"jobs", "events.jsonl", "lock", "control"}) {
      const std::string root = temporary.file("run-" + name);
      REQUIRE(make_directories(root).ok());
      std::filesystem::create_symlink(elsewhere.file(name), root + "/" + name);
      CAPTURE(name);
      CHECK_FALSE(begin(root, clock).ok());
    }
    CHECK(std::filesystem::is_empty(elsewhere.path()));
  }

  TEST_CASE("journal/run_directory: an append that does not fit is cut off and the state stays") {
    const testing::TemporaryDirectory temporary;
    FakeClock clock;
    Result<RunDirectory> directory = begin(temporary.path(), clock);
    REQUIRE(directory.ok());
    const std::string before = *read_whole(directory->paths().events());
    // The file may grow by 40 bytes only: the write is cut short, then refused.
    struct sigaction ignore {
    }, old_action{};
    ignore.sa_handler = SIG_IGN;
    REQUIRE(::sigaction(SIGXFSZ, &ignore, &old_action) == 0);
    rlimit old_limit{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
    const rlimit tight{.rlim_cur = before.size() + 40, .rlim_max = old_limit.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
    const Result<Event> refused = directory->append(accepted());
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &old_limit) == 0);
    ::sigaction(SIGXFSZ, &old_action, nullptr);
    CHECK_FALSE(refused.ok());
    CHECK(directory->state().jobs.empty());
    CHECK(*read_whole(directory->paths().events()) == before);
    CHECK(directory->append(accepted()).ok());
  }

  TEST_CASE("journal/run_directory: a job set aside keeps its files under another name") {
    const testing::TemporaryDirectory temporary;
    FakeClock clock;
    Result<RunDirectory> directory = begin(temporary.path(), clock);
    REQUIRE(directory.ok());
    CHECK(directory->set_aside_job("a").ok());
    for (const char* const want : {"a.000", "a.001"}) {
      REQUIRE(make_directories(directory->paths().job("a")).ok());
      append_bytes(directory->paths().log("a"), "old\n");
      REQUIRE(directory->set_aside_job("a").ok());
      CHECK(std::filesystem::exists(temporary.file("replaced/" + std::string(want) + "/log.txt")));
      CHECK_FALSE(std::filesystem::exists(directory->paths().job("a")));
    }
  }

  TEST_CASE("journal/run_directory: numbered files are found past a thousand and strangers are not") {
    const testing::TemporaryDirectory temporary;
    const RunPaths paths(temporary.path());
    CHECK(paths.last_plan() == -1);
    for (const char* const name :
         {"plan.000.json", "plan.1002.json", "plan.x.json", "plan..json", "plan.7.json.tmp-1"})
      append_bytes(temporary.file(name), "{}");
    CHECK(paths.last_plan() == 1002);
    CHECK(paths.plan(1003) == temporary.file("plan.1003.json"));
  }
}

}  // namespace saturn::journal

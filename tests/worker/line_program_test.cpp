// A program that is spoken to in lines: real processes, and what becomes of those that misbehave.

#include "saturn/worker/line_program.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <signal.h>

#include "saturn/base/files.h"
#include "tests/support/temporary_directory.h"

namespace saturn::worker {
namespace {

struct Spoken {
  testing::TemporaryDirectory folder;
  std::unique_ptr<LineProgram> program;

  explicit Spoken(const std::string& script) {
    Result<std::unique_ptr<LineProgram>> started =
        start_line_program({"sh", "-c", script}, folder.path(), folder.file("log.txt"));
    REQUIRE(started.ok());
    program = *std::move(started);
  }

  // Waits for as long as it takes: a test that hangs is ended by its own limit.
  Result<std::string> next() {
    for (;;) {
      if (std::optional<Result<std::string>> line = program->take()) return *std::move(line);
      pollfd wait{.fd = program->fd(), .events = POLLIN, .revents = 0};
      ::poll(&wait, 1, -1);
    }
  }
};

TEST_SUITE("worker") {
  TEST_CASE("worker/line_program: each line comes back in order and nothing waits meanwhile") {
    Spoken spoken("while read -r line; do echo \"got $line\"; done");
    CHECK_FALSE(spoken.program->take().has_value());
    for (const char* const text : {"one", "two", "three"}) spoken.program->send(text);
    for (const char* const text : {"got one", "got two", "got three"}) {
      const Result<std::string> line = spoken.next();
      REQUIRE(line.ok());
      CHECK(*line == text);
    }
  }

  TEST_CASE("worker/line_program: it starts in its folder and its notes are in the log") {
    Spoken spoken("pwd; echo a note >&2; read -r line");
    CHECK(*spoken.next() == spoken.folder.path());
    spoken.program->send("end");
    CHECK_FALSE(spoken.next().ok());
    CHECK(*read_whole(spoken.folder.file("log.txt")) == "a note\n");
  }

  TEST_CASE("worker/line_program: its end is told with its exit code and its last words") {
    Spoken spoken("echo first; echo 'no such module' >&2; exit 3");
    CHECK(*spoken.next() == "first");
    const Result<std::string> ended = spoken.next();
    REQUIRE_FALSE(ended.ok());
    CHECK(ended.faults().front().what == "\"sh\" ended with exit code 3; it last said: no such module");
    CHECK_FALSE(spoken.program->take().has_value());
    spoken.program->send("nobody hears this");
  }

  TEST_CASE("worker/line_program: a command that does not exist ends with 127") {
    Spoken spoken("exec no-such-program-anywhere");
    const Result<std::string> ended = spoken.next();
    REQUIRE_FALSE(ended.ok());
    CHECK(ended.faults().front().what.find("exit code 127") != std::string::npos);
  }

  TEST_CASE("worker/line_program: what it does not take yet is kept and sent later") {
    // More than a socket holds, before it reads anything.
    Spoken spoken("while read -r line; do echo ${#line}; done");
    for (int i = 0; i < 4; ++i) spoken.program->send(std::string(150'000, 'x'));
    for (int i = 0; i < 4; ++i) CHECK(*spoken.next() == "150000");
  }

  TEST_CASE("worker/line_program: a line without end is refused") {
    Spoken spoken("while :; do echo -n xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done");
    const Result<std::string> line = spoken.next();
    REQUIRE_FALSE(line.ok());
    CHECK(line.faults().front().what.find("more than a megabyte") != std::string::npos);
  }

  TEST_CASE("worker/line_program: it and what it started are gone with the object") {
    auto spoken = std::make_unique<Spoken>("sleep 1000 & echo $!; wait");
    const pid_t pid = std::stoi(*spoken->next());
    REQUIRE(::kill(pid, 0) == 0);
    spoken.reset();
    // It is reaped by whoever adopts it; until then it is a zombie, which a signal still finds.
    const auto lives = [&] {
      const Result<std::string> status = read_whole("/proc/" + std::to_string(pid) + "/stat");
      return status.ok() && status->find(") Z") == std::string::npos && !status->empty();
    };
    while (lives()) ::poll(nullptr, 0, 1);
    CHECK_FALSE(lives());
  }
}

}  // namespace
}  // namespace saturn::worker

// Logs that grow without end are cut while their ranks go on writing.

#include "run/logs.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <filesystem>

#include "saturn/base/files.h"
#include "tests/support/scripted_run.h"

namespace saturn::run {
namespace {

using journal::EventKind;
using testing::ScriptedRun;

constexpr LogLimits kSmall{.most_bytes = 100, .kept_bytes = 30};

void print_to(const FileDescriptor& rank, const std::string& text) {
  REQUIRE(::write(rank.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

TEST_SUITE("run") {
  TEST_CASE("run/logs: a log that is too long keeps its last lines beside it and goes on") {
    const testing::TemporaryDirectory folder;
    const std::string path = folder.file("log.txt");
    CHECK_FALSE(*shorten_log(path, kSmall));
    CHECK_FALSE(std::filesystem::exists(path));
    const FileDescriptor rank(::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
    for (int line = 0; line < 10; ++line) print_to(rank, "line " + std::to_string(line) + "...\n");
    CHECK_FALSE(*shorten_log(path, kSmall));  // exactly as long as it may be
    print_to(rank, "last line\n");
    CHECK(*shorten_log(path, kSmall));
    print_to(rank, "more\n");
    CHECK(*read_whole(path) == "---- cut at 110 B; its last lines are in log.txt.1\nmore\n");
    CHECK(*read_whole(path + ".1") == "line 9...\nlast line\n");
    CHECK_FALSE(*shorten_log(path, kSmall));
  }

  TEST_CASE("run/logs: no link is followed") {
    const testing::TemporaryDirectory folder;
    const std::string outside = folder.file("outside");
    REQUIRE(write_whole(outside, std::string(200, 'x')).ok());
    const std::string link = folder.file("log.txt");
    std::filesystem::create_symlink(outside, link);
    CHECK_FALSE(shorten_log(link, kSmall).ok());
    CHECK_FALSE(write_log_heading(link, "attempt 1").ok());
    std::filesystem::remove(link);
    REQUIRE(write_whole(link, std::string(200, 'y')).ok());
    std::filesystem::create_symlink(outside, link + ".1");
    CHECK(*shorten_log(link, kSmall));
    CHECK(*read_whole(outside) == std::string(200, 'x'));
  }

  TEST_CASE("run/logs: a rank that prints a gigabyte does not fill the disk (fault 22)") {
    ScriptedRun paper;
    bool grown = false;
    paper.observer.after_event = [&](const journal::Event& event) {
      if (grown || event.kind != EventKind::training || event.job != "b") return;
      grown = true;
      std::filesystem::resize_file(paper.paths().log("b"),
                                   std::uintmax_t{1} << 30);  // a hole, as cheap as it is
    };
    REQUIRE(paper.run().ok());
    CHECK(grown);
    CHECK(paper.observer.has_note("job \"b\" prints a lot; its log was cut"));
    CHECK(std::filesystem::file_size(paper.paths().log("b")) < 1000);
    CHECK(std::filesystem::file_size(paper.paths().log("b") + ".1") <= std::uintmax_t{1} << 20);
    CHECK(paper.state().find("b")->state == journal::JobState::done);
  }
}

}  // namespace
}  // namespace saturn::run

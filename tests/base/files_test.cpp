#include "saturn/base/files.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "saturn/base/digest.h"
#include "tests/support/temporary_directory.h"

namespace saturn {
namespace {

TEST_SUITE("base") {
  TEST_CASE("base/files: a file is written whole and leaves no temporary") {
    testing::TemporaryDirectory directory;
    const std::string path = directory.file("a.json");
    REQUIRE(write_whole(path, "one").ok());
    REQUIRE(write_whole(path, "two").ok());
    CHECK(*read_whole(path) == "two");
    CHECK(std::distance(std::filesystem::directory_iterator(directory.path()), {}) == 1);
    CHECK(*digest_of_file(path) == digest_of("two"));
  }

  TEST_CASE("base/files: pieces are written in turn and a directory replaces the one before it") {
    testing::TemporaryDirectory directory;
    for (const std::string& content : {std::string("one"), std::string("two")}) {
      const std::string unfinished = directory.file("unfinished");
      REQUIRE(make_directories(unfinished).ok());
      int pieces = 0;
      const Result<void> written =
          write_whole(join_path(unfinished, content), [&]() -> std::optional<std::string_view> {
            return pieces++ < 2 ? std::optional<std::string_view>(content) : std::nullopt;
          });
      REQUIRE(written.ok());
      REQUIRE(replace_directory(unfinished, directory.file("d")).ok());
    }
    CHECK(*read_whole(directory.file("d/two")) == "twotwo");
    CHECK_FALSE(std::filesystem::exists(directory.file("d/one")));
    CHECK_FALSE(std::filesystem::exists(directory.file("unfinished")));
    CHECK_FALSE(replace_directory(directory.file("none"), directory.file("d")).ok());
  }

  TEST_CASE("base/files: a link that stands for a file is replaced and never written through") {
    testing::TemporaryDirectory directory;
    const std::string outside = directory.file("outside");
    REQUIRE(write_whole(outside, "theirs").ok());
    const std::string path = directory.file("ours");
    std::filesystem::create_symlink(outside, path);
    REQUIRE(write_whole(path, "ours").ok());
    CHECK(std::filesystem::is_regular_file(std::filesystem::symlink_status(path)));
    CHECK(*read_whole(outside) == "theirs");
    // Nor through one that was planted where the temporary file goes.
    std::filesystem::create_symlink(outside, path + ".tmp-" + std::to_string(::getpid()));
    CHECK_FALSE(write_whole(path, "again").ok());
    CHECK(*read_whole(outside) == "theirs");
    CHECK(*read_whole(path) == "ours");
  }

  TEST_CASE("base/files: a full disk keeps the old content and is told apart") {
    if (!std::filesystem::exists("/dev/full")) return;
    const auto fault = system_fault("x", "write", 28 /* ENOSPC */);
    CHECK(fault.kind == Kind::disk_full);
  }

  TEST_CASE("base/files: missing files and directories and large files are faults") {
    testing::TemporaryDirectory directory;
    CHECK_FALSE(read_whole(directory.file("none")).ok());
    CHECK_FALSE(read_whole(directory.path()).ok());
    REQUIRE(write_whole(directory.file("big"), std::string(100, 'x')).ok());
    CHECK_FALSE(read_whole(directory.file("big"), 99).ok());
    CHECK_FALSE(write_whole(directory.file("none/x"), "y").ok());
  }

  TEST_CASE("base/files: paths join and split") {
    CHECK(join_path("a/b", "c.txt") == "a/b/c.txt");
    CHECK(join_path("a/b", "/c.txt") == "/c.txt");
    CHECK(directory_of("c.txt") == ".");
    CHECK(file_name_of("a/c.txt") == "c.txt");
  }
}

}  // namespace
}  // namespace saturn

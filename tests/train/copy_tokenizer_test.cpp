// The tokenizer beside the weights.

#include "train/copy_tokenizer.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "saturn/base/files.h"
#include "tests/support/temporary_directory.h"

namespace saturn::train {

TEST_SUITE("train") {
  TEST_CASE("train/copy_tokenizer: files get the names that loaders look for and keep their content") {
    const testing::TemporaryDirectory directory;
    const auto write = [&](const std::string& name, const std::string& content) {
      REQUIRE(make_directories(directory_of(directory.file(name))).ok());
      REQUIRE(write_whole(directory.file(name), content).ok());
    };
    write("pair/vocab.json", "a");
    write("pair/merges.txt", "b");
    write("pair/tokenizer_config.json", "c");
    write("pair/notes.md", "not of a tokenizer");
    write("named/mine.json", "d");
    write("piece/my.model", "e");
    struct Row {
      std::string from;
      std::vector<std::pair<std::string, std::string>> want;
    };
    const std::vector<Row> rows = {
        {"pair", {{"merges.txt", "b"}, {"tokenizer_config.json", "c"}, {"vocab.json", "a"}}},
        {"named/mine.json", {{"tokenizer.json", "d"}}},
        {"piece/my.model", {{"tokenizer.model", "e"}}},
    };
    for (const Row& row : rows) {
      CAPTURE(row.from);
      const testing::TemporaryDirectory into;
      REQUIRE(copy_tokenizer(directory.file(row.from), into.path()).ok());
      std::size_t count = 0;
      for (const auto& entry : std::filesystem::directory_iterator(into.path()))
        count += entry.exists() ? 1 : 0;
      CHECK(count == row.want.size());
      for (const auto& [name, content] : row.want) {
        const auto copied = read_whole(into.file(name));
        REQUIRE(copied.ok());
        CHECK(*copied == content);
      }
    }
    CHECK_FALSE(copy_tokenizer(directory.file("absent.json"), directory.path()).ok());
  }
}

}  // namespace saturn::train

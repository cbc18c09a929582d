#include "saturn/formats/token_shard.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include <limits>
#include <vector>

#include "saturn/base/files.h"
#include "tests/support/temporary_directory.h"

namespace saturn {
namespace {

using formats::TokenShard;

template <class Word>
std::string bytes_of(std::initializer_list<std::int64_t> words) {
  std::string bytes;
  for (const std::int64_t word : words) {
    const Word narrow = static_cast<Word>(word);
    bytes.append(reinterpret_cast<const char*>(&narrow), sizeof narrow);
  }
  return bytes;
}

std::string header(std::int32_t magic, std::int32_t version, std::int32_t count) {
  std::string bytes = bytes_of<std::int32_t>({magic, version, count});
  bytes.resize(1024, '\0');
  return bytes;
}

Result<TokenShard> open_bytes(const testing::TemporaryDirectory& directory, const std::string& bytes) {
  const std::string path = directory.file("shard.bin");
  REQUIRE(write_whole(path, bytes).ok());
  return TokenShard::open(path);
}

TEST_SUITE("formats") {
  TEST_CASE("formats/token_shard: reads the three forms") {
    const testing::TemporaryDirectory directory;
    struct Row {
      std::string label;
      std::string bytes;
      TokenShard::Form form;
      std::int64_t last;
    };
    const std::vector<Row> rows = {
        {"nanoGPT", bytes_of<std::uint16_t>({1, 2, 65535}), TokenShard::Form::nanogpt, 65535},
        {"llm.c 16 bit", header(20240520, 1, 3) + bytes_of<std::uint16_t>({1, 2, 50256}),
         TokenShard::Form::llmc_16, 50256},
        {"llm.c 32 bit", header(20240801, 7, 3) + bytes_of<std::uint32_t>({1, 2, 128255}),
         TokenShard::Form::llmc_32, 128255},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      const auto shard = open_bytes(directory, row.bytes);
      REQUIRE(shard.ok());
      CHECK(shard->form() == row.form);
      REQUIRE(shard->size() == 3);
      std::vector<std::int64_t> tokens(2);
      shard->copy(1, tokens);
      CHECK(tokens == std::vector<std::int64_t>{2, row.last});
      CHECK((*shard)[0] == 1);
      CHECK(shard->largest() == row.last);
      CHECK(shard->check_vocabulary(row.last + 1).ok());
      const auto bad = shard->check_vocabulary(row.last);
      REQUIRE_FALSE(bad.ok());
      CHECK(bad.faults()[0].what == "token 2 is " + std::to_string(row.last));
    }
  }

  TEST_CASE("formats/token_shard: refuses what is not exactly one of them") {
    const testing::TemporaryDirectory directory;
    struct Row {
      std::string label;
      std::string bytes;
      std::string says;
    };
    const std::string two = bytes_of<std::uint16_t>({1, 2});
    const std::vector<Row> rows = {
        {"empty", "", "empty"},
        {"odd", "abc", "odd number of bytes"},
        {"header cut", header(20240520, 1, 3).substr(0, 500), "within llm.c's header"},
        {"only the magic number", bytes_of<std::int32_t>({20240801}), "within llm.c's header"},
        {"version", header(20240520, 2, 2) + two, "version 2"},
        {"version of the other form", header(20240801, 1, 1) + two, "version 1"},
        {"one token short", header(20240520, 1, 3) + two, "counts 3 tokens"},
        {"one byte long", header(20240520, 1, 2) + two + "x", "counts 2 tokens"},
        {"negative count", header(20240520, 1, -2) + two, "counts -2 tokens"},
        {"smallest count", header(20240520, 1, std::numeric_limits<std::int32_t>::min()) + two,
         "counts -2147483648"},
        {"largest count", header(20240801, 7, std::numeric_limits<std::int32_t>::max()) + two,
         "counts 2147483647"},
        {"no token", header(20240520, 1, 0), "holds no token"},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      const auto shard = open_bytes(directory, row.bytes);
      REQUIRE_FALSE(shard.ok());
      CHECK(shard.faults()[0].where == directory.file("shard.bin"));
      CHECK(shard.faults()[0].what.find(row.says) != std::string::npos);
      CHECK_FALSE(shard.faults()[0].fix.empty());
    }
    CHECK_FALSE(TokenShard::open(directory.file("none")).ok());
    CHECK_FALSE(TokenShard::open(directory.path()).ok());
    CHECK_FALSE(TokenShard::open("/dev/zero").ok());
  }

  TEST_CASE("formats/token_shard: stays readable when moved and when its file is deleted") {
    const testing::TemporaryDirectory directory;
    auto opened = open_bytes(directory, bytes_of<std::uint16_t>({7, 8}));
    REQUIRE(opened.ok());
    TokenShard moved = *std::move(opened);
    TokenShard assigned = std::move(moved);
    REQUIRE(::unlink(directory.file("shard.bin").c_str()) == 0);
    CHECK(assigned[1] == 8);
  }
}

}  // namespace
}  // namespace saturn

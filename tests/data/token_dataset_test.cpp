// Samples of bytes and of token shards: their tokens, their split, their faults and the unigram baseline.

#include <cmath>
#include <map>
#include <string>

#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "saturn/data/dataset.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/torch_doctest.h"

namespace saturn::data {
namespace {

using testing::TemporaryDirectory;

batch::DataSource text(const std::string& path, int sequence_length, double validation_share) {
  return {.name = "text",
          .kind = batch::DataKind::text,
          .files = {path},
          .validation_share = validation_share,
          .tokenizer = "bytes",
          .sequence_length = sequence_length,
          .vocabulary_size = 256};
}

std::vector<std::int64_t> numbers(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.contiguous().view({-1});
  return {flat.const_data_ptr<std::int64_t>(), flat.const_data_ptr<std::int64_t>() + flat.numel()};
}

}  // namespace

TEST_SUITE("data") {
  TEST_CASE("data/tokens: a sample of text is its bytes and its targets are the bytes after them") {
    TemporaryDirectory directory;
    REQUIRE(write_whole(directory.file("a.txt"), "abcdefghijklm").ok());
    const auto dataset = open_dataset(text(directory.file("a.txt"), 4, 0.0), 256);
    REQUIRE(dataset.ok());
    CHECK((*dataset)->num_samples(Part::training) == 3);
    CHECK((*dataset)->num_samples(Part::validation) == 0);
    const auto samples = (*dataset)->read(Part::training, {2, 0});
    REQUIRE(samples.ok());
    CHECK(numbers(samples.value().inputs) ==
          std::vector<std::int64_t>{'i', 'j', 'k', 'l', 'a', 'b', 'c', 'd'});
    CHECK(numbers(samples.value().targets) ==
          std::vector<std::int64_t>{'j', 'k', 'l', 'm', 'b', 'c', 'd', 'e'});
  }

  TEST_CASE("data/tokens: held out text is not trained on") {
    TemporaryDirectory directory;
    std::string content;
    for (int i = 0; i < 100; ++i) content += static_cast<char>(i);
    REQUIRE(write_whole(directory.file("a.txt"), content).ok());
    const auto dataset = open_dataset(text(directory.file("a.txt"), 5, 0.2), 256);
    REQUIRE(dataset.ok());
    std::map<std::int64_t, int> seen;
    for (Part part : {Part::training, Part::validation}) {
      REQUIRE((*dataset)->num_samples(part) > 0);
      for (std::int64_t i = 0; i < (*dataset)->num_samples(part); ++i) {
        const auto samples = (*dataset)->read(part, {i});
        REQUIRE(samples.ok());
        for (std::int64_t target : numbers(samples.value().targets)) {
          CHECK(target >= (part == Part::training ? 0 : 80));
          CHECK(target < (part == Part::training ? 80 : 100));
          ++seen[target];
        }
      }
    }
    for (const auto& [target, count] : seen) CHECK(count == 1);
  }

  TEST_CASE("data/tokens: shards of two files are read across their border in order") {
    TemporaryDirectory directory;
    const auto shard = [](int first, int count) {
      std::string bytes;
      for (int i = first; i < first + count; ++i)
        bytes += {static_cast<char>(i & 0xff), static_cast<char>(i >> 8)};
      return bytes;
    };
    REQUIRE(write_whole(directory.file("a.bin"), shard(0, 9)).ok());
    REQUIRE(write_whole(directory.file("b.bin"), shard(1000, 9)).ok());
    batch::DataSource source = text("", 4, 0.0);
    source.kind = batch::DataKind::tokens;
    source.tokenizer = "";
    source.files = {directory.file("a.bin"), directory.file("b.bin")};
    source.vocabulary_size = 50257;
    const auto dataset = open_dataset(source, 50257);
    REQUIRE(dataset.ok());
    CHECK((*dataset)->num_samples(Part::training) == 4);
    const auto samples = (*dataset)->read(Part::training, {1, 2});
    REQUIRE(samples.ok());
    CHECK(numbers(samples.value().inputs) == std::vector<std::int64_t>{4, 5, 6, 7, 1000, 1001, 1002, 1003});

    SUBCASE("a token that the model does not have is named with its place") {
      const auto small = open_dataset(source, 1003);
      REQUIRE(small.ok());
      const auto fault = (*small)->read(Part::training, {2});
      REQUIRE(!fault.ok());
      CHECK(fault.faults()[0].where == directory.file("b.bin"));
      CHECK(fault.faults()[0].what == "token 3 is 1003");
    }
  }

  TEST_CASE("data/tokens: the baseline is the cross entropy of the training counts plus one") {
    TemporaryDirectory directory;
    // 16 training bytes and 5 validation bytes for sequences of 4: targets are all but the first of each
    // part.
    REQUIRE(write_whole(directory.file("train.txt"),
                        "abababababababab"
                        "a")
                .ok());
    REQUIRE(write_whole(directory.file("valid.txt"), "abbbc").ok());
    batch::DataSource source = text(directory.file("train.txt"), 4, 0.0);
    source.validation_files = {directory.file("valid.txt")};
    const auto dataset = open_dataset(source, 256);
    REQUIRE(dataset.ok());
    const double total = 16.0 + 256.0;
    const double want = -(3.0 * std::log(9.0 / total) + std::log(1.0 / total)) / 4.0;
    const auto got = (*dataset)->baseline_loss();
    REQUIRE(got.ok());
    CHECK(*got == doctest::Approx(want));
  }

  TEST_CASE("data/tokens: a missing file is a fault at its path") {
    TemporaryDirectory directory;
    const auto dataset = open_dataset(text(directory.file("none.txt"), 4, 0.0), 256);
    REQUIRE(!dataset.ok());
    CHECK(dataset.faults()[0].where.find("none.txt") != std::string::npos);
  }
}

}  // namespace saturn::data

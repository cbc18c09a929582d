// What only stages promise: a part of the memory, as their formula says.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "saturn/base/files.h"
#include "saturn/batch/model_spec.h"
#include "saturn/batch/technique_spec.h"
#include "tests/support/temporary_directory.h"
#include "tests/techniques/compare.h"

namespace saturn::testing {
namespace {

constexpr int kVocabulary = 64;  // of the data that ranks make up

std::int64_t most(const GroupResult& result, const char* what) {
  std::int64_t bytes = 0;
  for (const Json& rank : result.ranks) bytes = std::max(bytes, rank.at(what).get<std::int64_t>());
  return bytes;
}

}  // namespace

TEST_SUITE("techniques") {
  TEST_CASE("techniques/pipeline: two stages hold at most three fifths of what a replica holds") {
    const GroupRun deep = with_steps({.width = 96, .num_blocks = 12}, 2);
    const std::int64_t replica = most(run_well(in_way(deep, {"ddp", 2})), "memory_held_bytes");
    const std::int64_t stage =
        most(run_well(in_way(deep, {"pipeline", 2, {{"cuts", {7}}}})), "memory_held_bytes");
    CHECK(static_cast<double>(stage) <= 0.60 * static_cast<double>(replica));
    CHECK(static_cast<double>(stage) >= 0.40 * static_cast<double>(replica));
  }

  TEST_CASE("techniques/pipeline: the rank that needs most needs what the formula says within 15 percent") {
    TemporaryDirectory directory;
    const std::string sizes = directory.file("deep.toml");
    REQUIRE(write_whole(sizes,
                        "family = \"gpt2\"\nlayers = 8\nheads = 4\nwidth = 128\n"
                        "longest_sequence = 64\n")
                .ok());
    batch::Job job;
    const auto found = batch::find_model(sizes, ".", {});
    REQUIRE(found.ok());
    job.model = with_vocabulary(*found, kVocabulary);
    job.batch_size = 8;
    batch::DataSource data;
    data.sequence_length = 64;
    for (const Way& way : std::vector<Way>{
             {"pipeline", 2, {{"micro_batches", 4}, {"cuts", {5}}}},
             {"pipeline", 2, {{"micro_batches", 4}, {"cuts", {5}}, {"order", "gpipe"}}},
             {"pipeline", 2, {{"micro_batches", 2}, {"cuts", {6}}}},
             {"pipeline", 2, {{"micro_batches", 4}, {"cuts", {5}}, {"checkpointing", "full"}}},
             {"hybrid", 4, {{"data", 2}, {"pipeline", 2}, {"micro_batches", 2}, {"cuts", {5}}}},
             {"hybrid", 4, {{"pipeline", 2}, {"tensor", 2}, {"micro_batches", 4}, {"cuts", {5}}}},
             {"hybrid", 4, {{"data", 2}, {"tensor", 2}}},
             {"hybrid", 4, {{"data", 2}, {"tensor", 2}, {"sharded", true}}},
             {"hybrid",
              4,
              {{"data", 2}, {"pipeline", 2}, {"micro_batches", 2}, {"cuts", {5}}, {"sharded", true}}},
             {"hybrid",
              4,
              {{"data", 2},
               {"pipeline", 2},
               {"micro_batches", 2},
               {"cuts", {5}},
               {"sharded", true},
               {"reshard_after_forward", false}}},
         }) {
      CAPTURE(to_text(way));
      GroupRun run = in_way({.batch_size = 8}, way);
      run.sequence_length = 64;
      run.num_steps = 3;
      run.model = sizes;
      const auto measured = static_cast<double>(most(run_well(run), "memory_peak_bytes"));
      const auto predicted = static_cast<double>(batch::find_technique(way.technique)
                                                     ->predicted_memory_bytes(job, data,
                                                                              {.technique = way.technique,
                                                                               .num_devices = way.num_ranks,
                                                                               .num_ranks = way.num_ranks,
                                                                               .knobs = way.knobs}));
      CAPTURE(measured);
      CAPTURE(predicted);
      CHECK(std::abs(predicted - measured) < 0.15 * measured);
    }
  }
}

}  // namespace saturn::testing

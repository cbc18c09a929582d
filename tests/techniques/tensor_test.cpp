// Every family split over tensor groups against single: the same training, bit-equal again, and as much
// memory as was said.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "saturn/batch/technique_spec.h"
#include "tests/techniques/compare.h"
#include "tests/techniques/sizes.h"

namespace saturn::testing {
namespace {

GroupRun split(GroupRun run, int num_ranks, Json knobs = Json::object()) {
  run.technique = "tensor";
  run.num_ranks = num_ranks;
  run.knobs = std::move(knobs);
  return run;
}

}  // namespace

TEST_SUITE("techniques") {
  TEST_CASE("techniques/tensor: trains every family as single does whatever the width and the batch") {
    struct Way {
      int num_ranks = 2;
      Json knobs = Json::object();
    };
    struct Row {
      std::string label;
      SmallModel model;
      GroupRun run;
      std::vector<Way> ways;
    };
    const std::vector<Row> rows = {
        {"plain", {}, {}, {{.num_ranks = 2}}},
        {"nothing divides; own head, dropout, clipping, accumulation",
         {.tied = false, .vocabulary = 67, .feed_forward = 97},
         {.micro_batches = 2, .sequence_length = 11, .dropout = 0.1, .clip_norm = 0.5},
         {{.num_ranks = 3}, {.num_ranks = 4, .knobs = {{"checkpointing", "selective"}}}}},
        {"one row in the last batch and blocks that run again",
         {},
         {.micro_batches = 3, .num_samples = 25, .dropout = 0.1},
         {{.num_ranks = 2, .knobs = {{"checkpointing", "full"}}}}},
        {"grouped queries and a gated part that does not divide",
         {.family = "llama", .heads = 4, .kv_heads = 2, .vocabulary = 67, .feed_forward = 97},
         {.micro_batches = 2, .dropout = 0.1, .clip_norm = 0.5},
         {{.num_ranks = 2}}},
        {"attention beside the perceptron",
         {.family = "gptj", .heads = 4, .rotary_size = 8, .vocabulary = 67, .feed_forward = 97},
         {.dropout = 0.1},
         {{.num_ranks = 2}}},
        {"as many heads of keys and values as ranks",
         {.family = "llama", .heads = 12, .kv_heads = 4},
         {.num_samples = 25},
         {{.num_ranks = 4, .knobs = {{"checkpointing", "selective"}}}}},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      TemporaryDirectory directory;
      GroupRun job = row.run;
      job.model = write_sizes(directory, row.model);
      job.num_steps = 0;
      const GroupResult start = run_well(job);
      job.num_steps = 20;
      const GroupResult want = run_well(job);
      REQUIRE(want.losses.front() - want.losses.back() > 0.05);
      for (const Way& way : row.ways) {
        CAPTURE(way.num_ranks);
        GroupRun run = split(job, way.num_ranks, way.knobs);
        run.save_to = directory.file("step-000020-" + std::to_string(way.num_ranks));
        const GroupResult got = run_well(run);
        REQUIRE(got.losses.size() == want.losses.size());
        for (std::size_t i = 0; i < want.losses.size(); ++i) {
          CHECK(std::abs(got.losses[i] - want.losses[i]) < 1e-5 * want.losses[i]);
          CHECK(std::abs(got.norms[i] - want.norms[i]) < 1e-4 * want.norms[i]);
        }
        CHECK(std::abs(got.validation_loss - want.validation_loss) < 1e-5 * want.validation_loss);
        // `single` reads the slices' boxes as whole tensors.
        GroupRun reader = job;
        reader.resume_from = run.save_to;
        CHECK(largest_moved_difference(start, want, run_well(reader)) < 1e-3);
      }
    }
  }

  TEST_CASE("techniques/tensor: the same configuration twice is equal to the bit and so after a restart") {
    TemporaryDirectory directory;
    GroupRun run = split({.micro_batches = 2, .num_steps = 7, .dropout = 0.1}, 3);
    run.model = write_sizes(directory, {.vocabulary = 67});
    const GroupResult first = run_well(run);
    GroupRun half = run;
    half.num_steps = 3;
    half.save_to = directory.file("step-000003");
    const GroupResult again = run_well(half);
    CHECK(std::equal(again.losses.begin(), again.losses.end(), first.losses.begin()));
    CHECK(std::equal(again.norms.begin(), again.norms.end(), first.norms.begin()));
    GroupRun rest = run;
    rest.resume_from = half.save_to;
    const GroupResult resumed = run_well(rest);
    REQUIRE(resumed.losses.size() == 4);
    CHECK(std::equal(resumed.losses.begin(), resumed.losses.end(), first.losses.begin() + 3));
    CHECK(std::equal(resumed.norms.begin(), resumed.norms.end(), first.norms.begin() + 3));
  }

  TEST_CASE("techniques/tensor: a rank takes the memory that was predicted") {
    batch::Job job;
    job.batch_size = 4;
    job.precision = "fp32";
    job.model = batch::with_vocabulary(*batch::find_model("gpt2-mini", ".", {}), 64);
    const batch::DataSource data{.sequence_length = 128};
    for (const int num_ranks : {2, 4}) {
      CAPTURE(num_ranks);
      const GroupRun run = split(
          {.batch_size = 4, .num_samples = 8, .sequence_length = 128, .num_steps = 2, .model = "gpt2-mini"},
          num_ranks);
      const auto measured = run_well(run).ranks.front().at("memory_peak_bytes").get<double>();
      const auto predicted = static_cast<double>(batch::find_technique("tensor")->predicted_memory_bytes(
          job, data, {.technique = "tensor", .num_ranks = num_ranks}));
      CHECK(std::abs(measured / predicted - 1.0) < 0.15);
    }
  }

  TEST_CASE("techniques/tensor: what cannot be split is refused with the reason") {
    TemporaryDirectory directory;
    GroupRun run = split({}, 2);
    const auto check_refused = [&](const std::string& why) {
      // The rank that says it first takes its connections away from the other.
      const std::vector<std::string> errors = run_group(run).errors;
      CHECK(std::any_of(errors.begin(), errors.end(),
                        [&](const std::string& error) { return error.find(why) != std::string::npos; }));
    };
    run.model = write_sizes(directory, {.heads = 3});
    check_refused("cannot split 3 attention heads over 2 ranks");
    run.model.clear();
    check_refused("no layer of a tiny model can be split");
  }
}

}  // namespace saturn::testing

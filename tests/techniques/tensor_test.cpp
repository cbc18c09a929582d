// GPT-2 split over tensor groups against single: the same training, bit-equal again, and as much memory as
// was said.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "saturn/base/files.h"
#include "saturn/batch/technique_spec.h"
#include "tests/support/temporary_directory.h"
#include "tests/techniques/compare.h"

namespace saturn::testing {
namespace {

struct Sizes {
  int heads = 12;
  bool tied = true;
  int vocabulary = 64;
  int feed_forward = 96;
};

/// A file of sizes in `directory`.
std::string small_gpt2(const TemporaryDirectory& directory, const Sizes& sizes) {
  const std::string path = directory.file("sizes.toml");
  REQUIRE(write_whole(path, "family = \"gpt2\"\nlayers = 2\nwidth = 48\nlongest_sequence = 16\nheads = " +
                                std::to_string(sizes.heads) +
                                "\nvocabulary = " + std::to_string(sizes.vocabulary) +
                                "\nfeed_forward = " + std::to_string(sizes.feed_forward) +
                                "\ntied_head = " + (sizes.tied ? "true" : "false") + "\n")
              .ok());
  return path;
}

GroupRun split(GroupRun run, int num_ranks, Json knobs = Json::object()) {
  run.technique = "tensor";
  run.num_ranks = num_ranks;
  run.knobs = std::move(knobs);
  return run;
}

}  // namespace

TEST_SUITE("techniques") {
  TEST_CASE("techniques/tensor: trains gpt2 as single does whatever the width and the batch") {
    struct Way {
      int num_ranks = 2;
      Json knobs = Json::object();
    };
    struct Row {
      std::string label;
      Sizes sizes;
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
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      TemporaryDirectory directory;
      GroupRun job = row.run;
      job.model = small_gpt2(directory, row.sizes);
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
    run.model = small_gpt2(directory, {.vocabulary = 67});
    const GroupResult first = run_well(run);
    const GroupResult second = run_well(run);
    CHECK(first.losses == second.losses);
    CHECK(first.norms == second.norms);

    GroupRun half = run;
    half.num_steps = 3;
    half.save_to = directory.file("step-000003");
    run_well(half);
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
    run.model = small_gpt2(directory, {.heads = 3});
    check_refused("cannot split 3 attention heads over 2 ranks");
    run.model.clear();
    check_refused("no layer of a tiny model can be split");
  }
}

}  // namespace saturn::testing

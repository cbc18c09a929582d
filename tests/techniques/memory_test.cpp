// What every technique needs of a slot's memory: against its formula, and offload under a limit that single
// does not keep.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "saturn/base/files.h"
#include "saturn/base/units.h"
#include "saturn/batch/technique_spec.h"
#include "tests/support/temporary_directory.h"
#include "tests/techniques/compare.h"

namespace saturn::testing {
namespace {

constexpr std::int64_t kMiB = std::int64_t{1} << 20;
constexpr int kVocabulary = 64;  // of the ranks' data

/// A GPT-2 of these sizes, as a file.
std::string write_model(const TemporaryDirectory& directory, int layers, int width) {
  const std::string path = directory.file("sizes.toml");
  REQUIRE(write_whole(path, "family = \"gpt2\"\nlayers = " + std::to_string(layers) +
                                "\nheads = 4\nwidth = " + std::to_string(width) + "\nlongest_sequence = 64\n")
              .ok());
  return path;
}

batch::Job job_of(const GroupRun& run) {
  batch::Job job;
  const auto model = batch::find_model(run.model, ".", {});
  REQUIRE(model.ok());
  job.model = with_vocabulary(*model, kVocabulary);
  job.batch_size = run.batch_size;
  job.micro_batches = run.micro_batches;
  job.precision = run.precision;
  return job;
}

std::int64_t largest_peak(const GroupResult& result) {
  std::int64_t largest = 0;
  for (const Json& rank : result.ranks)
    largest = std::max(largest, rank.at("memory_peak_bytes").get<std::int64_t>());
  return largest;
}

/// What of a run decides where its memory goes.
struct Load {
  std::string label;
  int batch_size = 8;
  int micro_batches = 1;
  std::string precision = "fp32";
};
const std::vector<Load>& loads() {
  static const std::vector<Load> all = {
      {"state and activations"}, {"mostly state", 2},    {"mostly activations", 24},
      {"accumulation", 8, 4},    {"bf16", 8, 1, "bf16"},
  };
  return all;
}

const std::vector<Way>& ways() {
  static const std::vector<Way> all = {
      {"single", 1},
      {"single", 1, {{"checkpointing", "selective"}}},
      {"ddp", 2},
      {"ddp", 2, {{"checkpointing", "full"}}},
      {"ddp", 2, {{"shard_optimizer", true}}},
      {"fsdp", 2},
      {"fsdp", 4, {{"checkpointing", "full"}}},
      {"fsdp", 2, {{"reshard_after_forward", false}}},
      {"tensor", 2},
      {"offload", 1, {{"resident", 0}}},
      {"offload", 1, {{"resident", 3}}},
  };
  return all;
}

void check_peak(const std::string& model, const Load& load, const Way& way) {
  CAPTURE(load.label);
  const std::string under = to_text(way);
  CAPTURE(under);
  const GroupRun run{.batch_size = load.batch_size,
                     .micro_batches = load.micro_batches,
                     .num_samples = 24,
                     .sequence_length = 48,
                     .num_steps = 3,
                     .precision = load.precision,
                     .model = model};
  const GroupResult result = run_well(in_way(run, way));
  const batch::Configuration configuration{.technique = way.technique,
                                           .num_devices = way.num_ranks,
                                           .num_ranks = way.num_ranks,
                                           .knobs = result.ranks.front().at("knobs")};
  const std::int64_t predicted =
      batch::find_technique(way.technique)
          ->predicted_memory_bytes(job_of(run),
                                   {.sequence_length = run.sequence_length, .vocabulary_size = kVocabulary},
                                   configuration);
  const double ratio = static_cast<double>(largest_peak(result)) / static_cast<double>(predicted);
  CAPTURE(largest_peak(result));
  CAPTURE(predicted);
  CHECK(ratio > 0.85);
  CHECK(ratio < 1.15);
}

}  // namespace

TEST_SUITE("techniques") {
  // Every way under two loads, every load under two ways at least.
  TEST_CASE("techniques/memory: the peak of every technique is within 15 percent of its formula") {
    TemporaryDirectory directory;
    const std::string model = write_model(directory, 6, 128);
    for (std::size_t i = 0; i < ways().size(); ++i) {
      check_peak(model, loads().front(), ways()[i]);
      check_peak(model, loads()[1 + i % (loads().size() - 1)], ways()[i]);
    }
  }

  TEST_CASE("techniques/long: the peak of every technique is its formula's whatever the load") {
    TemporaryDirectory directory;
    const std::string model = write_model(directory, 6, 128);
    for (const Load& load : loads())
      for (const Way& way : ways()) check_peak(model, load, way);
  }

  TEST_CASE("techniques/memory: fsdp on four ranks holds at most 0.3 of what ddp holds") {
    TemporaryDirectory directory;
    const GroupRun run{.batch_size = 4,
                       .num_samples = 12,
                       .sequence_length = 4,
                       .num_steps = 3,
                       .model = write_model(directory, 40, 96)};
    const auto whole = static_cast<double>(largest_peak(run_well(in_way(run, {"ddp", 4}))));
    const std::int64_t state = 16 * job_of(run).model.num_parameters;
    CHECK(whole > static_cast<double>(state));
    // Its peak, so with the layers that are whole for a while.
    const auto sharded = static_cast<double>(largest_peak(run_well(in_way(run, {"fsdp", 4}))));
    CHECK(sharded < 0.30 * static_cast<double>(state));
    CHECK(sharded < 0.30 * whole);
  }

  TEST_CASE(
      "techniques/memory: offload trains a model of more than four times its slot where single cannot") {
    TemporaryDirectory directory;
    const std::int64_t limit = 24 * kMiB;
    GroupRun run{.batch_size = 8,
                 .micro_batches = 2,
                 .num_samples = 32,
                 .num_steps = 8,
                 .dropout = 0.1,
                 .clip_norm = 1.0,
                 .learning_rate = 5e-4,
                 .model = write_model(directory, 16, 192)};
    REQUIRE(16 * job_of(run).model.num_parameters > 4 * limit);
    const GroupResult start = run_well(with_steps(run, 0));
    const GroupResult want = run_well(run);
    REQUIRE(want.losses.front() - want.losses.back() > 0.05);

    run.memory_limit_bytes = limit;
    const GroupResult refused = run_group(run);
    REQUIRE(refused.errors.front() != "");
    CHECK(refused.errors.front().starts_with("out_of_memory: "));
    CHECK(refused.errors.front().find("the limit is 24.0 MiB") != std::string::npos);

    // How many slices stay is found out by the first step, and is then a function of the knobs alone.
    const GroupResult tuned = run_well(in_way(run, {"offload", 1}));
    CHECK(largest_peak(tuned) <= limit);
    CHECK(largest_loss_difference(want, tuned) < 1e-5);
    CHECK(largest_update_difference(start, want, tuned) < 1e-3);
    const Json knobs = tuned.ranks.front().at("knobs");
    CHECK(knobs.at("resident").get<int>() >= 1);
    CHECK(knobs.at("resident").get<int>() < 8);
    CHECK(tuned.ranks.front().at("measured").at("hidden_copy_share").get<double>() > 0.0);
    const GroupResult again = run_well(in_way(run, {"offload", 1, knobs}));
    CHECK(again.losses == tuned.losses);
    CHECK(again.ranks.front().at("knobs") == knobs);

    // Checkpoints pass by without being held.
    GroupRun half = in_way(with_steps(run, 4), {"offload", 1, knobs});
    half.save_to = directory.file("step-000004");
    run_well(half);
    GroupRun rest = in_way(run, {"offload", 1, knobs});
    rest.resume_from = half.save_to;
    const GroupResult resumed = run_well(rest);
    REQUIRE(resumed.state.size() > 0);
    for (const auto& [name, values] : resumed.state) CHECK(values == again.state.at(name));
    CHECK(largest_peak(resumed) <= limit);
  }
}

}  // namespace saturn::testing

// GPT-2 and LLaMA over meshes of two and three dimensions against single, and meshes that cannot be.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "saturn/base/files.h"
#include "tests/support/temporary_directory.h"
#include "tests/techniques/compare.h"

namespace saturn::testing {
namespace {

/// A file of sizes in `directory`: two blocks of four heads.
std::string small_gpt2(const TemporaryDirectory& directory, bool tied) {
  const std::string path = directory.file("sizes.toml");
  REQUIRE(write_whole(path, std::string("family = \"gpt2\"\nlayers = 2\nwidth = 48\nlongest_sequence = 16\n"
                                        "heads = 4\nvocabulary = 64\ntied_head = ") +
                                (tied ? "true" : "false") + "\n")
              .ok());
  return path;
}

/// The same with two heads of keys and values, and a head of its own.
std::string small_llama(const TemporaryDirectory& directory) {
  const std::string path = directory.file("llama.toml");
  REQUIRE(write_whole(path,
                      "family = \"llama\"\nlayers = 2\nwidth = 48\nlongest_sequence = 16\nheads = 4\n"
                      "kv_heads = 2\nfeed_forward = 96\nvocabulary = 64\n")
              .ok());
  return path;
}

/// Attention and MLP side by side, with an odd number of outputs and a head with a bias.
std::string small_gptj(const TemporaryDirectory& directory) {
  const std::string path = directory.file("gptj.toml");
  REQUIRE(write_whole(path,
                      "family = \"gptj\"\nlayers = 2\nwidth = 48\nlongest_sequence = 16\nheads = 4\n"
                      "rotary_size = 8\nfeed_forward = 97\nvocabulary = 67\n")
              .ok());
  return path;
}

Json mesh(int data, int pipeline, int tensor) {
  return {{"data", data}, {"pipeline", pipeline}, {"tensor", tensor}};
}

/// Cuts fixed, so that two runs of the configuration are one training.
Json with_cuts(Json knobs) {
  if (knobs.at("pipeline") == 2) knobs["cuts"] = {2};
  return knobs;
}

std::string first_error(const GroupRun& run) {
  return run_group(run).errors.front();
}

}  // namespace

TEST_SUITE("techniques") {
  TEST_CASE("techniques/hybrid: every combination of dimensions trains as single does") {
    struct Row {
      std::string label;
      std::string model;
      GroupRun run;
    };
    TemporaryDirectory tied, untied;
    const std::vector<Row> rows = {
        {"tied with dropout and clipping",
         small_gpt2(tied, true),
         {.num_samples = 25, .dropout = 0.1, .clip_norm = 0.5}},
        {"untied with accumulation", small_gpt2(untied, false), {.micro_batches = 2}},
        {"grouped queries", small_llama(untied), {.clip_norm = 0.5}},
        {"side by side with dropout", small_gptj(untied), {.dropout = 0.1}},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      GroupRun job = with_steps(row.run, 20);
      job.model = row.model;
      const GroupResult start = run_well(with_steps(job, 0));
      const GroupResult want = run_well(job);
      REQUIRE(want.losses.front() - want.losses.back() > 0.05);
      for (const Json& knobs : {mesh(2, 2, 1), mesh(2, 1, 2), mesh(1, 2, 2), mesh(2, 2, 2)}) {
        const int num_ranks =
            knobs.at("data").get<int>() * knobs.at("pipeline").get<int>() * knobs.at("tensor").get<int>();
        if (num_ranks == 8 && &row != &rows.front()) continue;
        const Way way{"hybrid", num_ranks, with_cuts(knobs)};
        const std::string under = to_text(way);
        CAPTURE(under);
        const GroupResult got = run_well(in_way(job, way));
        CHECK(largest_loss_difference(want, got) < 1e-5);
        CHECK(largest_moved_difference(start, want, got) < 1e-3);
        CHECK(std::abs(want.validation_loss - got.validation_loss) < 1e-5 * want.validation_loss);
        for (std::size_t i = 0; i < want.norms.size(); ++i)
          CHECK(std::abs(want.norms[i] - got.norms[i]) < 1e-4 * want.norms[i]);
      }
    }
  }

  TEST_CASE("techniques/hybrid: the same configuration twice is equal to the bit and so after a restart") {
    TemporaryDirectory directory;
    GroupRun run = in_way({.dropout = 0.1}, {"hybrid", 4, with_cuts(mesh(1, 2, 2))});
    run.model = small_gpt2(directory, true);
    const GroupResult first = run_well(with_steps(run, 6));
    CHECK(run_well(with_steps(run, 6)).state == first.state);
    GroupRun half = with_steps(run, 3);
    half.save_to = directory.file("step-000003");
    run_well(half);
    GroupRun rest = with_steps(run, 6);
    rest.resume_from = half.save_to;
    const GroupResult resumed = run_well(rest);
    CHECK(std::equal(resumed.losses.begin(), resumed.losses.end(), first.losses.begin() + 3,
                     first.losses.end()));
    REQUIRE(resumed.state.size() > 0);
    for (const auto& [name, values] : resumed.state) {
      CAPTURE(name);
      CHECK(first.state.at(name) == values);
    }
  }

  TEST_CASE("techniques/hybrid: meshes that cannot be are told with what was asked") {
    TemporaryDirectory directory;
    GroupRun run{.technique = "hybrid", .num_ranks = 2};
    run.model = small_gpt2(directory, true);
    run.knobs = mesh(2, 2, 1);
    CHECK(first_error(run).find("does not hold 2 ranks") != std::string::npos);
    run.knobs = {{"data", "two"}};
    CHECK(first_error(run).find("data = \"two\"") != std::string::npos);
    run.num_ranks = 3;
    run.knobs = {{"tensor", 3}};
    CHECK(first_error(run).find("cannot split 4 attention heads over 3 ranks") != std::string::npos);
  }
}

}  // namespace saturn::testing

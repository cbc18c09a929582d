// Frozen parameters and adapters: the same training under every technique, and nothing kept for what is
// frozen.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/temporary_directory.h"
#include "tests/techniques/compare.h"
#include "tests/techniques/sizes.h"

namespace saturn::testing {
namespace {

/// Of each technique and each way of holding state, one; the first stage of the pipelines may train nothing.
const std::vector<Way>& ways() {
  static const std::vector<Way> all = {
      {"single", 1, {{"checkpointing", "full"}}},
      {"ddp", 2},
      {"ddp", 2, {{"shard_optimizer", true}}},
      {"fsdp", 2},
      {"fsdp", 3, {{"reshard_after_forward", false}, {"checkpointing", "selective"}}},
      {"tensor", 2},
      {"pipeline", 2, {{"cuts", {2}}}},
      {"pipeline", 3, {{"cuts", {1, 3}}, {"checkpointing", "full"}}},
      {"hybrid", 4, {{"data", 2}, {"pipeline", 2}, {"cuts", {2}}}},
      {"hybrid", 4, {{"data", 2}, {"tensor", 2}, {"sharded", true}}},
      {"offload", 1},
      {"offload", 1, {{"resident", 2}}},
  };
  return all;
}

struct Row {
  std::string label;
  SmallModel model;
  GroupRun run;
};

const std::string kWeight = "weight/";

const std::vector<Row>& rows() {
  static const std::vector<Row> all = {
      {"a tied table and the first block are frozen",
       {},
       {.micro_batches = 2,
        .dropout = 0.1,
        .clip_norm = 0.5,
        .freeze = {"transformer.wte", "transformer.h.0"}}},
      {"only the last block is trained",
       {.tied = false},
       {.learning_rate = 1e-2,
        .freeze = {"transformer.wte.weight", "transformer.wpe", "transformer.h.0", "*ln_f*", "lm_head"}}},
      {"adapters of all maps of GPT-2",
       {},
       {.learning_rate = 1e-2, .lora_rank = 4, .lora_targets = {"c_attn", "c_proj", "mlp.c_fc"}}},
      {"adapters of some maps of LLaMA",
       {.family = "llama", .heads = 4, .kv_heads = 2},
       {.micro_batches = 2,
        .clip_norm = 0.5,
        .learning_rate = 1e-2,
        .lora_rank = 3,
        .lora_targets = {"q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"}}},
      {"adapters of GPT-J in its last maps",
       {.family = "gptj", .heads = 4, .rotary_size = 8},
       {.learning_rate = 1e-2, .lora_rank = 4, .lora_targets = {"out_proj", "fc_in", "fc_out", "q_proj"}}},
  };
  return all;
}

GroupRun run_of(const Row& row, const TemporaryDirectory& directory) {
  GroupRun run = with_steps(row.run, 20);
  run.model = write_sizes(directory, row.model);
  return run;
}

bool is_frozen(const GroupResult& result, const std::string& weight) {
  return !result.state.contains("exp_avg/" + weight);
}

void check_same_training(const Row& row, const std::vector<Way>& under) {
  CAPTURE(row.label);
  TemporaryDirectory directory;
  const GroupRun run = run_of(row, directory);
  const GroupResult start = run_well(with_steps(run, 0));
  const GroupResult want = run_well(run);
  REQUIRE(want.losses.front() - want.losses.back() > 0.05);
  GroupResult trained = start;  // what is frozen moves nowhere
  std::erase_if(trained.state, [&](const auto& entry) {
    return entry.first.starts_with(kWeight) && is_frozen(want, entry.first.substr(kWeight.size()));
  });
  for (const Way& way : under) {
    CAPTURE(to_text(way));
    const GroupResult got = run_well(in_way(run, way));
    CHECK(largest_difference(want, got, "first_exp_avg") < 1e-5);
    CHECK(largest_loss_difference(want, got) < 1e-5);
    CHECK(std::abs(want.norms.back() - got.norms.back()) < 1e-4 * want.norms.back());
    CHECK(std::abs(want.validation_loss - got.validation_loss) < 1e-5 * want.validation_loss);
    CHECK(largest_moved_difference(trained, want, got) < 1e-3);
    for (const auto& [name, values] : start.state) {
      if (!name.starts_with(kWeight)) continue;
      CAPTURE(name);
      const std::string weight = name.substr(kWeight.size());
      CHECK(is_frozen(got, weight) == is_frozen(want, weight));
      if (is_frozen(got, weight)) CHECK(got.state.at(name) == values);
    }
  }
}

}  // namespace

TEST_SUITE("techniques") {
  TEST_CASE("techniques/fine_tune: frozen and adapted models train as under single whatever the technique") {
    // Every way under one row or more; the long test has all of both.
    for (std::size_t i = 0; i < rows().size(); ++i) {
      std::vector<Way> some;
      for (std::size_t j = 0; j < ways().size(); ++j)
        if ((i + j) % 3 == 0) some.push_back(ways()[j]);
      check_same_training(rows()[i], some);
    }
  }

  TEST_CASE("techniques/long: frozen and adapted models train as under single under every technique") {
    for (const Row& row : rows()) check_same_training(row, ways());
  }

  TEST_CASE(
      "techniques/fine_tune: only what is trained has gradients and state and it alone makes the norm") {
    TemporaryDirectory directory;
    for (const Row& row : rows()) {
      CAPTURE(row.label);
      GroupRun run = with_steps(run_of(row, directory), 1);
      run.clip_norm = 0.0;
      const GroupResult result = run_well(run);
      double squares = 0.0;
      int num_frozen = 0;
      int num_trained = 0;
      for (const auto& [name, values] : result.state) {
        if (name.starts_with("first_exp_avg/")) {
          squares += std::pow(norm(values) / 0.1, 2);  // 1 - beta1
          ++num_trained;
        }
        if (!name.starts_with(kWeight)) continue;
        const std::string weight = name.substr(kWeight.size());
        const bool of_adapter = weight.find(".lora_") != std::string::npos;
        if (row.run.lora_rank > 0) CHECK(is_frozen(result, weight) == !of_adapter);
        num_frozen += is_frozen(result, weight) ? 1 : 0;
      }
      CHECK(num_frozen > 0);
      CHECK(num_trained > 0);
      CHECK(std::sqrt(squares) == doctest::Approx(result.norms.at(0)).epsilon(1e-5));
    }
  }

  TEST_CASE("techniques/fine_tune: an adapted job goes on under another technique where it stopped") {
    TemporaryDirectory directory;
    const Row& row = rows()[3];
    const GroupRun run = with_steps(run_of(row, directory), 8);
    const GroupResult want = run_well(run);
    Way from{"fsdp", 2};
    for (const Way& to :
         std::vector<Way>{{"tensor", 2}, {"offload", 1}, {"ddp", 2, {{"shard_optimizer", true}}}}) {
      CAPTURE(to_text(from));
      CAPTURE(to_text(to));
      GroupRun half = in_way(with_steps(run, 4), from);
      half.save_to = directory.file(from.technique + "-step-000004");
      run_well(half);
      GroupRun rest = in_way(run, to);
      rest.resume_from = half.save_to;
      const GroupResult got = run_well(rest);
      REQUIRE(got.losses.size() == 4);
      for (std::size_t i = 0; i < got.losses.size(); ++i)
        CHECK(std::abs(got.losses[i] - want.losses[i + 4]) < 1e-5 * want.losses[i + 4]);
      from = to;
    }
  }
}

}  // namespace saturn::testing

// Same job, same training: every technique and width against single, and the comparison against a broken
// gradient.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/support/temporary_directory.h"
#include "tests/techniques/compare.h"

namespace saturn::testing {
namespace {

/// A technique's line here puts it before every comparison below.
const std::vector<Way>& ways() {
  static const std::vector<Way> all = {
      {"single", 1, {{"checkpointing", "full"}}},
      {"ddp", 2},
      {"ddp", 3, {{"checkpointing", "selective"}}},
      {"ddp", 4, {{"shard_optimizer", true}}},
      {"ddp", 2, {{"shard_optimizer", true}, {"checkpointing", "full"}}},
      {"fsdp", 1},
      {"fsdp", 2},
      {"fsdp", 3, {{"reshard_after_forward", false}}},
      {"fsdp", 4, {{"checkpointing", "full"}}},
      {"fsdp", 2, {{"reshard_after_forward", false}, {"checkpointing", "selective"}}},
      {"pipeline", 1},
      {"pipeline", 2},
      {"pipeline", 2, {{"micro_batches", 3}, {"order", "gpipe"}}},
      {"pipeline", 3, {{"micro_batches", 8}, {"cuts", {1, 3}}}},
      {"pipeline", 4, {{"micro_batches", 2}, {"checkpointing", "full"}}},
      {"hybrid", 4, {{"data", 2}, {"pipeline", 2}}},
      {"offload", 1},
      {"offload", 1, {{"resident", 1}}},
      {"offload", 1, {{"resident", 4}}},
  };
  return all;
}

/// Of each technique and each other way of holding its state, one.
const std::vector<Way>& ways_that_differ() {
  static const std::vector<Way> all = {
      {"single", 1},
      {"ddp", 3},
      {"ddp", 2, {{"shard_optimizer", true}}},
      {"fsdp", 3},
      {"pipeline", 3, {{"cuts", {1, 2}}}},
      {"offload", 1, {{"resident", 1}}},
  };
  return all;
}

struct LabelledRun {
  std::string label;
  GroupRun run;
};

/// 30 samples in batches of 8 leave a last batch of 6; 25 leave one row, so that all but one rank have none.
const std::vector<LabelledRun>& jobs() {
  static const std::vector<LabelledRun> all = {
      {"plain", {}},
      {"dropout", {.dropout = 0.2}},
      {"accumulation and clipping", {.micro_batches = 2, .clip_norm = 0.5}},
      {"one row in the last batch", {.micro_batches = 3, .num_samples = 25, .dropout = 0.1}},
  };
  return all;
}

/// The job's training under each of `ways` against `single`'s.
void check_same_training(const LabelledRun& job, const std::vector<Way>& ways) {
  CAPTURE(job.label);
  const GroupRun run = with_steps(job.run, 20);
  const GroupResult start = run_well(with_steps(run, 0));
  const GroupResult want = run_well(run);
  REQUIRE(want.losses.front() - want.losses.back() > 0.05);
  for (const Way& way : ways) {
    const std::string under = to_text(way);
    CAPTURE(under);
    const GroupResult got = run_well(in_way(run, way));
    // After one step the first moment is (1 - beta1) times the gradient.
    CHECK(largest_difference(want, got, "first_exp_avg") < 1e-5);
    CHECK(largest_loss_difference(want, got) < 1e-5);
    CHECK(largest_update_difference(start, want, got) < 1e-3);
    CHECK(std::abs(want.validation_loss - got.validation_loss) < 1e-5 * want.validation_loss);
  }
}

/// A job that stopped under `from` goes on under each of `ways` as if it had not.
void check_moves(const GroupResult& want, const Way& from, const std::vector<Way>& ways) {
  const std::string before = to_text(from);
  CAPTURE(before);
  TemporaryDirectory directory;
  GroupRun half = in_way(with_steps({}, 5), from);
  half.save_to = directory.file("step-000005");
  run_well(half);
  for (const Way& to : ways) {
    const std::string behind = to_text(to);
    CAPTURE(behind);
    GroupRun rest = in_way(with_steps({}, 12), to);
    rest.resume_from = half.save_to;
    const GroupResult got = run_well(rest);
    REQUIRE(got.losses.size() == 7);
    for (std::size_t i = 0; i < got.losses.size(); ++i)
      CHECK(std::abs(got.losses[i] - want.losses[i + 5]) < 1e-5 * want.losses[i + 5]);
  }
}

}  // namespace

TEST_SUITE("techniques") {
  // Every way under one job, every technique of several ways under each.
  TEST_CASE(
      "techniques/equivalence: every technique trains as single does whatever the width and the batch") {
    std::map<std::string, std::size_t> num_ways;  // of each technique so far
    std::vector<std::vector<Way>> ways_of_job(jobs().size());
    for (const Way& way : ways()) ways_of_job[num_ways[way.technique]++ % jobs().size()].push_back(way);
    for (std::size_t i = 0; i < jobs().size(); ++i) check_same_training(jobs()[i], ways_of_job[i]);
  }

  TEST_CASE("techniques/long: every technique trains every job as single does") {
    for (const LabelledRun& job : jobs()) check_same_training(job, ways());
  }

  TEST_CASE("techniques/equivalence: a gradient that one rank gets wrong by a hundredth is seen") {
    const GroupRun run = with_steps({}, 1);
    const GroupResult want = run_well(run);
    for (const Way& way : ways_that_differ()) {
      if (way.technique == "offload") continue;  // its weights are no tensors that a test could hook
      CAPTURE(to_text(way));
      GroupRun broken = in_way(run, way);
      broken.break_gradient = true;
      CHECK(largest_difference(want, run_well(broken), "exp_avg") > 1e-4);
    }
  }

  TEST_CASE(
      "techniques/equivalence: the same configuration twice is equal to the bit and so after a restart") {
    for (const Way& way : ways_that_differ()) {
      CAPTURE(to_text(way));
      TemporaryDirectory directory;
      const GroupRun run = in_way({.micro_batches = 2, .dropout = 0.1}, way);
      const GroupResult first = run_well(with_steps(run, 9));
      // Its first half again, and the second half from there.
      GroupRun half = with_steps(run, 4);
      half.save_to = directory.file("step-000004");
      const GroupResult again = run_well(half);
      CHECK(std::equal(again.losses.begin(), again.losses.end(), first.losses.begin()));
      CHECK(std::equal(again.norms.begin(), again.norms.end(), first.norms.begin()));
      for (const auto& [name, values] : again.state) {
        CAPTURE(name);
        if (name.starts_with("first_")) CHECK(first.state.at(name) == values);
      }
      GroupRun rest = with_steps(run, 9);
      rest.resume_from = half.save_to;
      const GroupResult resumed = run_well(rest);
      CHECK(std::equal(resumed.losses.begin(), resumed.losses.end(), first.losses.begin() + 4,
                       first.losses.end()));
      for (const auto& [name, values] : resumed.state) {
        CAPTURE(name);
        CHECK(first.state.at(name) == values);
      }
      CHECK(resumed.state.size() == 27);
    }
  }

  TEST_CASE("techniques/equivalence: a job goes on under another technique where it stopped") {
    const GroupResult want = run_well(with_steps({}, 12));
    const std::vector<Way>& all = ways_that_differ();
    for (std::size_t i = 0; i < all.size(); ++i) check_moves(want, all[i], {all[(i + 1) % all.size()]});
  }

  TEST_CASE("techniques/long: a job goes on under every technique where any other stopped") {
    const GroupResult want = run_well(with_steps({}, 12));
    for (const Way& from : ways_that_differ()) check_moves(want, from, ways_that_differ());
  }

  TEST_CASE(
      "techniques/equivalence: bf16 learns as fp32 does and is the same on ranks within its precision") {
    GroupRun run = with_steps({}, 20);
    const GroupResult fp32 = run_well(run);
    run.precision = "bf16";
    const GroupResult single = run_well(run);
    CHECK(single.losses != fp32.losses);
    CHECK(largest_loss_difference(fp32, single) < 0.02);
    for (const Way& way : std::vector<Way>{{"ddp", 2},
                                           {"ddp", 3, {{"compression", "bf16"}}},
                                           {"fsdp", 1},
                                           {"fsdp", 3},
                                           {"pipeline", 2},
                                           {"offload", 1},
                                           {"offload", 1, {{"resident", 2}}}}) {
      CAPTURE(to_text(way));
      CHECK(largest_loss_difference(single, run_well(in_way(run, way))) < 0.02);
    }
  }

  TEST_CASE("techniques/knobs: a knob that says something unknown is refused with what it may say") {
    struct Row {
      Way way;
      std::string precision;
      std::string message;
    };
    for (const Row& row : std::vector<Row>{
             {{"single", 1, {{"checkpointing", "some"}}}, "fp32", "one of none, selective, full"},
             {{"ddp", 2, {{"shard_optimizer", 2}}}, "fp32", "true or false"},
             {{"ddp", 2, {{"compression", "bf16"}}}, "fp32", "a job of precision bf16"},
             {{"fsdp", 2, {{"reshard_after_forward", "no"}}}, "fp32", "true or false"},
         }) {
      CAPTURE(to_text(row.way));
      GroupRun run = in_way({.precision = row.precision}, row.way);
      const GroupResult result = run_group(run);
      // A rank may learn first that another one has gone.
      const auto says = [&](const std::string& error) {
        return error.find(row.message) != std::string::npos;
      };
      CHECK(std::any_of(result.errors.begin(), result.errors.end(), says));
    }
  }
}

TEST_SUITE("techniques") {
  TEST_CASE("techniques/peers: a rank that dies takes the others down and they know that a peer is gone") {
    for (const Way& way : std::vector<Way>{{"ddp", 3}, {"fsdp", 3}, {"pipeline", 3}}) {
      CAPTURE(to_text(way));
      GroupRun run = in_way(with_steps({}, 50), way);
      run.kill_rank_at_step = 3;
      const GroupResult result = run_group(run);
      CHECK(result.exit_codes == std::vector<int>{1, 1, 9});
      for (const int survivor : {0, 1}) {
        const std::string& error = result.errors[static_cast<std::size_t>(survivor)];
        CAPTURE(error);
        CHECK(error.starts_with("peer_lost: "));
        // Its connections told them, at once: not the deadline of a collective, which ends what nobody tells.
        CHECK(error.find("Timed out") == std::string::npos);
      }
    }
  }

  TEST_CASE("techniques/peers: ranks report how long they exchanged and how much of it they only waited") {
    for (const Way& way : std::vector<Way>{{"ddp", 2}, {"fsdp", 2}}) {
      CAPTURE(to_text(way));
      const GroupResult result = run_well(in_way(with_steps({}, 10), way));
      const Json& measured = result.ranks.at(0).at("measured");
      REQUIRE(measured.contains("communication_s"));
      const double all_s = measured.at("communication_s").get<double>();
      const double exposed_s = measured.at("communication_exposed_s").get<double>();
      CHECK(all_s > 0.0);
      CHECK(exposed_s >= 0.0);
      CHECK(exposed_s < result.wall_s);
    }
    CHECK(run_well(with_steps({}, 2)).ranks.at(0).at("measured").empty());
  }
}

}  // namespace saturn::testing

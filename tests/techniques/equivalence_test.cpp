// Same job, same training: every technique and width against single, and the comparison against a broken
// gradient. A technique adds its lines to the tables of ways.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/temporary_directory.h"
#include "tests/techniques/compare.h"

namespace saturn::testing {
namespace {

/// What every job below is trained by, beside single.
const std::vector<Way>& ways() {
  static const std::vector<Way> all = {
      {"ddp", 2},
      {"ddp", 3},
      {"offload", 1},
      {"offload", 1, {{"resident", 1}}},
      {"offload", 1, {{"resident", 4}}},
  };
  return all;
}

}  // namespace

TEST_SUITE("techniques") {
  TEST_CASE(
      "techniques/equivalence: every technique trains as single does whatever the width and the batch") {
    struct Row {
      std::string label;
      GroupRun run;
    };
    // 30 samples in batches of 8 leave a last batch of 6; 25 leave one row, so that two of three ranks have
    // none.
    const std::vector<Row> rows = {
        {"plain", {}},
        {"dropout", {.dropout = 0.2}},
        {"accumulation and clipping", {.micro_batches = 2, .clip_norm = 0.5}},
        {"one row in the last batch", {.micro_batches = 3, .num_samples = 25, .dropout = 0.1}},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      const GroupResult start = run_well(with_steps(row.run, 0));
      const GroupResult want_first = run_well(with_steps(row.run, 1));
      const GroupResult want = run_well(with_steps(row.run, 20));
      REQUIRE(want.losses.front() - want.losses.back() > 0.05);
      for (const Way& way : ways()) {
        const std::string under = to_text(way);
        CAPTURE(under);
        // After one step the first moment is (1 - beta1) times the gradient.
        const GroupResult got_first = run_well(in_way(with_steps(row.run, 1), way));
        CHECK(largest_difference(want_first, got_first, "exp_avg") < 1e-5);
        const GroupResult got = run_well(in_way(with_steps(row.run, 20), way));
        CHECK(largest_loss_difference(want, got) < 1e-5);
        CHECK(largest_update_difference(start, want, got) < 1e-3);
        CHECK(std::abs(want.validation_loss - got.validation_loss) < 1e-5 * want.validation_loss);
      }
    }
  }

  TEST_CASE("techniques/equivalence: a gradient that one rank gets wrong by a hundredth is seen") {
    const GroupRun run;
    const GroupResult want = run_well(with_steps(run, 1));
    GroupRun broken = in_way(with_steps(run, 1), {"ddp", 2});
    broken.break_gradient = true;
    CHECK(largest_difference(want, run_well(broken), "exp_avg") > 1e-4);
  }

  TEST_CASE(
      "techniques/equivalence: the same configuration twice is equal to the bit and so after a restart") {
    const std::vector<Way> ways = {
        {"single", 1}, {"ddp", 3}, {"offload", 1}, {"offload", 1, {{"resident", 2}}}};
    for (const Way& way : ways) {
      const std::string under = to_text(way);
      CAPTURE(under);
      TemporaryDirectory directory;
      const GroupRun run = in_way({.micro_batches = 2, .dropout = 0.1}, way);
      const GroupResult first = run_well(with_steps(run, 9));
      const GroupResult second = run_well(with_steps(run, 9));
      CHECK(first.losses == second.losses);
      CHECK(first.state == second.state);

      GroupRun half = with_steps(run, 4);
      half.save_to = directory.file("step-000004");
      run_well(half);
      GroupRun rest = with_steps(run, 9);
      rest.resume_from = half.save_to;
      const GroupResult resumed = run_well(rest);
      CHECK(std::equal(resumed.losses.begin(), resumed.losses.end(), first.losses.begin() + 4,
                       first.losses.end()));
      CHECK(resumed.state == first.state);
    }
  }

  TEST_CASE("techniques/equivalence: a job goes on under another technique where it stopped") {
    const std::vector<std::pair<Way, Way>> moves = {
        {{"ddp", 2}, {"single", 1}},
        {{"single", 1}, {"ddp", 3}},
        {{"ddp", 2}, {"offload", 1}},
        {{"offload", 1, {{"resident", 1}}}, {"single", 1}},
    };
    for (const auto& [from, to] : moves) {
      const std::string move = to_text(from) + " to " + to_text(to);
      CAPTURE(move);
      TemporaryDirectory directory;
      const GroupResult want = run_well(with_steps({}, 12));
      GroupRun half = in_way(with_steps({}, 5), from);
      half.save_to = directory.file("step-000005");
      run_well(half);
      GroupRun rest = in_way(with_steps({}, 12), to);
      rest.resume_from = half.save_to;
      const GroupResult got = run_well(rest);
      REQUIRE(got.losses.size() == 7);
      for (std::size_t i = 0; i < got.losses.size(); ++i)
        CHECK(std::abs(got.losses[i] - want.losses[i + 5]) < 1e-5 * want.losses[i + 5]);
    }
  }

  TEST_CASE(
      "techniques/equivalence: bf16 learns as fp32 does and is the same under others within its precision") {
    GroupRun run = with_steps({}, 20);
    const GroupResult fp32 = run_well(run);
    run.precision = "bf16";
    const GroupResult single = run_well(run);
    CHECK(single.losses != fp32.losses);
    CHECK(largest_loss_difference(fp32, single) < 0.02);
    const std::vector<Way> ways = {{"ddp", 2}, {"offload", 1}, {"offload", 1, {{"resident", 2}}}};
    for (const Way& way : ways) {
      const std::string under = to_text(way);
      CAPTURE(under);
      CHECK(largest_loss_difference(single, run_well(in_way(run, way))) < 0.02);
    }
  }
}

TEST_SUITE("techniques") {
  TEST_CASE(
      "techniques/peers: a rank that dies takes the others down within seconds and is named as the cause") {
    GroupRun run = in_way(with_steps({}, 50), {"ddp", 3});
    run.kill_rank_at_step = 3;
    const GroupResult result = run_group(run);
    CHECK(result.exit_codes == std::vector<int>{1, 1, 9});
    CHECK(result.errors[0].starts_with("peer_lost: "));
    CHECK(result.errors[1].starts_with("peer_lost: "));
    CHECK(result.wall_s < 10.0);
  }
}

}  // namespace saturn::testing

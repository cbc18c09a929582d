// Same job, same training: every technique and width against single, and the comparison against a broken
// gradient.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/support/temporary_directory.h"
#include "tests/techniques/group.h"

namespace saturn::testing {
namespace {

double norm(const std::vector<float>& values) {
  double sum = 0.0;
  for (float v : values) sum += static_cast<double>(v) * v;
  return std::sqrt(sum);
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  REQUIRE(a.size() == b.size());
  double sum = 0.0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return std::sqrt(sum);
}

/// Largest difference of any tensor of `role` relative to its norm.
double largest_difference(const GroupResult& want, const GroupResult& got, const std::string& role) {
  double largest = 0.0;
  int compared = 0;
  for (const auto& [name, values] : want.state) {
    if (!name.starts_with(role + "/")) continue;
    ++compared;
    largest = std::max(largest, distance(values, got.state.at(name)) / norm(values));
  }
  REQUIRE(compared == 9);
  return largest;
}

double largest_loss_difference(const GroupResult& want, const GroupResult& got) {
  REQUIRE(want.losses.size() == got.losses.size());
  double largest = 0.0;
  for (std::size_t i = 0; i < want.losses.size(); ++i)
    largest = std::max(largest, std::abs(want.losses[i] - got.losses[i]) / want.losses[i]);
  return largest;
}

/// Largest difference of any tensor's total update relative to the update's norm. `start` has trained no
/// step.
double largest_update_difference(const GroupResult& start, const GroupResult& want, const GroupResult& got) {
  double largest = 0.0;
  for (const auto& [name, before] : start.state) {
    if (!name.starts_with("weight/")) continue;
    const double update = distance(want.state.at(name), before);
    REQUIRE(update > 0.0);
    largest = std::max(largest, distance(want.state.at(name), got.state.at(name)) / update);
  }
  return largest;
}

GroupResult run_well(const GroupRun& run) {
  GroupResult result = run_group(run);
  for (const std::string& error : result.errors) REQUIRE(error == "");
  REQUIRE(static_cast<int>(result.losses.size()) <= run.num_steps);
  return result;
}

GroupRun on_ranks(GroupRun run, int num_ranks) {
  run.technique = num_ranks == 1 ? "single" : "ddp";
  run.num_ranks = num_ranks;
  return run;
}

GroupRun with_steps(GroupRun run, int num_steps) {
  run.num_steps = num_steps;
  return run;
}

}  // namespace

TEST_SUITE("techniques") {
  TEST_CASE("techniques/equivalence: ddp trains as single does whatever the width and the batch") {
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
      for (int num_ranks : {2, 3}) {
        CAPTURE(num_ranks);
        // After one step the first moment is (1 - beta1) times the gradient.
        const GroupResult got_first = run_well(on_ranks(with_steps(row.run, 1), num_ranks));
        CHECK(largest_difference(want_first, got_first, "exp_avg") < 1e-5);
        const GroupResult got = run_well(on_ranks(with_steps(row.run, 20), num_ranks));
        CHECK(largest_loss_difference(want, got) < 1e-5);
        CHECK(largest_update_difference(start, want, got) < 1e-3);
        CHECK(std::abs(want.validation_loss - got.validation_loss) < 1e-5 * want.validation_loss);
      }
    }
  }

  TEST_CASE("techniques/equivalence: a gradient that one rank gets wrong by a hundredth is seen") {
    const GroupRun run;
    const GroupResult want = run_well(with_steps(run, 1));
    GroupRun broken = on_ranks(with_steps(run, 1), 2);
    broken.break_gradient = true;
    CHECK(largest_difference(want, run_well(broken), "exp_avg") > 1e-4);
  }

  TEST_CASE(
      "techniques/equivalence: the same configuration twice is equal to the bit and so after a restart") {
    for (int num_ranks : {1, 3}) {
      CAPTURE(num_ranks);
      TemporaryDirectory directory;
      const GroupRun run = on_ranks({.micro_batches = 2, .dropout = 0.1}, num_ranks);
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
    for (const auto& [from, to] : std::vector<std::pair<int, int>>{{2, 1}, {1, 3}}) {
      CAPTURE(from);
      CAPTURE(to);
      TemporaryDirectory directory;
      const GroupResult want = run_well(with_steps({}, 12));
      GroupRun half = on_ranks(with_steps({}, 5), from);
      half.save_to = directory.file("step-000005");
      run_well(half);
      GroupRun rest = on_ranks(with_steps({}, 12), to);
      rest.resume_from = half.save_to;
      const GroupResult got = run_well(rest);
      REQUIRE(got.losses.size() == 7);
      for (std::size_t i = 0; i < got.losses.size(); ++i)
        CHECK(std::abs(got.losses[i] - want.losses[i + 5]) < 1e-5 * want.losses[i + 5]);
    }
  }

  TEST_CASE(
      "techniques/equivalence: bf16 learns as fp32 does and is the same on two ranks within its precision") {
    GroupRun run = with_steps({}, 20);
    const GroupResult fp32 = run_well(run);
    run.precision = "bf16";
    const GroupResult single = run_well(run);
    const GroupResult ddp = run_well(on_ranks(run, 2));
    CHECK(single.losses != fp32.losses);
    CHECK(largest_loss_difference(fp32, single) < 0.02);
    CHECK(largest_loss_difference(single, ddp) < 0.02);
  }
}

TEST_SUITE("techniques") {
  TEST_CASE(
      "techniques/peers: a rank that dies takes the others down within seconds and is named as the cause") {
    GroupRun run = on_ranks(with_steps({}, 50), 3);
    run.kill_rank_at_step = 3;
    const GroupResult result = run_group(run);
    CHECK(result.exit_codes == std::vector<int>{1, 1, 9});
    CHECK(result.errors[0].starts_with("peer_lost: "));
    CHECK(result.errors[1].starts_with("peer_lost: "));
    CHECK(result.wall_s < 10.0);
  }
}

}  // namespace saturn::testing

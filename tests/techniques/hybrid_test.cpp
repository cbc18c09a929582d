// Every family over meshes of two and three dimensions against single, with the data dimension whole and
// sharded, and meshes that cannot be.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "tests/techniques/compare.h"
#include "tests/techniques/sizes.h"

namespace saturn::testing {
namespace {

Json mesh(int data, int pipeline, int tensor) {
  return {{"data", data}, {"pipeline", pipeline}, {"tensor", tensor}};
}

/// Cuts fixed, so that two runs of the configuration are one training.
Json with_cuts(Json knobs) {
  if (knobs.at("pipeline") == 2) knobs["cuts"] = {2};
  return knobs;
}

/// Whether a rank ends for the reason `why`; the others may learn first that it has gone.
bool ends_with(const GroupRun& run, const std::string& why) {
  const std::vector<std::string> errors = run_group(run).errors;
  return std::any_of(errors.begin(), errors.end(),
                     [&](const std::string& error) { return error.find(why) != std::string::npos; });
}

/// A job, and the knobs of the meshes that train it.
struct Row {
  std::string label;
  SmallModel model;
  GroupRun run;
  std::vector<Json> meshes;
};

Json sharded(Json knobs, bool reshards = true) {
  knobs["sharded"] = true;
  if (!reshards) knobs["reshard_after_forward"] = false;
  return knobs;
}

const std::vector<Row>& rows() {
  static const std::vector<Row> all = {
      {"tied with dropout, clipping and one row in the last batch",
       {.heads = 4},
       {.num_samples = 25, .dropout = 0.1, .clip_norm = 0.5},
       {mesh(2, 1, 2), sharded(mesh(2, 2, 1)), sharded(mesh(2, 2, 2))}},
      {"untied with accumulation and nothing that divides",
       {.heads = 4, .tied = false, .vocabulary = 67, .feed_forward = 97},
       {.micro_batches = 2, .sequence_length = 11},
       {mesh(1, 2, 2), sharded(mesh(2, 1, 2), /*reshards=*/false)}},
      {"grouped queries with clipping",
       {.family = "llama", .heads = 4, .kv_heads = 2},
       {.clip_norm = 0.5},
       {mesh(2, 2, 1), mesh(1, 2, 2)}},
      {"side by side with dropout",
       {.family = "gptj", .heads = 4, .rotary_size = 8, .vocabulary = 67, .feed_forward = 97},
       {.dropout = 0.1},
       {mesh(1, 2, 2), sharded(mesh(2, 2, 1))}},
  };
  return all;
}

void check_rows(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    CAPTURE(row.label);
    TemporaryDirectory directory;
    GroupRun job = with_steps(row.run, 20);
    job.model = write_sizes(directory, row.model);
    const GroupResult start = run_well(with_steps(job, 0));
    const GroupResult want = run_well(job);
    REQUIRE(want.losses.front() - want.losses.back() > 0.05);
    for (const Json& knobs : row.meshes) {
      const int num_ranks =
          knobs.at("data").get<int>() * knobs.at("pipeline").get<int>() * knobs.at("tensor").get<int>();
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

}  // namespace

TEST_SUITE("techniques") {
  TEST_CASE("techniques/hybrid: every combination of dimensions trains as single does") {
    check_rows(rows());
  }

  TEST_CASE("techniques/long: every mesh, whole and sharded, trains every job as single does") {
    std::vector<Row> all = rows();
    for (Row& row : all) {
      row.meshes = {mesh(1, 2, 2)};
      for (const Json& knobs : {mesh(2, 2, 1), mesh(2, 1, 2), mesh(2, 2, 2)}) {
        row.meshes.push_back(knobs);
        row.meshes.push_back(sharded(knobs));
        row.meshes.push_back(sharded(knobs, /*reshards=*/false));
      }
    }
    check_rows(all);
  }

  TEST_CASE("techniques/hybrid: the same configuration twice is equal to the bit and so after a restart") {
    TemporaryDirectory directory;
    GroupRun run = in_way({.dropout = 0.1}, {"hybrid", 4, sharded(with_cuts(mesh(2, 2, 1)))});
    run.model = write_sizes(directory, {.heads = 4});
    const GroupResult first = run_well(with_steps(run, 6));
    GroupRun half = with_steps(run, 3);
    half.save_to = directory.file("step-000003");
    const GroupResult again = run_well(half);
    CHECK(std::equal(again.losses.begin(), again.losses.end(), first.losses.begin()));
    CHECK(std::equal(again.norms.begin(), again.norms.end(), first.norms.begin()));
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
    run.model = write_sizes(directory, {.heads = 4});
    run.knobs = mesh(2, 2, 1);
    CHECK(ends_with(run, "does not hold 2 ranks"));
    run.knobs = {{"data", "two"}};
    CHECK(ends_with(run, "data = \"two\""));
    run.knobs = {{"data", 2}, {"sharded", "yes"}};
    CHECK(ends_with(run, "true or false"));
    run.num_ranks = 3;
    run.knobs = {{"tensor", 3}};
    CHECK(ends_with(run, "cannot split 4 attention heads over 3 ranks"));
  }
}

}  // namespace saturn::testing

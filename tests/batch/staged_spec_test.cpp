// What pipeline says of jobs before any trial: refusals, candidates, memory and time.

#include <algorithm>
#include <set>

#include "batch/techniques/stages.h"
#include "tests/batch/support.h"

namespace saturn {
namespace {

using batch::Configuration;
using batch::DeviceGroup;
using batch::Job;
using testing::BatchFolder;

struct Case {
  Job job;
  batch::DataSource data;
};

/// A deep model, so that blocks and not tables are most of it.
Case deep_case(int batch_size = 16) {
  BatchFolder folder;
  const auto batch = folder.read(testing::kPlainJob);
  REQUIRE(batch.ok());
  Case one{batch->jobs[0], batch->data.at("text")};
  one.job.batch_size = batch_size;
  const std::int64_t outside =
      one.job.model.num_parameters - one.job.model.num_layers * one.job.model.num_layer_parameters;
  one.job.model.num_layers = 14;
  one.job.model.num_parameters = outside + 14 * one.job.model.num_layer_parameters;
  return one;
}

std::string refusal_of(const Job& job, int num_devices) {
  return batch::find_technique("pipeline")->refusal(job, {.num_devices = num_devices}).value_or("");
}

Configuration pipeline_of(int num_ranks, Json knobs) {
  return {
      .technique = "pipeline", .num_devices = num_ranks, .num_ranks = num_ranks, .knobs = std::move(knobs)};
}

}  // namespace

TEST_SUITE("batch") {
  TEST_CASE("batch/staged_spec: a pipeline is refused where stages or micro-batches cannot be had") {
    const Case one = deep_case();
    CHECK(refusal_of(one.job, 1) == "needs at least 2 devices");
    CHECK(refusal_of(one.job, 16) == "");
    CHECK(refusal_of(one.job, 17) == "needs a layer for every stage, and the model has 16");
    Job small = one.job;
    small.batch_size = 1;
    CHECK(refusal_of(small, 2) == "needs 2 rows of the batch for 2 micro-batches");
  }

  TEST_CASE("batch/staged_spec: a family with BatchNorm is refused with the reason") {
    batch::Family family = batch::families().front();
    CHECK_FALSE(batch::techniques::stages_refusal(family).has_value());
    family.batch_statistics = true;
    CHECK(batch::techniques::stages_refusal(family).value().find("BatchNorm") != std::string::npos);
  }

  TEST_CASE("batch/staged_spec: candidates differ in micro-batches and never have more than rows") {
    for (const int batch_size : {2, 5, 16, 64}) {
      const Case one = deep_case(batch_size);
      for (const int width : {2, 3, 4}) {
        std::set<int> counts;
        const auto candidates =
            batch::find_technique("pipeline")->candidates(one.job, {.num_devices = width});
        for (const Configuration& candidate : candidates) {
          const int count = candidate.knobs.at("micro_batches").get<int>();
          CHECK(count <= batch_size);
          if (!candidate.knobs.contains("checkpointing")) CHECK(counts.insert(count).second);
        }
        CHECK(candidates.size() == 3 * counts.size());
        CHECK(counts.size() <= 8);
        CHECK(candidates.front().knobs.at("micro_batches") == std::min(4 * width, batch_size));
      }
    }
  }

  TEST_CASE("batch/staged_spec: a stage needs its part of the memory and its order tells how much it keeps") {
    const Case one = deep_case();
    const auto memory = [&](const Configuration& configuration) {
      return batch::find_technique(configuration.technique)
          ->predicted_memory_bytes(one.job, one.data, configuration);
    };
    const std::int64_t whole = memory({.technique = "ddp", .num_devices = 2, .num_ranks = 2});
    const std::int64_t two = memory(pipeline_of(2, {{"micro_batches", 8}}));
    const std::int64_t four = memory(pipeline_of(4, {{"micro_batches", 8}}));
    CHECK(two < 0.7 * static_cast<double>(whole));
    CHECK(four < two);
    CHECK(memory(pipeline_of(2, {{"micro_batches", 8}, {"order", "gpipe"}})) > two);
    CHECK(memory(pipeline_of(2, {{"micro_batches", 8}, {"checkpointing", "full"}})) < two);
    CHECK(memory(pipeline_of(2, {{"micro_batches", 8}, {"cuts", {15}}})) > two);
  }

  TEST_CASE("batch/staged_spec: hybrid offers every mesh whole and with its data dimension sharded") {
    const Case one = deep_case();
    const auto candidates = batch::find_technique("hybrid")->candidates(one.job, {.num_devices = 8});
    std::set<std::string> meshes;
    for (const Configuration& candidate : candidates) {
      const Json& knobs = candidate.knobs;
      const bool sharded = knobs.value("sharded", false);
      CHECK((!sharded || knobs.contains("data")));
      meshes.insert(std::to_string(knobs.value("data", 1)) + std::to_string(knobs.value("pipeline", 1)) +
                    std::to_string(knobs.value("tensor", 1)) + (sharded ? " sharded" : ""));
    }
    for (const std::string mesh : {"222", "421", "412", "241", "142", "222 sharded", "421 sharded"}) {
      CAPTURE(mesh);
      CHECK(meshes.contains(mesh));
    }
    const auto memory = [&](Json knobs) {
      return batch::find_technique("hybrid")->predicted_memory_bytes(
          one.job, one.data,
          {.technique = "hybrid", .num_devices = 8, .num_ranks = 8, .knobs = std::move(knobs)});
    };
    CHECK(memory({{"data", 4}, {"tensor", 2}, {"sharded", true}}) < memory({{"data", 4}, {"tensor", 2}}));
  }

  TEST_CASE("batch/staged_spec: a step should take longer where the bubble is larger") {
    const Case one = deep_case(64);
    const auto time_s = [&](int num_ranks, int micro_batches) {
      const Configuration configuration = pipeline_of(num_ranks, {{"micro_batches", micro_batches}});
      return batch::find_technique("pipeline")->predicted_step_time_s(one.job, one.data, configuration);
    };
    CHECK(time_s(4, 2) > time_s(4, 8));
    CHECK(time_s(2, 8) > time_s(4, 16));
  }
}

}  // namespace saturn

#include "saturn/batch/memory_model.h"

#include "tests/batch/support.h"

namespace saturn {
namespace {

using batch::ActivationBytes;
using batch::Checkpointing;
using batch::checkpointing_of;
using testing::BatchFolder;

TEST_SUITE("batch") {
  TEST_CASE("batch/memory_model: checkpointing is read from the knobs and unknown policies are told apart") {
    CHECK(checkpointing_of(Json::object()) == Checkpointing::none);
    for (const Checkpointing policy : {Checkpointing::none, Checkpointing::selective, Checkpointing::full})
      CHECK(checkpointing_of({{"checkpointing", batch::name_of(policy)}}) == policy);
    CHECK_FALSE(checkpointing_of({{"checkpointing", "half"}}).has_value());
    CHECK_FALSE(checkpointing_of({{"checkpointing", 2}}).has_value());
  }

  TEST_CASE("batch/memory_model: the parameters of a model are dealt to embedding and blocks and head") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob);
    REQUIRE(batch.ok());
    batch::ModelSpec model = batch->jobs[0].model;
    const auto tied = batch::parameter_counts(model);
    CHECK(tied.embedding == (model.vocabulary + model.longest_sequence) * model.width);
    CHECK(tied.head == 2 * model.width);
    CHECK(tied.embedding + model.num_layers * tied.block + tied.head == model.num_parameters);
    CHECK(tied.head_table == model.vocabulary * model.width);

    model.sizes["tied_head"] = false;
    model.num_parameters += tied.head_table;
    const auto untied = batch::parameter_counts(model);
    CHECK(untied.embedding == tied.embedding);
    CHECK(untied.head == tied.head + tied.head_table);
  }

  TEST_CASE("batch/memory_model: a block keeps sixteen values a token and unit of width") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob);
    REQUIRE(batch.ok());
    batch::Job job = batch->jobs[0];
    const batch::DataSource& data = batch->data.at("text");
    const std::int64_t values = std::int64_t{4} * data.sequence_length * job.model.width;
    const ActivationBytes fp32 = activation_bytes(job, data, 4);
    CHECK(fp32.block_input == 4 * values);
    CHECK(fp32.block_kept == 16 * 4 * values);
    job.precision = "bf16";
    CHECK(activation_bytes(job, data, 4).block_kept == 16 * 2 * values);
  }

  TEST_CASE("batch/memory_model: checkpointing keeps inputs and one recomputed block") {
    const ActivationBytes one{.block_input = 1, .block_kept = 16};
    CHECK(one.kept(6, Checkpointing::none) == 6 * 16);
    CHECK(one.kept(6, Checkpointing::selective) == 3 * 16 + 3 + 16);
    CHECK(one.kept(7, Checkpointing::selective) == 3 * 16 + 4 + 16);
    CHECK(one.kept(6, Checkpointing::full) == 6 + 16);
    CHECK(one.kept(0, Checkpointing::full) == 0);
  }

  TEST_CASE("batch/memory_model: the largest micro-batch has the rows that do not divide") {
    batch::Job job;
    job.batch_size = 10;
    CHECK(batch::rows_of_micro_batch(job, 1, 1) == 10);
    CHECK(batch::rows_of_micro_batch(job, 4, 1) == 3);
    CHECK(batch::rows_of_micro_batch(job, 4, 2) == 2);
  }
}

}  // namespace
}  // namespace saturn

// Which parameters a job trains, and what that takes.

#include "saturn/batch/fine_tune.h"

#include "saturn/batch/identity.h"
#include "saturn/batch/memory_model.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/checkpoint/space.h"
#include "tests/batch/support.h"

namespace saturn {
namespace {

using testing::BatchFolder;

batch::Job only_job(BatchFolder& folder, const std::string& more) {
  const auto batch = folder.read(testing::kPlainJob + more);
  CAPTURE(testing::faults_of(batch));
  REQUIRE(batch.ok());
  return batch->jobs.at(0);
}

TEST_SUITE("batch") {
  TEST_CASE("batch/fine_tune: a pattern is a name or its beginning up to a dot or has stars") {
    struct Row {
      std::string pattern;
      std::string name;
      bool want = false;
    };
    for (const Row& row : std::vector<Row>{
             {"transformer.wte", "transformer.wte.weight", true},
             {"transformer.wte.weight", "transformer.wte.weight", true},
             {"transformer.wt", "transformer.wte.weight", false},
             {"transformer.h.1", "transformer.h.10.ln_1.weight", false},
             {"transformer.h.1", "transformer.h.1.ln_1.weight", true},
             {"transformer.h.*.ln_1", "transformer.h.10.ln_1.bias", true},
             {"*.bias", "transformer.h.10.ln_1.bias", true},
             {"*.bias", "transformer.h.10.ln_1.bias2", false},
             {"*", "anything", true},
             {"**a*b", "xxaxxbxxab", true},
             {"**a*b", "xxaxxbxxabc", false},
             {"", "", true},
             {"", "x", false},
         }) {
      CAPTURE(row.pattern);
      CAPTURE(row.name);
      CHECK(batch::freezes(row.pattern, row.name) == row.want);
    }
    // Many stars take time in their product, not in its power.
    CHECK_FALSE(batch::freezes("*a*a*a*a*a*a*a*a*a*a*b", std::string(20000, 'a')));
  }

  TEST_CASE("batch/fine_tune: a target is the end of a module's name as peft takes it") {
    CHECK(batch::is_target({"c_attn"}, "transformer.h.0.attn.c_attn.weight"));
    CHECK(batch::is_target({"attn.c_attn"}, "transformer.h.0.attn.c_attn.weight"));
    CHECK_FALSE(batch::is_target({"attn"}, "transformer.h.0.attn.c_attn.weight"));
    CHECK_FALSE(batch::is_target({"c_attn"}, "transformer.h.0.attn.c_attn.bias"));
    CHECK_FALSE(batch::is_target({"_attn"}, "transformer.h.0.attn.c_attn.weight"));
    CHECK(batch::is_target({"x", "head"}, "head.weight"));
  }

  TEST_CASE("batch/fine_tune: gradients and moments are counted of what is trained alone") {
    BatchFolder folder;
    const batch::Job plain = only_job(folder, "");
    const auto all = batch::parameter_counts(plain.model);
    CHECK(batch::held_counts(plain).all == all.all);
    CHECK(batch::trained_counts(plain).all == all.all);

    const batch::Job frozen = only_job(folder, "freeze = [\"transformer.wte\", \"transformer.h.0\"]\n");
    const auto of_frozen = batch::trained_counts(frozen);
    CHECK(batch::held_counts(frozen).all == all.all);
    CHECK(of_frozen.all == all.all - all.head_table - all.block);
    CHECK(of_frozen.head_table == 0);
    CHECK(of_frozen.block == all.block);

    const batch::Job adapted = only_job(folder, "lora = {rank = 4}\n");
    REQUIRE(adapted.lora);
    CHECK(adapted.lora->targets == std::vector<std::string>{"c_attn"});
    const std::int64_t maps = std::int64_t{4} * plain.model.num_layers * 4 * plain.model.width;
    CHECK(batch::trained_counts(adapted).all == maps);
    CHECK(batch::held_counts(adapted).all == all.all + maps);
    const batch::RunSettings run;
    CHECK(checkpoint::space_needed(plain, run).checkpoint_bytes == 12 * all.all);
    CHECK(checkpoint::space_needed(adapted, run).checkpoint_bytes == 4 * all.all + 12 * maps);
  }

  TEST_CASE("batch/fine_tune: every technique predicts less memory for an adapted job than for a whole one") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob);
    REQUIRE(batch.ok());
    const batch::DataSource& data = batch->data.at("text");
    const batch::Job& plain = batch->jobs.at(0);
    batch::Job adapted = plain;
    adapted.lora = batch::Lora{.rank = 2, .alpha = 4.0, .targets = {"c_attn"}, .start = {}};
    const batch::DeviceGroup devices{.num_devices = 2};
    int compared = 0;
    for (const batch::TechniqueSpec& spec : batch::technique_specs()) {
      CAPTURE(spec.name);
      if (spec.refusal(plain, devices)) continue;
      for (const batch::Configuration& one : spec.candidates(plain, devices)) {
        CHECK(spec.predicted_memory_bytes(adapted, data, one) <
              spec.predicted_memory_bytes(plain, data, one));
        ++compared;
      }
    }
    CHECK(compared > 5);
  }

  TEST_CASE("batch/fine_tune: adapters and frozen weights are part of a job's identity and travel with it") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob);
    REQUIRE(batch.ok());
    const batch::DataSource& data = batch->data.at("text");
    const batch::Job plain = batch->jobs.at(0);
    batch::Job frozen = plain;
    frozen.freeze = {"transformer.wte"};
    batch::Job adapted = plain;
    adapted.lora = batch::Lora{.rank = 2, .alpha = 4.0, .targets = {"c_attn"}, .start = {}};
    batch::Job louder = adapted;
    louder.lora->alpha = 8.0;
    for (const batch::Job* job : {&frozen, &adapted, &louder}) {
      CHECK(batch::speed_class(*job, data) != batch::speed_class(plain, data));
      CHECK(*batch::result_digest(*job, data) != *batch::result_digest(plain, data));
      const auto read = batch::job_from_json(to_json(*job), "job");
      REQUIRE(read.ok());
      CHECK(*read == *job);
    }
    CHECK(batch::speed_class(adapted, data) == batch::speed_class(louder, data));
    CHECK(*batch::result_digest(adapted, data) != *batch::result_digest(louder, data));
  }

  TEST_CASE("batch/fine_tune: a grid over ranks makes a job of each") {
    BatchFolder folder;
    std::string job = testing::kPlainJob;
    job.replace(job.find("plain"), 5, "rank-{rank}");
    const auto batch = folder.read(job + "[job.grid]\nrank = [2, 4]\n");
    CAPTURE(testing::faults_of(batch));
    REQUIRE(batch.ok());
    CHECK(testing::all_names(*batch) == "rank-2 rank-4");
    CHECK(batch->jobs.at(1).lora->rank == 4);
  }
}

}  // namespace
}  // namespace saturn

#include "tests/batch/support.h"

namespace saturn {
namespace {

using testing::BatchFolder;
using testing::faults_of;

TEST_SUITE("batch") {
  TEST_CASE("batch/json: jobs and data sources survive the trip through text") {
    BatchFolder folder;
    const auto batch = folder.read(
        "[[job]]\nname = \"{lr}\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\ntokens = 1e6\nbatch_size = "
        "8\nmicro_batches = 2\n"
        "precision = \"bf16\"\ngradient_precision = \"bf16\"\ndropout = 0.3\nevaluate_every = 7\ntechniques "
        "= [\"ddp\"]\ndevices = [2, "
        "4]\nseed = 9007199254740992\n"
        "optimizer = { weight_decay = 0.3, betas = [0.8, 0.95], eps = 3e-9, clip_norm = 0.7 }\n"
        "schedule = { kind = \"step\", warmup_steps = 3, minimum_lr = 1e-9, decay_every = 2, decay_factor = "
        "0.3 }\n"
        "random = { samples = 20, lr = { min = 1e-7, max = 1, log = true } }\n");
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    for (const batch::Job& job : batch->jobs) {
      const auto document = parse_json(to_line(to_json(job)), "line");
      REQUIRE(document.ok());
      const auto back = batch::job_from_json(*document, "line");
      REQUIRE_MESSAGE(back.ok(), faults_of(back));
      CHECK(*back == job);
    }
    const batch::DataSource& data = batch->data.at("text");
    const auto back = batch::data_source_from_json(*parse_json(to_line(to_json(data)), "line"), "line");
    REQUIRE_MESSAGE(back.ok(), faults_of(back));
    CHECK(*back == data);
  }

  TEST_CASE("batch/json: every fault of a job names its pointer") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob);
    REQUIRE(batch.ok());
    Json document = to_json(batch->jobs[0]);
    document["batch_size"] = 0;
    document["amount"]["unit"] = "years";
    document["model"]["family"] = "rnn";
    document["devices"] = {1, -1};
    document["techniques"] = {1};
    document["extra"] = 1;
    document["optimizer"].erase("lr");
    const auto read = batch::job_from_json(document, "a");
    REQUIRE_FALSE(read.ok());
    std::string places;
    for (const Diagnostic& fault : read.faults()) places += fault.where + " ";
    CHECK(places ==
          "a#/model/family a#/amount/unit a#/batch_size a#/techniques a#/devices a#/optimizer/lr a#/extra ");
    CHECK_FALSE(batch::job_from_json(Json::array(), "a").ok());
    CHECK_FALSE(batch::data_source_from_json(Json::object(), "a").ok());
  }
}

}  // namespace
}  // namespace saturn

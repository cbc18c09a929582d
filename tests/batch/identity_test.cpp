#include "saturn/batch/identity.h"

#include <functional>

#include "tests/batch/support.h"

namespace saturn {
namespace {

using batch::DataSource;
using batch::Job;
using testing::BatchFolder;
using testing::faults_of;

struct Pair {
  Job job;
  DataSource data;
};

TEST_SUITE("batch") {
  TEST_CASE("batch/identity: each change moves the keys that it must and no other") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob);
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    const Pair base{batch->jobs[0], batch->data.at("text")};
    const std::string speed = speed_class(base.job, base.data);
    const std::string result = *result_digest(base.job, base.data);

    struct Row {
      std::string label;
      std::function<void(Pair&)> change;
      bool moves_speed;
      bool moves_result;
    };
    const std::vector<Row> rows = {
        {"nothing", [](Pair&) {}, false, false},
        {"name", [](Pair& p) { p.job.name = "other"; }, false, false},
        {"techniques", [](Pair& p) { p.job.techniques = {"ddp"}; }, false, false},
        {"devices", [](Pair& p) { p.job.devices = {2}; }, false, false},
        {"name of the data", [](Pair& p) { p.job.data = p.data.name = "renamed"; }, false, false},
        {"name of the model", [](Pair& p) { p.job.model.name = "gpt2.toy"; }, true, false},
        {"learning rate", [](Pair& p) { p.job.optimizer.lr = 2e-3; }, false, true},
        {"weight decay", [](Pair& p) { p.job.optimizer.weight_decay = 0.5; }, false, true},
        {"seed", [](Pair& p) { p.job.seed = 6; }, false, true},
        {"amount", [](Pair& p) { p.job.amount.value = 11; }, false, true},
        {"schedule", [](Pair& p) { p.job.schedule.kind = "cosine"; }, false, true},
        {"value of dropout", [](Pair& p) { p.job.dropout = 0.1; }, true, true},
        {"clipping", [](Pair& p) { p.job.optimizer.clip_norm = 1.0; }, true, true},
        {"batch size", [](Pair& p) { p.job.batch_size = 8; }, true, true},
        {"micro-batches", [](Pair& p) { p.job.micro_batches = 2; }, true, true},
        {"precision", [](Pair& p) { p.job.precision = "bf16"; }, true, true},
        {"precision of gradients", [](Pair& p) { p.job.gradient_precision = "bf16"; }, true, true},
        {"sequence length", [](Pair& p) { p.data.sequence_length = 8; }, true, true},
        {"a size", [](Pair& p) { p.job.model.sizes["width"] = 128; }, true, true},
        {"validation share", [](Pair& p) { p.data.validation_share = 0.2; }, false, true},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      Pair changed = base;
      row.change(changed);
      CHECK((speed_class(changed.job, changed.data) != speed) == row.moves_speed);
      const auto digest = result_digest(changed.job, changed.data);
      REQUIRE(digest.ok());
      CHECK((*digest != result) == row.moves_result);
    }
    CHECK(speed.starts_with("gpt2-toy-s16-b4-fp32-"));
  }

  TEST_CASE("batch/identity: two dropout rates share a speed class") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob);
    REQUIRE(batch.ok());
    Job one = batch->jobs[0];
    Job other = one;
    one.dropout = 0.1;
    other.dropout = 0.2;
    CHECK(speed_class(one, batch->data.at("text")) == speed_class(other, batch->data.at("text")));
  }

  TEST_CASE("batch/identity: contents decide and not paths") {
    BatchFolder folder;
    BatchFolder elsewhere;
    const auto batch = folder.read(testing::kPlainJob);
    const auto moved = elsewhere.read(testing::kPlainJob);
    REQUIRE(batch.ok());
    REQUIRE(moved.ok());
    const std::string digest = *result_digest(batch->jobs[0], batch->data.at("text"));
    CHECK(*result_digest(moved->jobs[0], moved->data.at("text")) == digest);
    elsewhere.write("text.txt", std::string(1999, 'a') + "b");
    CHECK(*result_digest(moved->jobs[0], moved->data.at("text")) != digest);
  }

  TEST_CASE("batch/identity: weights to start from are part of the result and must be readable") {
    BatchFolder folder;
    REQUIRE(make_directories(folder.file("hf")).ok());
    folder.write(
        "hf/config.json",
        R"({"model_type": "gpt2", "n_layer": 1, "n_head": 2, "n_embd": 8, "vocab_size": 256, "n_positions": 32})");
    folder.write("hf/model.safetensors", "one");
    const auto batch = folder.read(
        "[[job]]\nname = \"tune\"\nmodel = \"hf\"\ndata = \"text\"\nsteps = 10\nbatch_size = 4\noptimizer.lr "
        "= 1e-3\n");
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    const Job& job = batch->jobs[0];
    const std::string digest = *result_digest(job, batch->data.at("text"));
    folder.write("hf/model.safetensors", "two");
    CHECK(*result_digest(job, batch->data.at("text")) != digest);
    Job gone = job;
    gone.model.directory = folder.file("nowhere");
    CHECK_FALSE(result_digest(gone, batch->data.at("text")).ok());
  }

  TEST_CASE("batch/identity: a file changed within the same second is digested again") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob);
    REQUIRE(batch.ok());
    const DataSource& data = batch->data.at("text");
    const std::string first = *data_digest(data);
    folder.write("text.txt", std::string(2000, 'c'));
    CHECK(*data_digest(data) != first);
  }
}

}  // namespace
}  // namespace saturn

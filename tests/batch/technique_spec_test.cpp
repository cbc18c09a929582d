#include "saturn/batch/technique_spec.h"

#include "saturn/batch/check_devices.h"
#include "tests/batch/support.h"

namespace saturn {
namespace {

using batch::configurations_of;
using batch::DeviceGroup;
using batch::Job;
using testing::BatchFolder;
using testing::faults_of;

std::string all(const Job& job, const DeviceGroup& devices) {
  std::string text;
  for (const auto& one : configurations_of(job, devices)) {
    text += (text.empty() ? "" : ", ") + to_text(one) + "/" + std::to_string(one.num_ranks);
  }
  return text;
}

/// Those without knobs.
std::string plain(const Job& job, const DeviceGroup& devices) {
  std::string text;
  for (const auto& one : configurations_of(job, devices)) {
    if (one.knobs.empty())
      text += (text.empty() ? "" : ", ") + to_text(one) + "/" + std::to_string(one.num_ranks);
  }
  return text;
}

Job job_of(int batch_size) {
  Job job;
  job.batch_size = batch_size;
  job.techniques = {"single", "ddp"};
  return job;
}

TEST_SUITE("batch") {
  TEST_CASE("batch/technique_spec: single takes all threads of its CPU slots in one process") {
    CHECK(plain(job_of(4), {.num_devices = 3}) ==
          "single x1/1, single x2/1, single x3/1, ddp x2/2, ddp x3/3");
    Job job = job_of(4);
    job.techniques = {"ddp"};
    CHECK(all(job, {.num_devices = 1}).empty());
    job.techniques = {"single", "ddp"};
    job.devices = {2, 8};
    CHECK(plain(job, {.num_devices = 4}) == "single x2/1, ddp x2/2");
  }

  TEST_CASE("batch/technique_spec: offload needs a few layers where single needs all") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob);
    REQUIRE(batch.ok());
    Job job = batch->jobs[0];
    const batch::DataSource& data = batch->data.at("text");
    job.model.num_parameters += 62 * job.model.num_layer_parameters;  // 64 blocks where there were 2
    job.model.num_layers = 64;
    job.techniques = {"single", "offload"};
    const auto ways = configurations_of(job, {.num_devices = 1});
    REQUIRE(ways.front().technique == "single");
    REQUIRE(ways.back().technique == "offload");
    const auto memory = [&](const batch::Configuration& one) {
      return batch::find_technique(one.technique)->predicted_memory_bytes(job, data, one);
    };
    CHECK(6 * memory(ways.back()) < memory(ways.front()));
    // A layer that stays keeps its weights and two moments, and its gradients from its backward on.
    batch::Configuration resident = ways.back();
    resident.knobs["resident"] = 10;
    CHECK(memory(resident) - memory(ways.back()) >= 120 * job.model.num_layer_parameters);
    CHECK(memory(resident) - memory(ways.back()) <= 160 * job.model.num_layer_parameters);
    resident.knobs["resident"] = 66;
    CHECK(memory(resident) > 16 * job.model.num_parameters);
    CHECK(batch::find_technique("offload")->refusal(job, {.kind = "gpu", .num_devices = 2}).has_value());
  }

  TEST_CASE(
      "batch/technique_spec: a ResNet is not cut into parts of a batch and no model of images into shares") {
    batch::DataSource images;
    images.kind = batch::DataKind::images;
    images.images.size = 32;
    images.vocabulary_size = 10;
    Job job = job_of(8);
    const auto refusal = [&](const char* technique, int num_devices) {
      const auto why = batch::find_technique(technique)->refusal(job, {.num_devices = num_devices});
      return why ? *why : "";
    };
    job.model = with_data(*batch::find_model("resnet-toy", ".", {}), images, /*new_head=*/false);
    for (const char* technique : {"pipeline", "offload", "tensor", "hybrid"}) {
      CAPTURE(technique);
      CHECK(refusal(technique, std::string(technique) == "offload" ? 1 : 4) != "");
    }
    CHECK(refusal("pipeline", 2).find("BatchNorm") != std::string::npos);
    CHECK(refusal("offload", 1).find("BatchNorm") != std::string::npos);
    for (const char* technique : {"ddp", "fsdp"}) CHECK(refusal(technique, 2) == "");
    CHECK(refusal("single", 1) == "");
    job.model = with_data(*batch::find_model("vit-toy", ".", {}), images, /*new_head=*/false);
    for (const char* technique : {"ddp", "fsdp", "pipeline", "hybrid"}) CHECK(refusal(technique, 4) == "");
    CHECK(refusal("offload", 1) == "");
    CHECK(refusal("tensor", 2) == "cannot split the layers of a model of images");
    // What is predicted of either is a number.
    for (const char* model : {"resnet50", "vit-b16"}) {
      images.images.size = 224;
      job.model = with_data(*batch::find_model(model, ".", {}), images, /*new_head=*/false);
      job.techniques = {"single", "ddp", "fsdp"};
      for (const batch::Configuration& one : configurations_of(job, {.num_devices = 2})) {
        CAPTURE(to_text(one));
        const batch::TechniqueSpec* spec = batch::find_technique(one.technique);
        CHECK(spec->predicted_memory_bytes(job, images, one) > 4 * job.model.num_parameters);
        CHECK(spec->predicted_step_time_s(job, images, one) > 0.0);
      }
    }
  }

  TEST_CASE("batch/technique_spec: a rank has at least one row of the batch") {
    CHECK(plain(job_of(2), {.num_devices = 3}) == "single x1/1, single x2/1, single x3/1, ddp x2/2");
  }

  TEST_CASE("batch/technique_spec: single stays on one GPU and two ranks never share one") {
    const DeviceGroup whole{.kind = "gpu", .device_class = "h200", .num_devices = 2};
    CHECK(plain(job_of(8), whole) == "single x1/1, ddp x2/2");
    const DeviceGroup halves{.kind = "gpu", .device_class = "h200", .num_devices = 4, .num_shares = 2};
    CHECK(plain(job_of(8), halves) == "single x1/1, single x2/1, ddp x4/2");
    CHECK(configurations_of(job_of(8), halves).back().device_class == "h200");
  }

  TEST_CASE("batch/technique_spec: ddp may shard its optimiser and rounds gradients only for who allows it") {
    Job job = job_of(8);
    job.techniques = {"ddp"};
    job.devices = {2};
    job.precision = "bf16";
    CHECK(all(job, {.num_devices = 2}) ==
          "ddp x2/2, ddp x2 (shard_optimizer true)/2, ddp x2 (checkpointing selective)/2, "
          "ddp x2 (shard_optimizer true, checkpointing selective)/2, ddp x2 (checkpointing full)/2, "
          "ddp x2 (shard_optimizer true, checkpointing full)/2");
    job.gradient_precision = "bf16";
    const auto ways = configurations_of(job, {.num_devices = 2});
    REQUIRE(ways.size() == 9);
    CHECK(to_text(ways[2]) == "ddp x2 (compression bf16)");
    job.model = *batch::find_model("gpt2", ".", {});
    batch::DataSource data;
    data.sequence_length = 1;
    const auto time_s = [&](std::size_t i) {
      return batch::find_technique("ddp")->predicted_step_time_s(job, data, ways[i]);
    };
    CHECK(time_s(2) < time_s(0));
    CHECK(time_s(0) < time_s(1));  // updated weights come back in fp32
  }

  TEST_CASE("batch/technique_spec: fsdp shares out among ranks and alone only where single is not allowed") {
    Job job = job_of(8);
    job.techniques = {"fsdp"};
    CHECK(all(job, {.num_devices = 1}) ==
          "fsdp x1/1, fsdp x1 (checkpointing selective)/1, fsdp x1 (checkpointing full)/1");
    job.devices = {2};
    CHECK(all(job, {.num_devices = 2}).starts_with("fsdp x2/2, fsdp x2 (reshard_after_forward false)/2, "));
    job.batch_size = 1;
    CHECK(all(job, {.num_devices = 2}).empty());
    job.techniques = {"single", "fsdp"};
    job.devices = {1};
    CHECK(plain(job, {.num_devices = 1}) == "single x1/1");
  }

  TEST_CASE("batch/technique_spec: shards take a share of the state and whole weights more of it") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob);
    REQUIRE(batch.ok());
    Job job = batch->jobs[0];
    job.model.num_parameters += 400 * job.model.num_layer_parameters;
    job.model.num_layers += 400;
    const auto memory = [&](const char* technique, int num_ranks, Json knobs) {
      const batch::Configuration one{.technique = technique,
                                     .num_devices = num_ranks,
                                     .num_ranks = num_ranks,
                                     .knobs = std::move(knobs)};
      batch::DataSource data = batch->data.at("text");
      data.sequence_length = 1;
      return static_cast<double>(batch::find_technique(technique)->predicted_memory_bytes(job, data, one));
    };
    const double ddp = memory("ddp", 4, Json::object());
    CHECK(memory("fsdp", 4, Json::object()) < 0.30 * ddp);
    CHECK(memory("fsdp", 2, Json::object()) < 0.55 * ddp);
    CHECK(memory("fsdp", 4, {{"reshard_after_forward", false}}) > 0.45 * ddp);
  }

  TEST_CASE("batch/technique_spec: memory follows parameters and rows and layers") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob);
    REQUIRE(batch.ok());
    const Job& job = batch->jobs[0];
    const batch::DataSource& data = batch->data.at("text");
    const auto memory = [&](const Job& of, const batch::Configuration& configuration) {
      return batch::find_technique(configuration.technique)->predicted_memory_bytes(of, data, configuration);
    };
    const batch::Configuration single{.technique = "single"};
    const batch::Configuration ddp{.technique = "ddp", .num_devices = 2, .num_ranks = 2};
    Job deeper = job;
    deeper.model.num_layers *= 20;
    Job accumulating = deeper;
    accumulating.micro_batches = 4;
    Json full = Json::object();
    full["checkpointing"] = "full";
    const batch::Configuration recomputing{.technique = "single", .knobs = full};
    CHECK(memory(job, single) > 16 * job.model.num_parameters);
    CHECK(memory(deeper, ddp) < memory(deeper, single));
    CHECK(memory(accumulating, single) < memory(deeper, single));
    CHECK(memory(deeper, recomputing) < memory(deeper, single));
  }

  TEST_CASE("batch/technique_spec: a step should take longer with recomputing and shorter on more devices") {
    BatchFolder folder;
    const auto batch = folder.read(testing::kPlainJob);
    REQUIRE(batch.ok());
    const auto time_s = [&](const batch::Configuration& configuration) {
      return batch::find_technique(configuration.technique)
          ->predicted_step_time_s(batch->jobs[0], batch->data.at("text"), configuration);
    };
    Json selective = Json::object();
    selective["checkpointing"] = "selective";
    CHECK(time_s({.technique = "single", .knobs = selective}) ==
          doctest::Approx(7.0 / 6.0 * time_s({.technique = "single"})));
    CHECK(time_s({.technique = "single", .num_devices = 2}) < time_s({.technique = "single"}));
    CHECK(time_s({.technique = "ddp", .num_devices = 2, .num_ranks = 2}) >
          time_s({.technique = "single", .num_devices = 2}));
  }

  TEST_CASE("batch/technique_spec: a configuration survives the trip through JSON") {
    batch::Configuration one{.technique = "ddp", .num_devices = 4, .num_ranks = 2, .device_class = "h200"};
    one.knobs["bucket_bytes"] = 1 << 20;
    Diagnostics faults;
    const Json document = to_json(one);
    CHECK(batch::configuration_from_json(JsonReader(document, "a", "", faults)) == one);
    CHECK(faults.empty());
    CHECK(to_text(one) == "ddp x4 (bucket_bytes 1048576)");
  }

  TEST_CASE(
      "batch/check_devices: counts that do not exist and jobs that cannot run are told at their lines") {
    BatchFolder folder;
    const auto batch = folder.read(
        "[[job]]\nname = \"a\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 1\nbatch_size = 8\ndevices = "
        "[1, 8]\noptimizer.lr = 1\n"
        "[[job]]\nname = \"b\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 1\nbatch_size = 8\ntechniques "
        "= [\"ddp\"]\noptimizer.lr = 1\n");
    REQUIRE_MESSAGE(batch.ok(), faults_of(batch));
    CHECK(check_devices(*batch, {{.num_devices = 8}}).ok());
    const auto two = check_devices(*batch, {{.num_devices = 2}});
    REQUIRE_FALSE(two.ok());
    REQUIRE(two.faults().size() == 1);
    CHECK(two.faults()[0].where == folder.path() + ":14:15");
    const auto one = check_devices(*batch, {{.num_devices = 1}});
    REQUIRE(one.faults().size() == 2);
    CHECK(one.faults()[1].where == folder.path() + ":22:14");
    CHECK(one.faults()[1].expected.find("ddp x1 needs at least 2 devices") != std::string::npos);
  }

  TEST_CASE("batch/check_devices: a machine becomes one group per node") {
    devices::Machine machine;
    devices::Node node{.name = "n", .device_class = "cpu", .host_memory_bytes = 0, .devices = {}};
    node.devices.resize(2);
    node.devices[0].memory_bytes = 7;
    machine.nodes = {node, node};
    const auto groups = batch::device_groups(machine);
    REQUIRE(groups.size() == 2);
    CHECK(groups[0].num_devices == 2);
    CHECK(groups[0].memory_bytes == 7);
  }
}

}  // namespace
}  // namespace saturn

#include "saturn/batch/model_spec.h"

#include "saturn/batch/batch.h"
#include "tests/batch/support.h"

namespace saturn {
namespace {

using batch::find_model;
using batch::ModelSpec;
using testing::BatchFolder;
using testing::faults_of;

const SourcePosition kAsked{"batch.toml", 3, 9};

ModelSpec preset(const std::string& name) {
  const auto model = find_model(name, ".", kAsked);
  REQUIRE_MESSAGE(model.ok(), faults_of(model));
  return *model;
}

const std::string kConfig =
    R"({"model_type": "gpt2", "n_layer": 12, "n_head": 12, "n_embd": 768, "n_inner": null, "vocab_size": 50257,
        "n_positions": 1024, "n_ctx": 1024, "activation_function": "gelu_new", "resid_pdrop": 0.1})";

TEST_SUITE("batch") {
  TEST_CASE("batch/model_spec: GPT-2 presets have the published parameter counts") {
    CHECK(preset("gpt2").num_parameters == 124439808);
    CHECK(preset("gpt2-medium").num_parameters == 354823168);
    CHECK(preset("gpt2-large").num_parameters == 774030080);
    CHECK(preset("gpt2-xl").num_parameters == 1557611200);
    CHECK(preset("gpt2").num_layer_parameters == 7087872);
  }

  TEST_CASE("batch/model_spec: LLaMA presets have the published parameter counts") {
    CHECK(preset("llama2-7b").num_parameters == 6738415616);
    CHECK(preset("llama3-8b").num_parameters == 8030261248);
    CHECK(preset("llama3.2-1b").num_parameters == 1235814400);
    CHECK(preset("llama3.2-3b").num_parameters == 3212749824);
  }

  TEST_CASE("batch/model_spec: the GPT-J preset has the published parameter count") {
    CHECK(preset("gpt-j-6b").num_parameters == 6050882784);
  }

  // Of timm's vit_base_patch16_224, vit_large_patch16_224, vit_gigantic_patch14_224 and resnets;
  // torchvision's are the same.
  TEST_CASE("batch/model_spec: presets of images have the published parameter counts") {
    batch::DataSource images;
    images.kind = batch::DataKind::images;
    images.images.size = 224;
    images.vocabulary_size = 1000;
    const auto count = [&](const char* name) {
      return with_data(preset(name), images, /*new_head=*/false).num_parameters;
    };
    CHECK(count("vit-b16") == 86567656);
    CHECK(count("vit-l16") == 304326632);
    CHECK(count("vit-g14") == 1844440680);
    CHECK(count("resnet18") == 11689512);
    CHECK(count("resnet50") == 25557032);
    CHECK(count("resnet152") == 60192808);
    CHECK(count("resnet200") == 64673832);
  }

  // timm's table of benchmarks counts multiplications: 17.58 billion and 4.11 billion forward.
  TEST_CASE("batch/model_spec: work per image is three forward passes") {
    batch::DataSource images;
    images.kind = batch::DataKind::images;
    images.images.size = 224;
    images.vocabulary_size = 1000;
    const auto billions = [&](const char* name) {
      return flops_per_sample(with_data(preset(name), images, /*new_head=*/false), images) / 1e9;
    };
    CHECK(billions("vit-b16") == doctest::Approx(6 * 17.58).epsilon(0.02));
    CHECK(billions("resnet50") == doctest::Approx(6 * 4.11).epsilon(0.02));
    CHECK(billions("resnet18") == doctest::Approx(6 * 1.82).epsilon(0.02));
  }

  TEST_CASE("batch/model_spec: a model of images takes from the data what its preset leaves open") {
    batch::DataSource images;
    images.kind = batch::DataKind::images;
    images.images.size = 16;
    images.images.channels = 1;
    images.vocabulary_size = 10;
    const ModelSpec toy = with_data(preset("vit-toy"), images, /*new_head=*/false);
    CHECK(toy.image_size == 16);
    CHECK(toy.channels == 1);
    CHECK(toy.vocabulary == 10);
    CHECK(toy.longest_sequence == 17);
    const ModelSpec fixed = with_data(preset("vit-b16"), images, /*new_head=*/false);
    CHECK(fixed.image_size == 224);
    CHECK(with_data(toy, images, /*new_head=*/false) == toy);
    images.vocabulary_size = 3;
    CHECK(with_data(toy, images, /*new_head=*/false).vocabulary == 10);
    CHECK(with_data(toy, images, /*new_head=*/true).vocabulary == 3);
  }

  TEST_CASE("batch/model_spec: timm's config names the architecture and what differs from it") {
    BatchFolder folder;
    REQUIRE(make_directories(folder.file("hf")).ok());
    folder.write("hf/model.safetensors", "x");
    const auto read = [&](const std::string& config) {
      folder.write("hf/config.json", config);
      return find_model("hf", directory_of(folder.path()), kAsked);
    };
    const auto vit = read(R"({"architecture": "vit_small_patch32_224.augreg_in21k", "num_classes": 7})");
    REQUIRE_MESSAGE(vit.ok(), faults_of(vit));
    CHECK(vit->width == 384);
    CHECK(vit->vocabulary == 7);
    CHECK(vit->longest_sequence == 50);
    const auto sides = read(R"({"architecture": "vit_base_patch16_224", "num_classes": 7,
                                "model_args": {"img_size": [32, 32], "patch_size": [8, 8]}})");
    REQUIRE_MESSAGE(sides.ok(), faults_of(sides));
    CHECK(sides->longest_sequence == 17);
    const auto resnet = read(R"({"architecture": "resnet50.a1_in1k", "num_classes": 1000,
                                 "model_args": {"layers": [1, 1, 1, 1], "in_chans": 1}})");
    REQUIRE_MESSAGE(resnet.ok(), faults_of(resnet));
    CHECK(resnet->num_layers == 4);
    CHECK(resnet->channels == 1);
    struct Row {
      const char* config;
      const char* says;
    };
    for (
        const Row& row : std::vector<Row>{
            {R"({"architecture": "swin_tiny", "num_classes": 7})",
             "architecture \"swin_tiny\" is not in this build"},
            {R"({"architecture": "vit_base_patch16_clip_224", "num_classes": 7})", "is not in this build"},
            {R"({"architecture": "vit_base_patch99999999999999999999_224", "num_classes": 7})",
             "not in this build"},
            {R"({"architecture": "vit_base_patch16_224", "num_classes": 7, "model_args": {"reg_tokens": 4}})",
             "reg_tokens = 4 is not in this build"},
            {R"({"architecture": "vit_base_patch16_224", "num_classes": 7, "model_args": {"qkv_bias": false}})",
             "qkv_bias = false"},
            {R"({"architecture": "vit_base_patch16_224", "num_classes": 7, "model_args": {"mlp_ratio": "4"}})",
             "mlp_ratio"},
            {R"({"architecture": "vit_base_patch16_224", "num_classes": 7, "model_args": {"patch_size": 15}})",
             "patch_size = 15 does not divide"},
            {R"({"architecture": "vit_base_patch16_224", "num_classes": 7, "model_args": {"patch_size": 0}})",
             "patch_size"},
            {R"({"architecture": "vit_base_patch16_224", "num_classes": 7, "global_pool": "avg"})",
             "global_pool"},
            {R"({"architecture": "vit_base_patch16_224"})", "num_classes"},
            {R"({"architecture": "vit_base_patch16_224", "num_classes": 0})", "num_classes"},
            {R"({"architecture": "resnet50", "num_classes": 7, "model_args": {"layers": [1, 2]}})", "layers"},
            {R"({"architecture": "resnet50", "num_classes": 7, "model_args": {"channels": [64, 64, 64, 64]}})",
             "channels that each stage doubles"},
            {R"({"architecture": "resnet50d", "num_classes": 7})", "architecture \"resnet50d\" is not"},
            {R"({"architecture": "resnet50", "num_classes": 7, "model_args": {"cardinality": 32}})",
             "cardinality"},
            {R"({"architecture": "resnet50", "num_classes": 7, "model_args": 3})", "this is no object"},
        }) {
      CAPTURE(row.config);
      const std::string faults = faults_of(read(row.config));
      CAPTURE(faults);
      CHECK(faults.find(row.says) != std::string::npos);
      CHECK(faults.find("config.json") != std::string::npos);
    }
  }

  TEST_CASE("batch/model_spec: work per token is six times the parameters and the attention") {
    const ModelSpec model = preset("gpt2");
    // nanoGPT's estimate_mfu on GPT-2 124M at block size 1024: 6 * 123,653,376 + 12 * 12 * 768 * 1024.
    CHECK(flops_per_token(model, 1024) == doctest::Approx(855166464.0 + 0.0).epsilon(1e-12));
  }

  TEST_CASE("batch/model_spec: a toy takes the vocabulary of the data and counts it") {
    const ModelSpec open = preset("gpt2-toy");
    CHECK(open.vocabulary == 0);
    const ModelSpec bytes = with_vocabulary(open, 256);
    CHECK(bytes.vocabulary == 256);
    CHECK(bytes.sizes.at("vocabulary") == 256);
    CHECK(bytes.num_parameters - open.num_parameters == 256 * open.width);
    CHECK(with_vocabulary(preset("gpt2"), 256).vocabulary == 50257);
  }

  TEST_CASE("batch/model_spec: a TOML of sizes is read relative to the batch") {
    BatchFolder folder;
    folder.write("mine.toml",
                 "family = \"gpt2\"\nlayers = 3\nheads = 5\nwidth = 20\nfeed_forward = 30\nvocabulary = 99\n"
                 "longest_sequence = 8\ntied_head = false\n");
    const auto model = find_model("mine.toml", directory_of(folder.path()), kAsked);
    REQUIRE_MESSAGE(model.ok(), faults_of(model));
    CHECK(model->name == "mine");
    CHECK(model->num_heads == 5);
    const std::int64_t block = (20 * 60 + 60 + 20 * 20 + 20) + (20 * 30 + 30 + 30 * 20 + 20) + 4 * 20;
    CHECK(model->num_parameters == 99 * 20 + 8 * 20 + 3 * block + 2 * 20 + 99 * 20);
    CHECK(flops_per_token(*model, 8) ==
          6.0 * static_cast<double>(99 * 20 + 3 * block + 40) + 12.0 * 3 * 20 * 8);
  }

  TEST_CASE("batch/model_spec: a Hugging Face directory is its config with absolute path") {
    BatchFolder folder;
    REQUIRE(make_directories(folder.file("hf")).ok());
    folder.write("hf/config.json", kConfig);
    folder.write("hf/model.safetensors", "x");
    const auto model = find_model("hf", directory_of(folder.path()), kAsked);
    REQUIRE_MESSAGE(model.ok(), faults_of(model));
    CHECK(model->directory == folder.file("hf"));
    CHECK(model->sizes.at("feed_forward") == 3072);
    ModelSpec same = *model;
    same.directory = "";
    same.name = "gpt2";
    CHECK(same == preset("gpt2"));
  }

  TEST_CASE("batch/model_spec: hostile configs are faults and not crashes") {
    BatchFolder folder;
    REQUIRE(make_directories(folder.file("hf")).ok());
    folder.write("hf/model.safetensors", "x");
    for (const std::string text :
         {"", "[]", "3", "{}", "{\"model_type\": 3}", "{\"model_type\": \"gpt2\"}",
          "{\"model_type\": \"gpt2\", \"n_layer\": 1e300, \"n_head\": 1, \"n_embd\": 1, \"vocab_size\": 2, "
          "\"n_positions\": 1}",
          "{\"model_type\": \"gpt2\", \"n_layer\": 18446744073709551615, \"n_head\": 0, \"n_embd\": 0}",
          "{\"model_type\": \"gpt2\", \"n_layer\": 2, \"n_head\": 2, \"n_embd\": 4, \"vocab_size\": 2, "
          "\"n_positions\": 1, "
          "\"layer_norm_epsilon\": \"x\"}"}) {
      CAPTURE(text);
      folder.write("hf/config.json", text);
      CHECK_FALSE(find_model("hf", directory_of(folder.path()), kAsked).ok());
    }
  }

  TEST_CASE("batch/model_spec: an unknown name is a fault where it was asked for") {
    const auto model = find_model("gpt2-lrage", ".", kAsked);
    REQUIRE_FALSE(model.ok());
    CHECK(model.faults()[0].where == "batch.toml:3:9");
    CHECK(model.faults()[0].fix == "did you mean \"gpt2-large\"?");
  }

  TEST_CASE("batch/model_spec: survives the trip through JSON") {
    for (const char* name : {"gpt2-toy", "gpt2-xl"}) {
      Diagnostics faults;
      const Json document = to_json(preset(name));
      const ModelSpec back = batch::model_spec_from_json(JsonReader(document, "a", "", faults));
      CHECK(faults.empty());
      CHECK(back == preset(name));
    }
    Json broken = to_json(preset("gpt2"));
    broken["sizes"]["heads"] = 7;
    broken["sizes"].erase("width");
    Diagnostics faults;
    batch::model_spec_from_json(JsonReader(broken, "a", "", faults));
    REQUIRE(faults.size() == 1);
    CHECK(faults[0].what.find("width") != std::string::npos);
  }
}

}  // namespace
}  // namespace saturn

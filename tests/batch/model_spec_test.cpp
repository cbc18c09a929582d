#include "saturn/batch/model_spec.h"

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

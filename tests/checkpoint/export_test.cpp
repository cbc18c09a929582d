// A model out of a run: every dtype, from final weights and from a checkpoint, and what is refused.

#include "saturn/checkpoint/export.h"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "tests/checkpoint/shards.h"
#include "tests/support/temporary_directory.h"

namespace saturn::checkpoint {
namespace {

using formats::Dtype;
using saturn::testing::made_up_floats;
using saturn::testing::save_made_up;
using saturn::testing::TemporaryDirectory;

constexpr std::int64_t kRows = 16;

/// A model directory with the tensors of `save_made_up`, and a tokenizer beside them.
void write_model(const std::string& directory, const std::vector<float>& vector) {
  const std::string matrix = made_up_floats(kRows * 64, 1);
  const std::string bytes(reinterpret_cast<const char*>(vector.data()), vector.size() * sizeof(float));
  const std::vector<formats::StoredTensor> tensors = {
      {.name = "matrix", .dtype = Dtype::f32, .shape = {kRows, 64}, .bytes = {}},
      {.name = "vector", .dtype = Dtype::f32, .shape = {5}, .bytes = {}}};
  REQUIRE(formats::write_safetensors_directory(
              directory, tensors, [&](std::size_t i) { return std::string_view(i == 0 ? matrix : bytes); },
              {{"config.json", R"({"model_type": "gpt2", "torch_dtype": "float32"})"},
               {"tokenizer.json", "not looked at"}})
              .ok());
}

std::vector<std::uint16_t> halves_of(const formats::Safetensors& file, const char* name) {
  const formats::StoredTensor* stored = file.find(name);
  REQUIRE(stored != nullptr);
  std::vector<std::uint16_t> halves(stored->bytes.size() / 2);
  std::memcpy(halves.data(), stored->bytes.data(), stored->bytes.size());
  return halves;
}

std::string faults_of(const Result<Exported>& exported) {
  return exported.ok() ? "" : to_text(exported.faults());
}

const std::vector<float> kVector = {1.0F, -2.5F, 65504.0F, 3.0e-6F, 1.00048828125F};

}  // namespace

TEST_SUITE("checkpoint") {
  TEST_CASE("checkpoint/export: numbers are rounded to the nearest and ties to even") {
    const TemporaryDirectory directory;
    const std::string model = directory.file("model");
    write_model(model, kVector);
    struct Row {
      Dtype dtype;
      const char* torch_dtype;
      std::vector<std::uint16_t> want;  // of kVector, as torch has them
    };
    const std::vector<Row> rows = {{Dtype::bf16, "bfloat16", {0x3f80, 0xc020, 0x4780, 0x3649, 0x3f80}},
                                   {Dtype::f16, "float16", {0x3c00, 0xc100, 0x7bff, 0x0032, 0x3c00}}};
    for (const Row& row : rows) {
      const std::string label = row.torch_dtype;
      CAPTURE(label);
      const std::string into = directory.file(label);
      const auto exported =
          export_model({.model_directory = model, .checkpoint = {}, .dtype = row.dtype, .into = into});
      REQUIRE_MESSAGE(exported.ok(), faults_of(exported));
      CHECK(exported->num_tensors == 2);
      CHECK(exported->num_parameters == kRows * 64 + 5);
      const auto file = formats::Safetensors::open(into);
      REQUIRE(file.ok());
      CHECK(halves_of(*file, "vector") == row.want);
      CHECK(file->find("matrix")->shape == std::vector<std::int64_t>{kRows, 64});
      const auto config = read_whole(join_path(into, "config.json"));
      REQUIRE(config.ok());
      CHECK(parse_json(*config, "config.json")->at("torch_dtype") == row.torch_dtype);
      CHECK(*read_whole(join_path(into, "tokenizer.json")) == "not looked at");
    }
  }

  TEST_CASE("checkpoint/export: narrow weights widen to what they were") {
    const TemporaryDirectory directory;
    write_model(directory.file("model"), kVector);
    for (const Dtype dtype : {Dtype::bf16, Dtype::f16}) {
      const std::string narrow = directory.file(formats::name_of(dtype));
      const std::string wide = narrow + "-wide", again = narrow + "-again";
      REQUIRE(
          export_model(
              {.model_directory = directory.file("model"), .checkpoint = {}, .dtype = dtype, .into = narrow})
              .ok());
      REQUIRE(export_model({.model_directory = narrow, .checkpoint = {}, .dtype = Dtype::f32, .into = wide})
                  .ok());
      REQUIRE(export_model({.model_directory = wide, .checkpoint = {}, .dtype = dtype, .into = again}).ok());
      CHECK(*read_whole(join_path(narrow, "model.safetensors")) ==
            *read_whole(join_path(again, "model.safetensors")));
    }
  }

  TEST_CASE("checkpoint/export: a checkpoint's weights take the place of the final ones") {
    const TemporaryDirectory directory;
    write_model(directory.file("model"), kVector);
    const std::string saved = directory.file("step-000004");
    REQUIRE(save_made_up(saved, 4, 1.5, kRows / 2).ok());
    const std::string into = directory.file("out");
    const auto exported = export_model(
        {.model_directory = directory.file("model"), .checkpoint = saved, .dtype = Dtype::f32, .into = into});
    REQUIRE_MESSAGE(exported.ok(), faults_of(exported));
    const auto file = formats::Safetensors::open(into);
    REQUIRE(file.ok());
    CHECK(file->find("vector")->bytes == made_up_floats(5, 9));
    // Two ranks wrote all rows of their half but the last, and then that one.
    const std::int64_t half = kRows / 2;
    CHECK(file->find("matrix")->bytes ==
          made_up_floats((half - 1) * 64, 0) + made_up_floats(64, static_cast<int>(half - 1)) +
              made_up_floats((half - 1) * 64, static_cast<int>(half)) + made_up_floats(64, kRows - 1));
  }

  TEST_CASE(
      "checkpoint/export: of a checkpoint with adapters the merged weights or the adapter are written") {
    const TemporaryDirectory directory;
    const std::string model = directory.file("model"), saved = directory.file("step-000004");
    const std::string adapter = directory.file("adapter");
    const auto bytes_of = [](const std::vector<float>& values) {
      return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
    };
    // x -> x W with W [2 inputs, 3 outputs], rank 1, counting 4 / 1 times.
    const std::string weight = bytes_of({1, 2, 3, 4, 5, 6}), a = bytes_of({1, -1}), b = bytes_of({1, 0, 2});
    const auto tensor = [](const char* name, std::vector<std::int64_t> shape) {
      return formats::StoredTensor{.name = name, .dtype = Dtype::f32, .shape = std::move(shape), .bytes = {}};
    };
    REQUIRE(formats::write_safetensors_directory(model, {tensor("h.c_attn.weight", {2, 3})},
                                                 [&](std::size_t) { return std::string_view(weight); },
                                                 {{"config.json", "{}"}})
                .ok());
    REQUIRE(make_directories(adapter).ok());
    const std::string zeros(12, '\0');
    REQUIRE(formats::write_safetensors(
                join_path(adapter, "adapter_model.safetensors"),
                {tensor("base_model.model.h.c_attn.lora_A.weight", {1, 2}),
                 tensor("base_model.model.h.c_attn.lora_B.weight", {3, 1})},
                [&](std::size_t i) { return std::string_view(zeros).substr(0, i == 0 ? 8 : 12); })
                .ok());
    REQUIRE(write_whole(join_path(adapter, "adapter_config.json"),
                        R"({"r": 1, "lora_alpha": 4, "fan_in_fan_out": true, "peft_type": "LORA"})")
                .ok());
    REQUIRE(prepare(saved, 1 << 20).ok());
    auto writer = ShardWriter::create(temporary_of(saved), 0, std::size_t{64} << 10);
    REQUIRE(writer.ok());
    const auto add = [&](const char* name, std::vector<std::int64_t> shape, const std::string& bytes) {
      const std::vector<std::int64_t> offsets(shape.size(), 0);
      REQUIRE(writer
                  ->add({.name = name, .role = "weight", .shape = shape, .offsets = offsets, .extent = shape},
                        bytes)
                  .ok());
    };
    add("h.c_attn.lora_A.weight", {1, 2}, a);
    add("h.c_attn.lora_B.weight", {3, 1}, b);
    add("h.c_attn.weight", {2, 3}, weight);
    auto part = writer->finish();
    REQUIRE(part.ok());
    Manifest manifest;
    manifest.progress = {.step = 4, .seed = 3, .step_of_epoch = 4, .validation = std::nullopt};
    join(manifest, *std::move(part));
    REQUIRE(publish(saved, manifest).ok());

    ExportRequest request{.model_directory = model,
                          .checkpoint = saved,
                          .dtype = Dtype::f32,
                          .into = directory.file("merged"),
                          .adapter_directory = adapter};
    const auto merged = export_model(request);
    REQUIRE_MESSAGE(merged.ok(), faults_of(merged));
    CHECK(formats::Safetensors::open(request.into)->find("h.c_attn.weight")->bytes ==
          bytes_of({1 + 4, 2, 3 + 8, 4 - 4, 5, 6 - 8}));

    request.into = directory.file("only");
    request.only_adapter = true;
    const auto only = export_model(request);
    REQUIRE_MESSAGE(only.ok(), faults_of(only));
    CHECK(only->num_parameters == 5);
    const auto file = formats::Safetensors::open(join_path(request.into, "adapter_model.safetensors"));
    REQUIRE(file.ok());
    CHECK(file->find("base_model.model.h.c_attn.lora_A.weight")->bytes == a);
    CHECK(file->find("base_model.model.h.c_attn.lora_B.weight")->bytes == b);
    CHECK(*read_whole(join_path(request.into, "adapter_config.json")) ==
          *read_whole(join_path(adapter, "adapter_config.json")));
  }

  TEST_CASE("checkpoint/export: what cannot be exported is named and leaves nothing behind") {
    const TemporaryDirectory directory;
    const std::string model = directory.file("model"), into = directory.file("out");
    write_model(model, {1.0F, 70000.0F, 0.0F, 0.0F, 0.0F});
    const auto too_large =
        export_model({.model_directory = model, .checkpoint = {}, .dtype = Dtype::f16, .into = into});
    CHECK(faults_of(too_large).find("vector: error: a weight is 70000") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(into));

    const std::string other = directory.file("step-000001");
    REQUIRE(save_made_up(other, 1, std::nullopt, kRows).ok());  // twice the rows
    const auto misfit = export_model({.model_directory = model, .checkpoint = other, .into = into});
    CHECK(faults_of(misfit).find("the model has no \"matrix\" of this shape") != std::string::npos);

    const auto occupied = export_model({.model_directory = model, .checkpoint = {}, .into = model});
    CHECK(faults_of(occupied).find("there is something already") != std::string::npos);
    CHECK_FALSE(
        export_model({.model_directory = directory.file("absent"), .checkpoint = {}, .into = into}).ok());
  }
}

}  // namespace saturn::checkpoint

#include "saturn/base/diagnostic.h"
#include "saturn/batch/model_spec.h"
#include "saturn/formats/safetensors.h"
#include "saturn/train/model.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/torch_doctest.h"

namespace saturn::train {
namespace {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

std::unique_ptr<Model> toy() {
  const Result<batch::ModelSpec> spec = batch::find_model("gpt2-toy", ".", {});
  REQUIRE(spec.ok());
  Result<std::unique_ptr<Model>> model = make_model(batch::with_vocabulary(*spec, 20), {});
  REQUIRE(model.ok());
  return *std::move(model);
}

/// Random values for every parameter.
NamedTensors random_weights(const Model& model, std::uint64_t seed) {
  NamedTensors weights;
  RandomWeights source(seed);
  for (const ParameterPtr& parameter : model.parameters()) {
    at::Tensor value = at::empty(parameter->shape, at::kFloat);
    REQUIRE(source.read(*parameter, 0, value.view({-1})).ok());
    weights.emplace_back(parameter->name, value);
  }
  return weights;
}

/// Writes `tensors` under their names with `dtype`'s bytes as given.
void write(const std::string& path, const std::vector<std::pair<std::string, at::Tensor>>& tensors,
           formats::Dtype dtype) {
  std::vector<formats::StoredTensor> described;
  for (const auto& [name, tensor] : tensors) {
    described.push_back({.name = name, .dtype = dtype, .shape = tensor.sizes().vec(), .bytes = {}});
  }
  REQUIRE(formats::write_safetensors(path, described, [&](std::size_t index) {
            const at::Tensor& tensor = tensors[index].second;
            return std::string_view(static_cast<const char*>(tensor.const_data_ptr()), tensor.nbytes());
          }).ok());
}

TEST_SUITE("train") {
  TEST_CASE("train/pretrained: what is written is read back in any range") {
    testing::TemporaryDirectory directory;
    const std::unique_ptr<Model> model = toy();
    const NamedTensors weights = random_weights(*model, 3);
    const WeightOf weight_of = [&](std::size_t index) { return weights[index].second; };
    REQUIRE(write_weights(*model, weight_of, directory.file("model")).ok());
    Result<std::unique_ptr<WeightSource>> source = open_weights(*model, directory.file("model"));
    REQUIRE(source.ok());
    for (std::size_t i = 0; i < weights.size(); ++i) {
      const ParameterPtr parameter = model->parameters()[i];
      const std::int64_t half = parameter->num_elements() / 2;
      at::Tensor back = at::empty({parameter->num_elements() - half}, at::kFloat);
      REQUIRE((*source)->read(*parameter, half, back).ok());
      CHECK(at::equal(back, weights[i].second.view({-1}).narrow(0, half, back.numel())));
    }
    const Result<batch::ModelSpec> spec = batch::find_model(directory.file("model"), ".", {});
    REQUIRE(spec.ok());
    CHECK(spec->vocabulary == 20);
    CHECK(spec->family == "gpt2");
  }

  TEST_CASE("train/pretrained: half-width weights are widened") {
    testing::TemporaryDirectory directory;
    const std::unique_ptr<Model> model = toy();
    for (const auto& [scalar, dtype] :
         {std::pair(at::kBFloat16, formats::Dtype::bf16), std::pair(at::kHalf, formats::Dtype::f16),
          std::pair(at::kDouble, formats::Dtype::f64)}) {
      NamedTensors narrow = random_weights(*model, 4);
      for (auto& [name, tensor] : narrow) tensor = tensor.to(scalar);
      write(directory.file("model.safetensors"), narrow, dtype);
      Result<std::unique_ptr<WeightSource>> source = open_weights(*model, directory.path());
      REQUIRE(source.ok());
      const ParameterPtr parameter = model->parameters()[0];
      at::Tensor back = at::empty({parameter->num_elements()}, at::kFloat);
      REQUIRE((*source)->read(*parameter, 0, back).ok());
      CHECK(at::equal(back, narrow[0].second.to(at::kFloat).view({-1})));
    }
  }

  TEST_CASE("train/pretrained: missing and extra and mis-shaped tensors are named at once") {
    testing::TemporaryDirectory directory;
    const std::unique_ptr<Model> model = toy();
    NamedTensors weights = random_weights(*model, 5);
    std::erase_if(weights, [](const auto& entry) { return entry.first == "transformer.h.1.ln_2.bias"; });
    for (auto& [name, tensor] : weights) {
      if (name == "transformer.wpe.weight") tensor = tensor.narrow(0, 0, 100).contiguous();
    }
    weights.emplace_back("transformer.h.7.ln_1.weight", at::ones({4}));
    weights.emplace_back("transformer.h.0.attn.bias", at::ones({4}));  // a mask that old files carry
    write(directory.file("model.safetensors"), weights, formats::Dtype::f32);
    const Result<std::unique_ptr<WeightSource>> source = open_weights(*model, directory.path());
    REQUIRE_FALSE(source.ok());
    REQUIRE(source.faults().size() == 3);
    const std::string text = to_text(source.faults());
    CHECK(text.find("#/transformer.wpe.weight: error: this tensor has the shape [100, 64]") !=
          std::string::npos);
    CHECK(text.find("1 tensors of a gpt2 model are missing: transformer.h.1.ln_2.bias") != std::string::npos);
    CHECK(text.find("1 tensors do not belong to a gpt2 model: transformer.h.7.ln_1.weight") !=
          std::string::npos);
    CHECK(text.find("attn.bias") == std::string::npos);
  }

  TEST_CASE("train/pretrained: weights that are no numbers to train are refused") {
    testing::TemporaryDirectory directory;
    const std::unique_ptr<Model> model = toy();
    NamedTensors weights = random_weights(*model, 6);
    for (auto& [name, tensor] : weights) tensor = tensor.to(at::kInt);
    write(directory.file("model.safetensors"), weights, formats::Dtype::i32);
    const Result<std::unique_ptr<WeightSource>> source = open_weights(*model, directory.path());
    REQUIRE_FALSE(source.ok());
    CHECK(to_text(source.faults()).find("weights of dtype I32 cannot be trained") != std::string::npos);
  }
}

}  // namespace
}  // namespace saturn::train

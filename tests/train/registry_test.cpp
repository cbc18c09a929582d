// The training library can make what the controller offers, and nothing that it does not.

#include <doctest/doctest.h>

#include "saturn/batch/batch.h"
#include "saturn/batch/fine_tune.h"
#include "saturn/batch/model_spec.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/train/model.h"
#include "saturn/train/technique.h"

namespace saturn::train {

TEST_SUITE("train") {
  TEST_CASE("train/registry: techniques are those of the batch module in the same order") {
    REQUIRE(technique_entries().size() == batch::technique_specs().size());
    for (std::size_t i = 0; i < technique_entries().size(); ++i) {
      CHECK(std::string(technique_entries()[i].name) == batch::technique_specs()[i].name);
      CHECK(std::string(technique_entries()[i].summary) == batch::technique_specs()[i].summary);
    }
  }

  TEST_CASE("train/registry: every preset has a model whose parameters are as many as its spec counts") {
    const auto presets = batch::presets();
    REQUIRE(presets.ok());
    REQUIRE(!presets->empty());
    for (const batch::ModelSpec& preset : *presets) {
      CAPTURE(preset.name);
      batch::DataSource data;
      data.kind = preset.reads_images ? batch::DataKind::images : batch::DataKind::text;
      data.images.size = 32;
      data.vocabulary_size = 256;
      const batch::ModelSpec spec = batch::with_data(preset, data, /*new_head=*/false);
      const auto model = make_model(spec, {.vocabulary = 256, .sequence_length = 64});
      REQUIRE(model.ok());
      std::int64_t count = 0;
      for (const ParameterPtr& parameter : (*model)->parameters()) count += parameter->num_elements();
      CHECK(count == spec.num_parameters);
    }
  }

  TEST_CASE("train/registry: parameters have the names and shapes and places that the batch module lists") {
    const auto presets = batch::presets();
    REQUIRE(presets.ok());
    for (const batch::ModelSpec& preset : *presets) {
      CAPTURE(preset.name);
      if (!preset.name.ends_with("-toy") && !preset.name.ends_with("-mini") && preset.name != "resnet50")
        continue;
      batch::DataSource data;
      data.kind = preset.reads_images ? batch::DataKind::images : batch::DataKind::text;
      data.images.size = 32;
      data.vocabulary_size = 256;
      const batch::ModelSpec spec = batch::with_data(preset, data, /*new_head=*/false);
      const auto model = make_model(spec, {.vocabulary = 256, .sequence_length = 64});
      REQUIRE(model.ok());
      const std::vector<batch::ParameterFact> facts = batch::parameters_of(spec);
      std::size_t next = 0;
      const std::vector<ParameterPtr> all = (*model)->parameters();
      REQUIRE(all.size() == facts.size());
      for (std::size_t layer = 0; layer < (*model)->layers.size(); ++layer) {
        for (const ParameterPtr& parameter : (*model)->layers[layer]->parameters()) {
          if (next == all.size() || parameter != all[next]) continue;  // tied: told at its first use
          const batch::ParameterFact& fact = facts[next++];
          CHECK(fact.name == parameter->name);
          CHECK(fact.shape == parameter->shape);
          CHECK(fact.outputs == parameter->outputs);
          CHECK(fact.layer == static_cast<int>(layer));
        }
      }
      CHECK(next == facts.size());
    }
  }

  TEST_CASE("train/registry: a family that nobody wrote is refused by name") {
    batch::ModelSpec spec;
    spec.family = "gpt3";
    const auto model = make_model(spec, {});
    REQUIRE(!model.ok());
    CHECK(model.faults()[0].what.find("\"gpt3\"") != std::string::npos);
  }
}

}  // namespace saturn::train

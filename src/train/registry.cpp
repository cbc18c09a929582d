// The lists of techniques and of models, in the order of their registry.def.

#include "saturn/base/nearest.h"
#include "saturn/batch/model_spec.h"
#include "saturn/train/model.h"
#include "saturn/train/technique.h"

namespace saturn::techniques {
#define SATURN_TECHNIQUE(name) train::TechniqueEntry name();
#include "techniques/registry.def"
#undef SATURN_TECHNIQUE
}  // namespace saturn::techniques

namespace saturn::models {
#define SATURN_MODEL(name) train::ModelEntry name();
#include "models/registry.def"
#undef SATURN_MODEL
}  // namespace saturn::models

namespace saturn::train {

const std::vector<TechniqueEntry>& technique_entries() {
  static const std::vector<TechniqueEntry> entries = {
#define SATURN_TECHNIQUE(name) techniques::name(),
#include "techniques/registry.def"
#undef SATURN_TECHNIQUE
  };
  return entries;
}

const std::vector<ModelEntry>& model_entries() {
  static const std::vector<ModelEntry> entries = {
#define SATURN_MODEL(name) models::name(),
#include "models/registry.def"
#undef SATURN_MODEL
  };
  return entries;
}

Result<std::unique_ptr<Model>> make_model(const batch::ModelSpec& spec, const ModelOptions& options) {
  std::vector<std::string> families;
  for (const ModelEntry& entry : model_entries()) {
    if (spec.family == entry.family) return entry.make(spec, options);
    families.emplace_back(entry.family);
  }
  return Diagnostic{.what = "this training library has no model family " + in_quotes(spec.family),
                    .expected = "one of " + listed(families),
                    .fix = did_you_mean(spec.family, families)};
}

}  // namespace saturn::train

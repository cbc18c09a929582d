// What of a model a job trains, and the first values of adapters.

#include "saturn/batch/fine_tune.h"

#include <algorithm>

#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/formats/safetensors.h"
#include "saturn/train/model.h"
#include "train/read_stored.h"

namespace saturn::train {
namespace {

/// Weights of the model from one source, maps of adapters from another.
class AdaptedWeights final : public WeightSource {
 public:
  AdaptedWeights(std::unique_ptr<WeightSource> model, std::unique_ptr<WeightSource> adapters)
      : model_(std::move(model)), adapters_(std::move(adapters)) {}

  Result<void> read(const Parameter& parameter, std::int64_t first_element, at::Tensor out) override {
    return (parameter.of_adapter ? adapters_ : model_)->read(parameter, first_element, out);
  }

 private:
  std::unique_ptr<WeightSource> model_, adapters_;
};

/// Maps as PEFT stored them.
class StoredAdapters final : public WeightSource {
 public:
  explicit StoredAdapters(formats::Safetensors file) : file_(std::move(file)) {}

  Result<void> read(const Parameter& parameter, std::int64_t first_element, at::Tensor out) override {
    const formats::StoredTensor* const stored = file_.find(batch::peft_name(parameter.name));
    SATURN_CHECK(stored != nullptr, "names were compared when the file was opened");
    return read_stored(file_, *stored, first_element, out);
  }

 private:
  formats::Safetensors file_;
};

Result<std::unique_ptr<WeightSource>> open_adapters(const Model& model, const std::string& directory) {
  const std::string path = join_path(directory, batch::kAdapterFile);
  SATURN_TRY(formats::Safetensors file, formats::Safetensors::open(path));
  Diagnostics faults;
  std::size_t num_wanted = 0;
  for (const ParameterPtr& parameter : model.parameters()) {
    if (!parameter->of_adapter) continue;
    ++num_wanted;
    const std::string name = batch::peft_name(parameter->name);
    const formats::StoredTensor* const stored = file.find(name);
    if (stored != nullptr && stored->shape == parameter->shape) continue;
    faults.push_back({.where = path + "#/" + name,
                      .what = stored == nullptr ? "this tensor is missing" : "this tensor has another shape",
                      .expected = "the adapters that " + std::string(batch::kAdapterConfig) +
                                  " describes for this model"});
  }
  for (const formats::StoredTensor& stored : file.tensors()) {
    if (is_weight_dtype(stored.dtype)) continue;
    faults.push_back(
        {.where = path + "#/" + stored.name,
         .what = "weights of dtype " + std::string(formats::name_of(stored.dtype)) + " cannot be trained",
         .expected = "F32, BF16, F16 or F64"});
  }
  if (faults.empty() && file.tensors().size() != num_wanted) {
    faults.push_back({.where = path,
                      .what = "it has " + std::to_string(file.tensors().size()) + " tensors",
                      .expected = "the " + std::to_string(num_wanted) + " of this model's adapters"});
  }
  if (!faults.empty()) return faults;
  return std::unique_ptr<WeightSource>(std::make_unique<StoredAdapters>(std::move(file)));
}

}  // namespace

Result<void> fine_tune(Model& model, const batch::Job& job) {
  if (!job.lora && job.freeze.empty()) return {};
  for (const auto& layer : model.layers)
    for (const ParameterPtr& parameter : layer->parameters())
      parameter->trains = batch::is_trained(job, parameter->name);
  if (job.lora) {
    const batch::Lora& lora = *job.lora;
    for (const auto& layer : model.layers) {
      const std::vector<ParameterPtr> parameters = layer->parameters();
      for (const ParameterPtr& parameter : parameters) {
        if (parameter->trains || !batch::is_target(lora.targets, parameter->name)) continue;
        if (parameter->outputs < 0 || parameter->num_users > 1)
          return Diagnostic{.what = in_quotes(parameter->name) + " cannot have an adapter",
                            .expected = "targets that are linear maps"};
        layer->adapt(parameter, lora.rank, lora.alpha / lora.rank);
      }
    }
    std::vector<std::string> whole_modules;
    for (const ParameterPtr& parameter : model.parameters())
      if (parameter->trains && !parameter->of_adapter)
        whole_modules.push_back(batch::module_of(parameter->name));
    whole_modules.erase(std::unique(whole_modules.begin(), whole_modules.end()), whole_modules.end());
    const std::string base = job.model.directory.empty() ? job.model.name : job.model.directory;
    model.adapter_config = batch::adapter_config(lora, model.family, base, whole_modules);
  }
  const std::vector<ParameterPtr> all = model.parameters();
  if (std::ranges::any_of(all, [](const ParameterPtr& parameter) { return parameter->trains; })) return {};
  return Diagnostic{.what = "no parameter of the model is left to train",
                    .expected = "a freeze that leaves some, or a lora whose targets the model has"};
}

Result<std::unique_ptr<WeightSource>> with_adapters(const Model& model, const batch::Job& job,
                                                    std::unique_ptr<WeightSource> model_weights) {
  if (!job.lora) return model_weights;
  std::unique_ptr<WeightSource> adapters = std::make_unique<RandomWeights>(job.seed);
  if (!job.lora->start.empty()) {
    SATURN_TRY(adapters, open_adapters(model, job.lora->start));
  }
  return std::unique_ptr<WeightSource>(
      std::make_unique<AdaptedWeights>(std::move(model_weights), std::move(adapters)));
}

}  // namespace saturn::train

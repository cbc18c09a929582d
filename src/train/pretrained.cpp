// Weights of Hugging Face directories: into a model's parameters, and out again.

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "saturn/base/check.h"
#include "saturn/base/nearest.h"
#include "saturn/formats/safetensors.h"
#include "saturn/train/model.h"

namespace saturn::train {
namespace {

using formats::Dtype;
using formats::StoredTensor;

constexpr std::size_t kMostNames = 20;  // of one message

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t extent : shape) text += (text.empty() ? "" : ", ") + std::to_string(extent);
  return "[" + text + "]";
}

std::string listed_briefly(std::vector<std::string> names) {
  const std::size_t count = names.size();
  if (count > kMostNames) names.resize(kMostNames);
  return listed(names) + (count > kMostNames ? " and " + std::to_string(count - kMostNames) + " more" : "");
}

template <class Element>
void widen(const char* from, float* to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    Element element;  // by memcpy: a file does not always align its tensors
    std::memcpy(&element, from + i * static_cast<std::int64_t>(sizeof element), sizeof element);
    to[i] = static_cast<float>(element);
  }
}

bool is_weight_dtype(Dtype dtype) {
  return dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16 || dtype == Dtype::f64;
}

/// Parameters read from mapped files, a range at a time, widened or narrowed to fp32.
class StoredWeights final : public WeightSource {
 public:
  /// `others`: for parameters that `tensors` lacks.
  StoredWeights(formats::Safetensors files, std::map<std::string, const StoredTensor*> tensors,
                std::unique_ptr<WeightSource> others)
      : files_(std::move(files)), tensors_(std::move(tensors)), others_(std::move(others)) {}

  Result<void> read(const Parameter& parameter, std::int64_t first_element, at::Tensor out) override {
    if (others_ && !tensors_.contains(parameter.name)) return others_->read(parameter, first_element, out);
    const StoredTensor& stored = *tensors_.at(parameter.name);
    const std::int64_t count = out.numel();
    SATURN_CHECK(out.is_contiguous() && out.scalar_type() == at::kFloat, "weights are read into fp32");
    SATURN_CHECK(first_element + count <= parameter.num_elements(), "a range lies within its parameter");
    const char* const from =
        stored.bytes.data() + first_element * static_cast<std::int64_t>(formats::size_of(stored.dtype));
    float* const to = out.mutable_data_ptr<float>();
    switch (stored.dtype) {
      case Dtype::f16:
        widen<c10::Half>(from, to, count);
        break;
      case Dtype::bf16:
        widen<c10::BFloat16>(from, to, count);
        break;
      case Dtype::f64:
        widen<double>(from, to, count);
        break;
      default:
        std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(float));
    }
    if (first_element + count == parameter.num_elements()) files_.forget(stored);
    return {};
  }

 private:
  formats::Safetensors files_;
  std::map<std::string, const StoredTensor*> tensors_;  // by parameter name; they lie in files_
  std::unique_ptr<WeightSource> others_;
};

/// The stored tensor of `name`, with or without the model's prefix.
const StoredTensor* find_stored(const formats::Safetensors& files, const Model& model,
                                const std::string& name) {
  if (const StoredTensor* stored = files.find(name)) return stored;
  return name.starts_with(model.base_prefix) ? files.find(name.substr(model.base_prefix.size())) : nullptr;
}

bool is_ignored(const Model& model, const std::string& name) {
  return std::ranges::any_of(model.ignored_suffixes,
                             [&](const std::string& suffix) { return name.ends_with(suffix); });
}

}  // namespace

Result<std::unique_ptr<WeightSource>> open_weights(const Model& model, const std::string& directory,
                                                   std::unique_ptr<WeightSource> new_head) {
  SATURN_TRY(formats::Safetensors files, formats::Safetensors::open(directory));
  Diagnostics faults;
  std::map<std::string, const StoredTensor*> tensors;
  std::vector<const StoredTensor*> used;
  std::vector<std::string> missing;
  const auto is_made_anew = [&](const std::string& name) {
    return new_head && !model.head_prefix.empty() && name.starts_with(model.head_prefix);
  };
  std::vector<ParameterPtr> wanted = model.parameters();
  for (const ParameterPtr& buffer : model.buffers()) wanted.push_back(buffer);
  for (const ParameterPtr& parameter : wanted) {
    if (is_made_anew(parameter->name)) continue;
    const StoredTensor* stored = find_stored(files, model, parameter->name);
    if (stored == nullptr) {
      missing.push_back(parameter->name);
      continue;
    }
    used.push_back(stored);
    tensors[parameter->name] = stored;
    const std::string where = files.paths()[stored->file] + "#/" + stored->name;
    if (stored->shape != parameter->shape) {
      faults.push_back({.where = where,
                        .what = "this tensor has the shape " + shape_text(stored->shape),
                        .expected = shape_text(parameter->shape) + ", as config.json says"});
    }
    if (!is_weight_dtype(stored->dtype)) {
      faults.push_back(
          {.where = where,
           .what = "weights of dtype " + std::string(formats::name_of(stored->dtype)) + " cannot be trained",
           .expected = "F32, BF16, F16 or F64"});
    }
  }
  std::vector<std::string> extra;
  std::ranges::sort(used);
  for (const StoredTensor& stored : files.tensors()) {
    if (!std::ranges::binary_search(used, &stored) && !is_ignored(model, stored.name) &&
        !is_made_anew(stored.name))
      extra.push_back(stored.name);
  }
  if (!missing.empty()) {
    faults.push_back({.where = directory,
                      .what = std::to_string(missing.size()) + " tensors of a " + model.family +
                              " model are missing: " + listed_briefly(missing),
                      .expected = "every weight of the model that config.json describes"});
  }
  if (!extra.empty()) {
    faults.push_back({.where = directory,
                      .what = std::to_string(extra.size()) + " tensors do not belong to a " + model.family +
                              " model: " + listed_briefly(extra),
                      .expected = "only the weights of the model that config.json describes"});
  }
  if (!faults.empty()) return faults;
  // Moving Safetensors keeps its tensors where they are, so the pointers stay good.
  return std::unique_ptr<WeightSource>(
      std::make_unique<StoredWeights>(std::move(files), std::move(tensors), std::move(new_head)));
}

Result<void> write_weights(const Model& model, const WeightOf& weight_of, const std::string& directory) {
  std::vector<StoredTensor> tensors;
  std::vector<ParameterPtr> all = model.parameters();
  for (const ParameterPtr& buffer : model.buffers()) all.push_back(buffer);
  for (const ParameterPtr& parameter : all)
    tensors.push_back({.name = parameter->name, .dtype = Dtype::f32, .shape = parameter->shape, .bytes = {}});
  at::Tensor held;  // until the next tensor is asked for
  const formats::TensorBytes bytes_of = [&](std::size_t index) {
    held = weight_of(index).contiguous();
    SATURN_CHECK(held.is_cpu() && held.scalar_type() == at::kFloat,
                 "weights are written in fp32 from the CPU");
    return std::string_view(static_cast<const char*>(held.const_data_ptr()), held.nbytes());
  };
  return formats::write_safetensors_directory(directory, tensors, bytes_of,
                                              {{"config.json", to_text(model.config)}});
}

}  // namespace saturn::train

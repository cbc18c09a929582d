// Weights of Hugging Face directories: into a model's parameters, and out again.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "saturn/base/check.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/batch/fine_tune.h"
#include "saturn/formats/safetensors.h"
#include "saturn/train/model.h"
#include "train/read_stored.h"

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
    Element element;
    std::memcpy(&element, from + i * static_cast<std::int64_t>(sizeof element), sizeof element);
    to[i] = static_cast<float>(element);
  }
}

void widen(Dtype dtype, const char* from, float* to, std::int64_t count) {
  if (dtype == Dtype::f16) return widen<c10::Half>(from, to, count);
  if (dtype == Dtype::bf16) return widen<c10::BFloat16>(from, to, count);
  widen<double>(from, to, count);
}

/// Parameters read from files, a range at a time, widened or narrowed to fp32.
class StoredWeights final : public WeightSource {
 public:
  /// `others`: for parameters that `tensors` lacks.
  StoredWeights(formats::Safetensors files, std::map<std::string, const StoredTensor*> tensors,
                std::unique_ptr<WeightSource> others)
      : files_(std::move(files)), tensors_(std::move(tensors)), others_(std::move(others)) {}

  Result<void> read(const Parameter& parameter, std::int64_t first_element, at::Tensor out) override {
    if (others_ && !tensors_.contains(parameter.name)) return others_->read(parameter, first_element, out);
    SATURN_CHECK(out.is_contiguous() && out.scalar_type() == at::kFloat, "weights are read into fp32");
    SATURN_CHECK(first_element + out.numel() <= parameter.num_elements(),
                 "a range lies within its parameter");
    return read_stored(files_, *tensors_.at(parameter.name), first_element, out);
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

bool is_weight_dtype(Dtype dtype) {
  return dtype == Dtype::f32 || dtype == Dtype::f16 || dtype == Dtype::bf16 || dtype == Dtype::f64;
}

// By all threads of this rank, a piece at a time: fp32 straight into place, others by way of a buffer.
Result<void> read_stored(const formats::Safetensors& files, const StoredTensor& stored,
                         std::int64_t first_element, at::Tensor out) {
  constexpr std::int64_t kPiece = std::int64_t{1} << 20;  // elements
  const auto element_size = static_cast<std::int64_t>(formats::size_of(stored.dtype));
  float* const into = out.mutable_data_ptr<float>();
  const std::int64_t count = out.numel();
  const bool in_place = stored.dtype == Dtype::f32;
  std::mutex mutex;
  Result<void> all;
  at::parallel_for(0, (count + kPiece - 1) / kPiece, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<char> buffer;
    for (std::int64_t piece = begin; piece < end; ++piece) {
      const std::int64_t first = piece * kPiece;
      const std::int64_t size = std::min(kPiece, count - first);
      const auto bytes = static_cast<std::size_t>(size * element_size);
      if (!in_place) buffer.resize(bytes);
      char* const raw = in_place ? reinterpret_cast<char*>(into + first) : buffer.data();
      const Result<void> read =
          files.read(stored, static_cast<std::uint64_t>((first_element + first) * element_size), raw, bytes);
      if (read.ok() && !in_place) widen(stored.dtype, raw, into + first, size);
      if (read.ok()) continue;
      const std::lock_guard lock(mutex);
      all = read.faults();
      return;
    }
  });
  return all;
}

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
    if (parameter->of_adapter || is_made_anew(parameter->name)) continue;
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

namespace {

/// What is written beside a model that has adapters: their maps, and the weights that were trained whole.
class AdapterFile {
 public:
  explicit AdapterFile(const Model& model) : model_(model) {}

  void take(const Parameter& parameter, const at::Tensor& weight) {
    if (model_.adapter_config.is_null() || !parameter.trains) return;
    kept_.emplace(parameter.name, weight.clone());
  }

  /// `weight` of `parameter` as its layer sees it.
  at::Tensor merged(const Parameter& parameter, const at::Tensor& weight) const {
    if (!parameter.adapter) return weight;
    const Adapter& adapter = *parameter.adapter;
    const at::Tensor product = at::mm(kept_.at(adapter.b->name), kept_.at(adapter.a->name));
    return at::add(weight, parameter.outputs == 1 ? product.t() : product, adapter.scale);
  }

  Result<void> write(const std::string& directory) const {
    if (model_.adapter_config.is_null()) return {};
    SATURN_TRY_VOID(make_directories(directory));
    std::vector<StoredTensor> tensors;
    std::vector<const at::Tensor*> values;
    for (const auto& [name, weight] : kept_) {
      tensors.push_back(
          {.name = batch::peft_name(name), .dtype = Dtype::f32, .shape = weight.sizes().vec(), .bytes = {}});
      values.push_back(&weight);
    }
    SATURN_TRY_VOID(formats::write_safetensors(
        join_path(directory, batch::kAdapterFile), tensors, [&](std::size_t index) {
          const at::Tensor& value = *values[index];
          return std::string_view(static_cast<const char*>(value.const_data_ptr()), value.nbytes());
        }));
    return write_whole(join_path(directory, batch::kAdapterConfig), to_text(model_.adapter_config));
  }

 private:
  const Model& model_;
  std::map<std::string, at::Tensor> kept_;  // by the parameter's name
};

}  // namespace

Result<void> write_weights(const Model& model, const WeightOf& weight_of, const std::string& directory,
                           const std::string& adapter_directory) {
  std::vector<StoredTensor> tensors;
  std::vector<ParameterPtr> all = model.parameters();
  for (const ParameterPtr& buffer : model.buffers()) all.push_back(buffer);
  for (const ParameterPtr& parameter : all)
    if (!parameter->of_adapter)
      tensors.push_back(
          {.name = parameter->name, .dtype = Dtype::f32, .shape = parameter->shape, .bytes = {}});
  AdapterFile adapters(model);
  std::size_t next = 0;  // of `all`; an adapter's maps come before the weight that they change
  at::Tensor held;       // until the next tensor is asked for
  const formats::TensorBytes bytes_of = [&](std::size_t) {
    for (bool written = false; !written; ++next) {
      const Parameter& parameter = *all[next];
      held = weight_of(next).contiguous();
      SATURN_CHECK(held.is_cpu() && held.scalar_type() == at::kFloat,
                   "weights are written in fp32 from the CPU");
      adapters.take(parameter, held);
      written = !parameter.of_adapter;
      if (written) held = adapters.merged(parameter, held).contiguous();
    }
    return std::string_view(static_cast<const char*>(held.const_data_ptr()), held.nbytes());
  };
  SATURN_TRY_VOID(formats::write_safetensors_directory(directory, tensors, bytes_of,
                                                       {{"config.json", to_text(model.config)}}));
  return adapter_directory.empty() ? Result<void>() : adapters.write(adapter_directory);
}

}  // namespace saturn::train

// Weights of a model directory or of a checkpoint, narrowed and written.

#include "saturn/checkpoint/export.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <optional>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "saturn/base/nearest.h"
#include "saturn/batch/fine_tune.h"
#include "saturn/checkpoint/shelf.h"
#include "saturn/checkpoint/stored.h"

namespace saturn::checkpoint {
namespace {

namespace fs = std::filesystem;
using formats::Dtype;
using formats::StoredTensor;

constexpr std::uint64_t kLargestSmallFile = std::uint64_t{256} << 20;

// ---- dtypes; to the nearest, ties to even

std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if (std::isnan(value)) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

std::uint16_t to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000U;
  const std::uint32_t rest = bits & 0x7fffffffU;
  if (rest >= 0x7f800000U)
    return static_cast<std::uint16_t>(sign | 0x7c00U | (rest > 0x7f800000U ? 0x200U : 0U));
  if (rest >= 0x477ff000U) return static_cast<std::uint16_t>(sign | 0x7c00U);  // rounds beyond 65504
  if (rest < 0x38800000U) {  // below 2^-14: a multiple of 2^-24
    const float magnitude = std::bit_cast<float>(rest);
    return static_cast<std::uint16_t>(sign | static_cast<std::uint32_t>(std::nearbyint(magnitude * 0x1p24F)));
  }
  const std::uint32_t rebased = rest - (112U << 23);
  return static_cast<std::uint16_t>(sign | ((rebased + 0xfffU + ((rebased >> 13) & 1U)) >> 13));
}

float from_f16(std::uint16_t half) {
  const std::uint32_t exponent = (half >> 10) & 0x1fU;
  const std::uint32_t fraction = half & 0x3ffU;
  const float sign = (half & 0x8000U) != 0 ? -1.0F : 1.0F;
  if (exponent == 31) return fraction != 0 ? NAN : sign * INFINITY;
  if (exponent == 0) return sign * static_cast<float>(fraction) * 0x1p-24F;
  return sign * std::ldexp(static_cast<float>(fraction | 0x400U), static_cast<int>(exponent) - 25);
}

template <class Element>
Element element_at(std::string_view bytes, std::size_t index) {
  Element element;
  std::memcpy(&element, bytes.data() + index * sizeof element, sizeof element);
  return element;
}

Result<void> widen(const StoredTensor& stored, std::vector<float>& into) {
  into.resize(stored.bytes.size() / formats::size_of(stored.dtype));
  for (std::size_t i = 0; i < into.size(); ++i) {
    switch (stored.dtype) {
      case Dtype::f32:
        into[i] = element_at<float>(stored.bytes, i);
        break;
      case Dtype::bf16:
        into[i] = std::bit_cast<float>(std::uint32_t{element_at<std::uint16_t>(stored.bytes, i)} << 16);
        break;
      case Dtype::f16:
        into[i] = from_f16(element_at<std::uint16_t>(stored.bytes, i));
        break;
      default:
        return Diagnostic{.where = stored.name,
                          .what = "weights of dtype " + std::string(formats::name_of(stored.dtype)),
                          .expected = "F32, BF16 or F16"};
    }
  }
  return {};
}

Result<void> narrow(const std::string& name, const std::vector<float>& values, Dtype dtype,
                    std::string& into) {
  into.resize(values.size() * formats::size_of(dtype));
  if (dtype == Dtype::f32) {
    std::memcpy(into.data(), values.data(), into.size());
    return {};
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::uint16_t half = dtype == Dtype::bf16 ? to_bf16(values[i]) : to_f16(values[i]);
    if (dtype == Dtype::f16 && (half & 0x7fffU) == 0x7c00U && std::isfinite(values[i]))
      return Diagnostic{.where = name,
                        .what = "a weight is " + std::to_string(values[i]) + ", and fp16 ends at 65504",
                        .expected = "weights that fp16 can hold",
                        .fix = "pass --dtype bf16"};
    std::memcpy(into.data() + i * sizeof half, &half, sizeof half);
  }
  return {};
}

const char* torch_name(Dtype dtype) {
  return dtype == Dtype::bf16 ? "bfloat16" : dtype == Dtype::f16 ? "float16" : "float32";
}

// ---- files

Result<void> check_target(const std::string& into) {
  std::error_code error;
  if (!fs::exists(into, error) || (fs::is_directory(into, error) && fs::is_empty(into, error))) return {};
  return Diagnostic{.where = into,
                    .what = "there is something already",
                    .expected = "a directory that does not exist, or is empty",
                    .fix = "name another, or remove it"};
}

// config.json for the dtype, and what else lies beside the weights.
Result<std::vector<formats::SmallFile>> small_files(const std::string& directory, Dtype dtype) {
  std::vector<formats::SmallFile> files;
  std::error_code error;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    const std::string name = it->path().filename().string();
    std::error_code ignored;
    if (!it->is_regular_file(ignored) || name.ends_with(".safetensors") ||
        name == "model.safetensors.index.json")
      continue;
    SATURN_TRY(std::string content, read_whole(it->path().string(), kLargestSmallFile));
    if (name == "config.json") {
      SATURN_TRY(Json config, parse_json(content, it->path().string()));
      if (config.is_object() && config.contains("torch_dtype")) config["torch_dtype"] = torch_name(dtype);
      content = to_text(config);
    }
    files.push_back({name, std::move(content)});
  }
  if (error) return system_fault(directory, "list", error.value());
  std::sort(files.begin(), files.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return files;
}

// ---- adapters

constexpr std::string_view kMapIn = ".lora_A.weight", kMapOut = ".lora_B.weight";

bool is_of_adapter(const std::string& name) {
  return name.ends_with(kMapIn) || name.ends_with(kMapOut);
}

/// How an adapter's maps change a weight.
struct AdapterRule {
  float scale = 0.0F;
  bool transposed = false;  ///< weights lie as [inputs, outputs]
};

Result<AdapterRule> read_rule(const std::string& directory) {
  const std::string path = join_path(directory, batch::kAdapterConfig);
  SATURN_TRY(const std::string text, read_whole(path, kLargestSmallFile));
  SATURN_TRY(const Json config, parse_json(text, path));
  Diagnostics faults;
  JsonReader reader(config, path, "", faults);
  const double alpha = reader.number("lora_alpha");
  const double rank = reader.number("r");
  AdapterRule rule{.scale = static_cast<float>(alpha / rank),
                   .transposed = reader.boolean_or("fan_in_fan_out", false)};
  if (!faults.empty()) return faults;
  return rule;
}

Result<void> read_all(Stored& checkpoint, const Tensor& tensor, std::vector<float>& into) {
  return checkpoint.read_rows(tensor, 0, tensor.shape.empty() ? 1 : tensor.shape[0], into);
}

/// Adds to `values`, the weight `name` of the checkpoint, what its adapter gives; nothing where it has none.
Result<void> merge_adapter(Stored& checkpoint, const std::string& name, const AdapterRule& rule,
                           std::vector<float>& values) {
  const std::string module = name.substr(0, name.rfind('.'));
  const Tensor* const in = checkpoint.find("weight", module + std::string(kMapIn));
  const Tensor* const out = checkpoint.find("weight", module + std::string(kMapOut));
  if (in == nullptr || out == nullptr || !name.ends_with(".weight")) return {};
  std::vector<float> a, b;
  SATURN_TRY_VOID(read_all(checkpoint, *in, a));
  SATURN_TRY_VOID(read_all(checkpoint, *out, b));
  const auto rank = static_cast<std::size_t>(in->shape.at(0));
  const auto num_inputs = static_cast<std::size_t>(in->shape.at(1));
  const auto num_outputs = static_cast<std::size_t>(out->shape.at(0));
  if (values.size() != num_inputs * num_outputs || b.size() != num_outputs * rank)
    return Diagnostic{.where = name, .what = "its adapter has another shape", .expected = "one that fits"};
  std::vector<float> row(num_inputs);  // of B A
  for (std::size_t o = 0; o < num_outputs; ++o) {
    std::fill(row.begin(), row.end(), 0.0F);
    for (std::size_t r = 0; r < rank; ++r)
      for (std::size_t i = 0; i < num_inputs; ++i) row[i] += b[o * rank + r] * a[r * num_inputs + i];
    for (std::size_t i = 0; i < num_inputs; ++i)
      values[rule.transposed ? i * num_outputs + o : o * num_inputs + i] += rule.scale * row[i];
  }
  return {};
}

// Names and shapes of the checkpoint's weights must be those of the model; adapters are apart.
Result<void> check_same_tensors(const formats::Safetensors& model, const Stored& checkpoint,
                                const std::string& where) {
  Diagnostics faults;
  const auto fault = [&](const std::string& what) {
    faults.push_back({.where = where, .what = what, .expected = "the tensors of the job's model"});
  };
  std::size_t num_weights = 0;
  for (const Tensor& tensor : checkpoint.manifest().tensors) {
    if ((tensor.role != "weight" && tensor.role != "buffer") || is_of_adapter(tensor.name)) continue;
    ++num_weights;
    const StoredTensor* const own = model.find(tensor.name);
    if (own == nullptr || own->shape != tensor.shape)
      fault("the model has no " + in_quotes(tensor.name) + (own == nullptr ? "" : " of this shape"));
  }
  if (num_weights != model.tensors().size())
    fault("it has " + std::to_string(num_weights) + " weights, and the model " +
          std::to_string(model.tensors().size()));
  if (!faults.empty()) return faults;
  return {};
}

Result<Exported> export_adapter(const ExportRequest& request) {
  const std::string path = join_path(request.adapter_directory, batch::kAdapterFile);
  SATURN_TRY(const formats::Safetensors adapter, formats::Safetensors::open(path));
  SATURN_TRY(std::string config,
             read_whole(join_path(request.adapter_directory, batch::kAdapterConfig), kLargestSmallFile));
  std::optional<Stored> checkpoint;
  if (!request.checkpoint.empty()) {
    SATURN_TRY_VOID(verify(request.checkpoint));
    SATURN_TRY(checkpoint, Stored::open(request.checkpoint));
  }
  Exported exported;
  std::vector<StoredTensor> tensors = adapter.tensors();
  for (StoredTensor& tensor : tensors) {
    exported.num_parameters += elements(tensor.shape);
    tensor.dtype = request.dtype;
  }
  exported.num_tensors = static_cast<std::int64_t>(tensors.size());
  std::vector<std::string> contents;  // small: all are made before anything is written
  std::vector<float> values;
  const std::size_t prefix = batch::peft_name("").size();
  for (const StoredTensor& stored : adapter.tensors()) {
    if (!checkpoint) {
      SATURN_TRY_VOID(widen(stored, values));
    } else {
      const Tensor* const tensor = checkpoint->find("weight", stored.name.substr(prefix));
      if (tensor == nullptr || tensor->shape != stored.shape)
        return Diagnostic{.where = request.checkpoint,
                          .what = in_quotes(stored.name.substr(prefix)) + " is not in it",
                          .expected = "the tensors of the job's adapter"};
      SATURN_TRY_VOID(read_all(*checkpoint, *tensor, values));
    }
    SATURN_TRY_VOID(narrow(stored.name, values, request.dtype, contents.emplace_back()));
  }
  SATURN_TRY_VOID(make_directories(request.into));
  SATURN_TRY_VOID(
      formats::write_safetensors(join_path(request.into, batch::kAdapterFile), tensors,
                                 [&](std::size_t index) { return std::string_view(contents[index]); }));
  SATURN_TRY_VOID(write_whole(join_path(request.into, batch::kAdapterConfig), config));
  return exported;
}

}  // namespace

Result<Exported> export_model(const ExportRequest& request) {
  SATURN_TRY_VOID(check_target(request.into));
  if (request.only_adapter) return export_adapter(request);
  SATURN_TRY(const formats::Safetensors model, formats::Safetensors::open(request.model_directory));
  SATURN_TRY(std::vector<formats::SmallFile> files, small_files(request.model_directory, request.dtype));
  std::optional<Stored> checkpoint;
  std::optional<AdapterRule> rule;
  if (!request.checkpoint.empty() && !request.adapter_directory.empty()) {
    SATURN_TRY(rule, read_rule(request.adapter_directory));
  }
  if (!request.checkpoint.empty()) {
    SATURN_TRY_VOID(verify(request.checkpoint));
    SATURN_TRY(checkpoint, Stored::open(request.checkpoint));
    SATURN_TRY_VOID(check_same_tensors(model, *checkpoint, request.checkpoint));
  }

  Exported exported;
  std::vector<StoredTensor> tensors = model.tensors();
  for (StoredTensor& tensor : tensors) {
    exported.num_parameters += elements(tensor.shape);
    tensor.dtype = request.dtype;
  }
  exported.num_tensors = static_cast<std::int64_t>(tensors.size());
  std::vector<float> values;
  std::string bytes;
  Diagnostics faults;  // the writer asks for bytes alone: what went wrong is told after it
  const formats::TensorBytes bytes_of = [&](std::size_t index) {
    const StoredTensor& stored = model.tensors()[index];
    Result<void> read;
    if (checkpoint) {
      const Tensor* tensor = checkpoint->find("weight", stored.name);
      if (tensor == nullptr) tensor = checkpoint->find("buffer", stored.name);
      read = read_all(*checkpoint, *tensor, values);
      if (read.ok() && rule) read = merge_adapter(*checkpoint, stored.name, *rule, values);
    } else {
      read = widen(stored, values);
      model.forget(stored);
    }
    if (read.ok()) read = narrow(stored.name, values, request.dtype, bytes);
    if (!read.ok() && faults.empty()) faults = read.faults();
    bytes.resize(static_cast<std::size_t>(elements(stored.shape)) * formats::size_of(request.dtype));
    return std::string_view(bytes);
  };
  SATURN_TRY_VOID(formats::write_safetensors_directory(request.into, tensors, bytes_of, files));
  if (faults.empty()) return exported;
  std::error_code ignored;
  fs::remove_all(request.into, ignored);
  return faults;
}

}  // namespace saturn::checkpoint

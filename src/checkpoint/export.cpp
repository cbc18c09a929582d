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

// Names and shapes of the checkpoint's weights must be those of the model.
Result<void> check_same_tensors(const formats::Safetensors& model, const Stored& checkpoint,
                                const std::string& where) {
  Diagnostics faults;
  const auto fault = [&](const std::string& what) {
    faults.push_back({.where = where, .what = what, .expected = "the tensors of the job's model"});
  };
  std::size_t num_weights = 0;
  for (const Tensor& tensor : checkpoint.manifest().tensors) {
    if (tensor.role != "weight" && tensor.role != "buffer") continue;
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

}  // namespace

Result<Exported> export_model(const ExportRequest& request) {
  SATURN_TRY_VOID(check_target(request.into));
  SATURN_TRY(const formats::Safetensors model, formats::Safetensors::open(request.model_directory));
  SATURN_TRY(std::vector<formats::SmallFile> files, small_files(request.model_directory, request.dtype));
  std::optional<Stored> checkpoint;
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
      read = checkpoint->read_rows(*tensor, 0, tensor->shape.empty() ? 1 : tensor->shape[0], values);
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

// What the descriptions of the families are written with.

#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "batch/family.h"

namespace saturn::batch {

/// Declares a size: read into the Json object under its own name.
class Sizes {
 public:
  Sizes(TableSchema& table, Json& defaults) : table_(table), defaults_(defaults) {}

  /// Of transformer blocks with a part of two layers.
  Sizes& blocks() {
    return required("layers", integer(1, 10000), "transformer blocks")
        .required("heads", integer(1, 1 << 16), "attention heads of a block")
        .required("width", integer(1, 1 << 20), "of the residual stream")
        .optional("feed_forward", integer(1, 1 << 22), 0, "4 * width",
                  "inner width of a block's two-layer part");
  }
  Sizes& required(const char* name, Shape shape, const char* help) {
    return add(name, std::move(shape), nullptr, "", true, help);
  }
  Sizes& optional(const char* name, Shape shape, Json fallback, std::string shown_default, const char* help) {
    return add(name, std::move(shape), std::move(fallback), std::move(shown_default), false, help);
  }

 private:
  Sizes& add(const char* name, Shape shape, Json fallback, std::string shown_default, bool required,
             const char* help) {
    defaults_[name] = std::move(fallback);
    const Shape::Type type = shape.type;
    table_.keys.push_back({name, std::move(shape), help, std::move(shown_default), required,
                           [name, type](void* into, const TomlValue& value) {
                             Json& sizes = *static_cast<Json*>(into);
                             if (type == Shape::Type::boolean) sizes[name] = value.boolean;
                             if (type == Shape::Type::integer) sizes[name] = integer_of(value);
                             if (type == Shape::Type::number) sizes[name] = value.number;
                           }});
    return *this;
  }

  TableSchema& table_;
  Json& defaults_;
};

inline std::int64_t size_at(const Json& sizes, const char* key) {
  return sizes.at(key).get<std::int64_t>();
}

/// Lists a model's parameters, layer by layer.
class Parameters {
 public:
  /// What follows belongs to the next layer.
  Parameters& next_layer() {
    ++layer_;
    return *this;
  }
  Parameters& add(std::string name, std::vector<std::int64_t> shape, int outputs = -1) {
    all_.push_back({std::move(name), std::move(shape), layer_, outputs});
    return *this;
  }
  /// A map with its bias; `outputs`: the dimension of the weight that they are.
  Parameters& affine(const std::string& name, std::vector<std::int64_t> shape, int outputs) {
    const std::int64_t size = shape[static_cast<std::size_t>(outputs)];
    return add(name + ".weight", std::move(shape), outputs).add(name + ".bias", {size});
  }
  Parameters& norm(const std::string& name, std::int64_t size) {
    return add(name + ".weight", {size}).add(name + ".bias", {size});
  }
  std::vector<ParameterFact> take() { return std::move(all_); }

 private:
  std::vector<ParameterFact> all_;
  int layer_ = 0;
};

/// Of `width` and `heads`, where heads are equal parts of the width.
inline std::vector<SizeFault> check_heads(const Json& sizes) {
  const std::int64_t width = size_at(sizes, "width");
  const std::int64_t heads = size_at(sizes, "heads");
  if (width % heads == 0) return {};
  return {{"heads", "heads = " + std::to_string(heads) + " do not divide width = " + std::to_string(width),
           "a divisor of the width"}};
}

}  // namespace saturn::batch

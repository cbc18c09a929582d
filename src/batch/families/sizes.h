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

}  // namespace saturn::batch

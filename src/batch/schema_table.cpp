// Reading one table by its declarations.

#include "batch/schema_table.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "saturn/base/nearest.h"
#include "saturn/base/units.h"

namespace saturn::batch {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLargestExact = 9007199254740992.0;  // 2^53: integers written as 1e9

constexpr std::size_t kMostElements = 4096;  // of one list

using Type = Shape::Type;

bool is_list(Type type) {
  return type == Type::text_list || type == Type::integer_list || type == Type::number_list;
}

Type element_of(Type type) {
  return type == Type::text_list ? Type::text : type == Type::integer_list ? Type::integer : Type::number;
}

bool whole_number(const TomlValue& value) {
  return value.type == TomlValue::Type::integer ||
         (value.type == TomlValue::Type::number && std::abs(value.number) <= kLargestExact &&
          std::floor(value.number) == value.number);
}

bool has_type(Type type, const TomlValue& value) {
  const bool text = value.type == TomlValue::Type::string;
  switch (type) {
    case Type::text:
      return text;
    case Type::integer:
      return whole_number(value);
    case Type::number:
      return value.is_number() && std::isfinite(value.number);
    case Type::boolean:
      return value.type == TomlValue::Type::boolean;
    case Type::duration:
      return text ? parse_duration_s(value.spelled).has_value()
                  : value.is_number() && std::isfinite(value.number);
    case Type::size:
      return text ? parse_bytes(value.spelled).has_value() : whole_number(value);
    case Type::text_or_number:
      return text || (value.is_number() && std::isfinite(value.number));
    default:
      return value.type == TomlValue::Type::array;
  }
}

// The number that limits apply to; nothing for a text.
std::optional<double> measured(Type type, const TomlValue& value) {
  if (type == Type::text || type == Type::boolean) return std::nullopt;
  if (value.is_number()) return value.number;
  if (type == Type::duration) return parse_duration_s(value.spelled);
  if (type == Type::size) return static_cast<double>(*parse_bytes(value.spelled));
  return std::nullopt;
}

std::string noun(Type type) {
  switch (type) {
    case Type::integer:
      return "an integer";
    case Type::number:
      return "a number";
    case Type::boolean:
      return "true or false";
    case Type::duration:
      return "a duration, as 90, \"90s\" or \"5m\",";
    case Type::size:
      return "a size, as \"512MiB\" or \"4GiB\",";
    default:
      return "a text";
  }
}

std::string limits_of(const Shape& shape) {
  std::string text;
  if (shape.minimum > -kInfinity) {
    text += (shape.above_minimum ? " above " : " of at least ") + toml_text(shape.minimum);
  }
  if (shape.maximum < kInfinity && shape.maximum < std::numeric_limits<std::int32_t>::max()) {
    text += (text.empty() ? "" : " and") + std::string(shape.below_maximum ? " below " : " at most ") +
            toml_text(shape.maximum);
  }
  return text;
}

std::string singular(const Shape& shape, Type type) {
  if (type == Type::text) return shape.choices.empty() ? shape.meaning : "one of " + listed(shape.choices);
  if (type == Type::text_or_number) return std::string(shape.meaning) + ", or a number" + limits_of(shape);
  std::string text = noun(type) + limits_of(shape);
  if (text.ends_with(',')) text.pop_back();
  return text;
}

// "batch_size = 0 is too small" and the like, for a value whose type is right.
std::optional<std::string> problem_with(const Shape& shape, Type type, const TomlValue& value) {
  if (const auto amount = measured(type, value)) {
    if (*amount < shape.minimum || (shape.above_minimum && *amount == shape.minimum)) return "is too small";
    if (*amount > shape.maximum || (shape.below_maximum && *amount == shape.maximum)) return "is too large";
    return std::nullopt;
  }
  if (value.type == TomlValue::Type::string) {
    if (value.spelled.empty()) return "is empty";
    if (value.spelled.find('\0') != std::string::npos) return "holds a NUL character";
    for (const std::string& choice : shape.choices) {
      if (value.spelled == choice) return std::nullopt;
    }
    if (!shape.choices.empty()) return "does not exist";
  }
  return std::nullopt;
}

// A good value to type, where nothing better is known.
std::string example_of(const Shape& shape, const std::string& name) {
  if (!shape.example.empty()) return "write " + name + " = " + shape.example;
  if (!shape.choices.empty()) return "write " + name + " = " + toml_text(shape.choices.front());
  if (shape.type == Type::boolean) return "write " + name + " = true";
  if (shape.type == Type::duration) return "write " + name + " = \"90s\"";
  if (shape.type == Type::size) return "write " + name + " = \"4GiB\"";
  return "write " + name + " = " + toml_text(std::max(shape.minimum, 1.0));
}

std::string fix_of(const Shape& shape, Type type, const TomlValue& value, const std::string& name) {
  if (value.type == TomlValue::Type::string) {
    if (!shape.choices.empty()) {
      const std::string near = did_you_mean(value.spelled, shape.choices);
      return near.empty() ? example_of(shape, name) : near;
    }
    const bool numeric = type == Type::integer || type == Type::number;
    const bool truth = value.spelled == "true" || value.spelled == "false";
    double unquoted = 0.0;
    const char* end = value.spelled.data() + value.spelled.size();
    const bool reads =
        !value.spelled.empty() && std::from_chars(value.spelled.data(), end, unquoted).ptr == end;
    const bool single = !is_list(shape.type);
    if (single && ((numeric && reads) || (type == Type::boolean && truth))) {
      return "write " + name + " = " + value.spelled + " without quotes";
    }
    return example_of(shape, name);
  }
  if (is_list(shape.type)) return example_of(shape, name);
  if (type == Type::text && value.is_number()) {
    return "write " + name + " = \"" + value.spelled + "\" in quotes";
  }
  const auto amount = has_type(type, value) ? measured(type, value) : std::nullopt;
  if (amount && *amount < shape.minimum && !shape.above_minimum) {
    return "set " + name + " = " + toml_text(shape.minimum);
  }
  if (amount && *amount > shape.maximum && !shape.below_maximum) {
    return "set " + name + " = " + toml_text(shape.maximum);
  }
  return example_of(shape, name);
}

bool check_single(const Shape& shape, Type type, const TomlValue& value, const std::string& whose,
                  const std::string& name, Faults& faults) {
  std::string problem;
  if (!has_type(type, value)) {
    const bool unreadable = value.type == TomlValue::Type::string || value.is_number();
    problem = unreadable && (type == Type::duration || type == Type::size) ? "cannot be read"
              : value.is_number() && !std::isfinite(value.number)          ? "is not a finite number"
                                                                  : std::string("is ") + name_of(value.type);
  } else if (const auto found = problem_with(shape, type, value)) {
    problem = *found;
  } else {
    return true;
  }
  faults.add(value.place, whose + name + " = " + shown(value) + " " + problem, singular(shape, type),
             fix_of(shape, type, value, name));
  return false;
}

}  // namespace

Shape text(const char* meaning) {
  return {.type = Type::text, .meaning = meaning};
}
Shape one_of(std::vector<std::string> choices) {
  return {.type = Type::text, .choices = std::move(choices)};
}
Shape integer(double minimum, double maximum) {
  return {.type = Type::integer, .minimum = minimum, .maximum = maximum};
}
Shape number(double minimum, double maximum) {
  return {.type = Type::number, .minimum = minimum, .maximum = maximum};
}
Shape above(double minimum) {
  return {.type = Type::number, .minimum = minimum, .above_minimum = true};
}
Shape at_least(double minimum) {
  return {.type = Type::number, .minimum = minimum};
}
Shape boolean() {
  return {.type = Type::boolean};
}
Shape duration() {
  return {.type = Type::duration, .minimum = 0};
}
Shape size() {
  return {.type = Type::size, .minimum = 1, .maximum = 0x1p62};
}
Shape text_list(const char* meaning) {
  return {.type = Type::text_list, .meaning = meaning};
}
Shape integer_list(double minimum, double maximum) {
  return {.type = Type::integer_list, .minimum = minimum, .maximum = maximum};
}
Shape number_list(int num_elements, double minimum, double maximum) {
  return {.type = Type::number_list, .minimum = minimum, .maximum = maximum, .num_elements = num_elements};
}

Shape like(Shape shape, std::string example) {
  shape.example = std::move(example);
  return shape;
}

std::string described(const Shape& shape) {
  if (!is_list(shape.type)) return singular(shape, shape.type);
  const std::string count = shape.num_elements < 0 ? "" : std::to_string(shape.num_elements) + " ";
  return "a list of " + count + "values, each " + singular(shape, element_of(shape.type));
}

const KeySchema* TableSchema::find_key(const std::string& key) const {
  for (const KeySchema& one : keys) {
    if (one.name == key) return &one;
  }
  return nullptr;
}

const TableSchema* TableSchema::find_table(const std::string& key) const {
  for (const TableSchema& one : tables) {
    if (one.name == key) return &one;
  }
  return nullptr;
}

bool check_shape(const Shape& shape, const TomlValue& value, const std::string& whose,
                 const std::string& name, Faults& faults) {
  if (!is_list(shape.type)) return check_single(shape, shape.type, value, whose, name, faults);
  if (value.type != TomlValue::Type::array) {
    faults.add(value.place, whose + name + " = " + shown(value) + " is " + name_of(value.type),
               described(shape),
               value.type == TomlValue::Type::table ? example_of(shape, name)
                                                    : "write " + name + " = [" + shown(value) + "]");
    return false;
  }
  const int count = static_cast<int>(value.elements.size());
  if (value.elements.size() > kMostElements) {
    faults.add(value.place, whose + name + " has " + std::to_string(count) + " values",
               "at most " + std::to_string(kMostElements) + " of them", example_of(shape, name));
    return false;
  }
  if (count == 0 || (shape.num_elements >= 0 && count != shape.num_elements)) {
    faults.add(value.place, whose + name + " has " + std::to_string(count) + " values", described(shape),
               count == 0 && shape.num_elements < 0 ? "remove " + name + " for the default"
                                                    : example_of(shape, name));
    return false;
  }
  bool good = true;
  for (const TomlValue& element : value.elements) {
    good &= check_single(shape, element_of(shape.type), element, whose, name, faults);
  }
  return good;
}

void read_keys(const TableSchema& schema, const TomlValue& table, const ReadInto& into, Faults& faults) {
  for (const TomlMember& member : table.members) {
    if (schema.find_table(member.key) != nullptr) continue;
    const KeySchema* key = schema.find_key(member.key);
    if (key == nullptr) {
      std::vector<std::string> names;
      for (const KeySchema& one : schema.keys) names.push_back(one.name);
      for (const TableSchema& one : schema.tables) names.push_back(one.name);
      std::string fix = did_you_mean(member.key, names);
      if (fix.empty()) fix = "remove it; `saturn schema` describes each key";
      faults.add(member.key_place, into.whose + "key " + in_quotes(member.key) + " is not known here",
                 "some of " + listed(names), fix);
      continue;
    }
    if (into.positions != nullptr) {
      (*into.positions)[into.prefix + key->name] = faults.at(member.value.place);
      for (std::size_t i = 0; i < std::min(member.value.elements.size(), kMostElements); ++i) {
        (*into.positions)[into.prefix + key->name + "[" + std::to_string(i) + "]"] =
            faults.at(member.value.elements[i].place);
      }
    }
    if (check_shape(key->shape, member.value, into.whose, key->name, faults))
      key->store(into.target, member.value);
  }
  for (const KeySchema& key : schema.keys) {
    if (!key.required || !into.complete || table.find(key.name) != nullptr) continue;
    faults.add(table.place, into.whose + key.name + " is missing", key.name + ": " + described(key.shape),
               example_of(key.shape, key.name));
  }
}

double duration_s_of(const TomlValue& value) {
  return value.is_number() ? value.number : parse_duration_s(value.spelled).value_or(0.0);
}

std::int64_t integer_of(const TomlValue& value) {
  return value.type == TomlValue::Type::integer ? value.integer : static_cast<std::int64_t>(value.number);
}

std::int64_t bytes_of(const TomlValue& value) {
  return value.is_number() ? integer_of(value) : parse_bytes(value.spelled).value_or(0);
}

std::string toml_text(const std::string& value) {
  return Json(value).dump();
}

std::string toml_text(double value) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  return std::string(digits, end);
}

std::string toml_text(bool value) {
  return value ? "true" : "false";
}

std::string toml_text(std::int64_t value) {
  return std::to_string(value);
}

}  // namespace saturn::batch

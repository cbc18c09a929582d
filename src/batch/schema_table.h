// What one declaration of a key holds, and how a table is read by its declarations. The same declarations
// make the defaults, the errors, the printed reference and the JSON Schema.

#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "batch/faults.h"
#include "batch/toml_document.h"
#include "saturn/base/json.h"
#include "saturn/batch/batch.h"

namespace saturn::batch {

/// The values a key takes.
struct Shape {
  enum class Type {
    text,
    integer,
    number,
    boolean,
    duration,
    size,
    text_list,
    integer_list,
    number_list,
    text_or_number
  };

  Type type = Type::text;
  double minimum = -std::numeric_limits<double>::infinity();
  double maximum = std::numeric_limits<double>::infinity();
  bool above_minimum = false;  ///< the minimum itself is not good
  bool below_maximum = false;
  std::vector<std::string> choices;  ///< of a text; empty = any
  int num_elements = -1;             ///< of a list; -1 = any number but none
  const char* meaning = "";          ///< what a text is, where `choices` is empty: "a path"
  std::string example;               ///< a good value as TOML writes it; Keys takes the default where empty
};

Shape text(const char* meaning);
Shape one_of(std::vector<std::string> choices);
Shape integer(double minimum, double maximum = std::numeric_limits<std::int32_t>::max());
Shape number(double minimum, double maximum);
Shape above(double minimum);  ///< a number above it
Shape at_least(double minimum);
Shape boolean();
Shape duration();
Shape size();
Shape text_list(const char* meaning);
Shape integer_list(double minimum, double maximum);
Shape number_list(int num_elements, double minimum, double maximum);

Shape like(Shape shape, std::string example);

/// "an integer of at least 1", "one of fp32, bf16".
std::string described(const Shape& shape);

/// One key of a table.
struct KeySchema {
  std::string name;
  Shape shape;
  std::string help;
  std::string shown_default;  ///< as TOML would write it; empty = none
  bool required = false;
  std::function<void(void* into, const TomlValue& value)> store;  ///< called with a value of the right shape
};

/// One table: its keys, and the tables within it.
struct TableSchema {
  enum class Form { one, many /* [[...]] */, named /* [x.NAME] */, axes /* keys are hyper-parameters */ };

  std::string name;
  Form form = Form::one;
  bool required = false;
  std::string help;
  std::vector<KeySchema> keys;
  std::vector<TableSchema> tables;

  const KeySchema* find_key(const std::string& key) const;
  const TableSchema* find_table(const std::string& key) const;
};

/// Where the values of one table go.
struct ReadInto {
  void* target = nullptr;  ///< what the table's `store` functions were declared for
  Positions* positions = nullptr;
  std::string prefix;    ///< of the keys in `positions`: "", "optimizer.", "run."
  std::string whose;     ///< begins each message: `job "x": `, or empty
  bool complete = true;  ///< false: keys may stand elsewhere, so none is missing
};

/// Checks every member of `table` against `schema` and stores the good ones. Missing required keys, unknown
/// keys (with the nearest name), wrong types and values out of range are faults; tables within are not
/// entered.
void read_keys(const TableSchema& schema, const TomlValue& table, const ReadInto& into, Faults& faults);

/// Whether `value` has the shape; adds the fault where not. `name` is what the message calls it.
bool check_shape(const Shape& shape, const TomlValue& value, const std::string& whose,
                 const std::string& name, Faults& faults);

/// Values of the right shape, as C++ has them.
double duration_s_of(const TomlValue& value);
std::int64_t bytes_of(const TomlValue& value);
std::int64_t integer_of(const TomlValue& value);

/// As TOML would write it.
std::string toml_text(const std::string& value);
std::string toml_text(double value);
std::string toml_text(bool value);
std::string toml_text(std::int64_t value);

/// Declares the keys of a table that is read into a `Target`, by accessors: a default is what a fresh
/// `Target` holds, so that it is written once.
template <class Target>
class Keys {
 public:
  explicit Keys(TableSchema& table) : table_(table) {}

  /// `access` is `[](Target& t) -> auto& { return t.member; }`.
  template <class Access>
  Keys& key(const char* name, Shape shape, Access access, std::string help) {
    return add(name, std::move(shape), access, std::move(help), /*required=*/false);
  }
  template <class Access>
  Keys& required(const char* name, Shape shape, Access access, std::string help) {
    return add(name, std::move(shape), access, std::move(help), /*required=*/true);
  }

  /// A key whose value is stored by hand.
  template <class Store>
  Keys& custom(const char* name, Shape shape, Store store, std::string shown_default, std::string help) {
    table_.keys.push_back(
        {name, std::move(shape), std::move(help), std::move(shown_default), false,
         [store](void* into, const TomlValue& value) { store(*static_cast<Target*>(into), value); }});
    return *this;
  }

 private:
  template <class Access>
  Keys& add(const char* name, Shape shape, Access access, std::string help, bool required) {
    Target fresh{};
    const std::string shown = required ? "" : default_of(shape, access(fresh));
    const Shape::Type type = shape.type;
    if (shape.example.empty()) shape.example = shown;
    table_.keys.push_back({name, std::move(shape), std::move(help), shown, required,
                           [access, type](void* into, const TomlValue& value) {
                             assign(access(*static_cast<Target*>(into)), value, type);
                           }});
    return *this;
  }

  static std::string default_of(const Shape&, const std::string& value) {
    return value.empty() ? "" : toml_text(value);
  }
  static std::string default_of(const Shape&, bool value) { return toml_text(value); }
  static std::string default_of(const Shape&, double value) { return toml_text(value); }
  template <class Integer>
  requires std::is_integral_v<Integer>
  static std::string default_of(const Shape&, Integer value) {
    return toml_text(static_cast<std::int64_t>(value));
  }
  // An optional or a list: absent says it all.
  template <class T>
  static std::string default_of(const Shape&, const std::optional<T>&) {
    return "";
  }
  template <class T>
  static std::string default_of(const Shape&, const std::vector<T>&) {
    return "";
  }

  static void assign(std::string& into, const TomlValue& value, Shape::Type) { into = value.spelled; }
  static void assign(bool& into, const TomlValue& value, Shape::Type) { into = value.boolean; }
  static void assign(double& into, const TomlValue& value, Shape::Type type) {
    into = type == Shape::Type::duration ? duration_s_of(value) : value.number;
  }
  template <class Integer>
  requires std::is_integral_v<Integer>
  static void assign(Integer& into, const TomlValue& value, Shape::Type type) {
    into = static_cast<Integer>(type == Shape::Type::size ? bytes_of(value) : integer_of(value));
  }
  template <class T>
  static void assign(std::optional<T>& into, const TomlValue& value, Shape::Type type) {
    assign(into.emplace(), value, type);
  }
  template <class T>
  static void assign(std::vector<T>& into, const TomlValue& value, Shape::Type type) {
    into.clear();
    for (const TomlValue& element : value.elements) assign(into.emplace_back(), element, type);
  }

  TableSchema& table_;
};

}  // namespace saturn::batch

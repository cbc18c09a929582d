// A TOML document as Saturn reads it: every value with its place and its spelling. toml++ stays behind it.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "saturn/base/result.h"

namespace saturn::batch {

/// Line and column, from 1.
struct Place {
  int line = 0;
  int column = 0;

  bool operator==(const Place&) const = default;
  auto operator<=>(const Place&) const = default;
};

struct TomlMember;

/// One value. Only the member that `type` names is set.
struct TomlValue {
  enum class Type { string, integer, number, boolean, date, array, table };

  Type type = Type::table;
  Place place;          ///< of the value; of the header for a table that has one
  std::string spelled;  ///< a number, boolean or date as written ("1e-3"); a string without its quotes
  std::int64_t integer = 0;
  double number = 0.0;  ///< set for integers too
  bool boolean = false;
  std::vector<TomlValue> elements;
  std::vector<TomlMember> members;  ///< in file order

  bool is_number() const { return type == Type::integer || type == Type::number; }
  const TomlMember* find(std::string_view key) const;
  /// Sets or replaces a member.
  void set(const std::string& key, TomlValue value);
};

struct TomlMember {
  std::string key;
  Place key_place;
  TomlValue value;
};

/// "a string", "an integer", "a table", ...
const char* name_of(TomlValue::Type type);

/// A value for a message: scalars as in the file, strings quoted, "[...]" and "{...}" cut short.
std::string shown(const TomlValue& value);

/// Outside bytes never cost unbounded time, stack or memory.
struct TomlLimits {
  std::size_t bytes = std::size_t{4} << 20;
  int depth = 32;  ///< of brackets, and of the dots of one key
};

/// Errors: Kind::input at path:line:col. TOML's own rules are checked by toml++, which stops at the first
/// fault.
Result<TomlValue> parse_toml(std::string_view text, const std::string& path, TomlLimits limits = {});

}  // namespace saturn::batch

// JSON artefacts: one header everywhere, fixed key order, written whole; a reader that names the pointer.

#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "saturn/base/result.h"

namespace saturn {

/// Keeps keys in the order they were written, so artefacts diff.
using Json = nlohmann::ordered_json;

/// Text of a document: two-space indent, numbers that round-trip, a newline at the end.
/// Strings that are not UTF-8 are written with the replacement character.
std::string to_text(const Json& document);

/// One line without a newline, for JSON lines and messages.
std::string to_line(const Json& document);

/// Limits of `parse_json`: outside bytes never cost unbounded time, stack or memory.
struct JsonLimits {
  std::size_t bytes = std::size_t{256} << 20;
  int depth = 64;
};

/// Parses strictly: no comments, no duplicate keys, no NaN, nothing after the document.
///
/// Errors: Kind::input at "path:line:col".
Result<Json> parse_json(std::string_view text, const std::string& path, JsonLimits limits = {});

/// Reads typed members of one object and collects every fault with its pointer ("path#/a/0/b").
///
/// Use: construct on an object, call the readers, then `finish()` (unknown keys become faults with the
/// nearest known name). Readers of a faulty member return the fallback, so that reading goes on.
class JsonReader {
 public:
  JsonReader(const Json& object, std::string path, std::string pointer, Diagnostics& faults);

  bool has(const char* key);
  std::string string(const char* key);
  std::string string_or(const char* key, std::string fallback);
  double number(const char* key);  ///< finite
  double number_or(const char* key, double fallback);
  std::int64_t integer(const char* key);
  std::int64_t integer_or(const char* key, std::int64_t fallback);
  bool boolean_or(const char* key, bool fallback);
  const Json& array(const char* key);  ///< an empty array where absent (a fault) or not one
  const Json& array_or_empty(const char* key);
  const Json& object(const char* key);
  const Json& object_or_empty(const char* key);
  const Json& any(const char* key);  ///< marks the key as known; null where absent

  /// A reader of the object at `key`, or of the `index`-th element of the array at `key`.
  JsonReader child(const char* key);
  JsonReader child(const char* key, std::size_t index);

  /// Adds a fault at `key` of this object.
  void fault(const std::string& key, std::string what, std::string expected, std::string fix = "");
  std::string pointer_to(const std::string& key) const;

  /// Reports every key that no reader asked for.
  void finish();

 private:
  const Json* find(const char* key);
  const Json* required(const char* key, const char* expected);

  const Json* object_;
  std::string path_;
  std::string pointer_;
  Diagnostics* faults_;
  std::vector<std::string> known_;
};

/// A file an artefact was made from: its name and the digest of its content (base/digest.h).
struct MadeFrom {
  std::string name;
  std::string digest;
};

/// The header of every artefact: {"format": "saturn.plan/1", "saturn": "0.1.0", "made_from": {name: digest}}.
Json artefact_header(const std::string& format, const std::vector<MadeFrom>& made_from);

/// Reads an artefact and checks `format` (the part before "/" must agree, the version must be known).
///
/// Errors: Kind::input with the path, or "path#/format".
Result<Json> read_artefact(const std::string& path, const std::string& format);

/// Renders and writes the artefact whole (see write_whole).
Result<void> write_artefact(const std::string& path, const Json& document);

}  // namespace saturn

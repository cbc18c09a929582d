// Strict JSON reading with pointers, and the header every artefact carries.

#include "saturn/base/json.h"

#include <cmath>
#include <set>

#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/base/version.h"

namespace saturn {
namespace {

struct Position {
  int line = 1;
  int column = 1;
};

Position position_of(std::string_view text, std::size_t byte) {
  Position at;
  for (std::size_t i = 0; i < byte && i < text.size(); ++i) {
    if (text[i] == '\n') {
      ++at.line;
      at.column = 1;
    } else {
      ++at.column;
    }
  }
  return at;
}

// Builds the document while refusing depth and duplicate keys, which the library would accept.
class Builder : public nlohmann::json_sax<Json> {
 public:
  explicit Builder(int max_depth) : max_depth_(max_depth) {}

  Json root;
  std::string problem;
  std::size_t problem_byte = 0;
  bool syntax_fault = false;

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t& text) override {
    if (!std::isfinite(value)) return refuse("number " + in_quotes(text) + " is too large");
    return put(value);
  }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return refuse("binary value"); }
  bool start_object(std::size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(std::size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second)
      return refuse("key " + in_quotes(name) + " appears twice in one object");
    key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t byte, const std::string&, const nlohmann::detail::exception&) override {
    syntax_fault = true;
    problem_byte = byte;
    return false;
  }

 private:
  bool refuse(std::string why) {
    problem = std::move(why);
    return false;
  }

  Json* place(Json value) {
    if (stack_.empty()) {
      root = std::move(value);
      return &root;
    }
    Json& parent = *stack_.back();
    if (parent.is_array()) {
      parent.push_back(std::move(value));
      return &parent.back();
    }
    // The key set has shown that the name is new, so append without the library's linear search.
    auto& members = parent.get_ref<Json::object_t&>();
    static_cast<std::vector<std::pair<const std::string, Json>>&>(members).emplace_back(std::move(key_),
                                                                                        std::move(value));
    return &members.back().second;
  }

  bool put(Json value) {
    place(std::move(value));
    return true;
  }

  bool open(Json value) {
    if (static_cast<int>(stack_.size()) >= max_depth_) {
      return refuse("nested deeper than " + std::to_string(max_depth_) + " levels");
    }
    stack_.push_back(place(std::move(value)));
    keys_.emplace_back();
    return true;
  }

  bool close() {
    stack_.pop_back();
    keys_.pop_back();
    return true;
  }

  int max_depth_;
  std::vector<Json*> stack_;
  std::vector<std::set<std::string>> keys_;
  std::string key_;
};

const Json kNull;
const Json kEmptyArray = Json::array();
const Json kEmptyObject = Json::object();

std::string kind_of(const Json& value) {
  if (value.is_string()) return in_quotes(value.get<std::string>());
  if (value.is_structured()) return value.is_array() ? "an array" : "an object";
  return value.dump();
}

}  // namespace

std::string to_text(const Json& document) {
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string to_line(const Json& document) {
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<Json> parse_json(std::string_view text, const std::string& path, JsonLimits limits) {
  if (text.size() > limits.bytes) {
    return Diagnostic{
        .where = path,
        .what = "file of " + std::to_string(text.size()) + " bytes is too large to read as JSON",
        .expected = "at most " + std::to_string(limits.bytes) + " bytes"};
  }
  Builder builder(limits.depth);
  if (Json::sax_parse(text.begin(), text.end(), &builder)) return std::move(builder.root);
  if (builder.syntax_fault) {
    const std::size_t byte = builder.problem_byte == 0 ? 0 : builder.problem_byte - 1;
    const Position at = position_of(text, byte);
    return Diagnostic{.where = position(path, at.line, at.column),
                      .what = byte >= text.size()
                                  ? "the JSON document ends too early"
                                  : "not JSON from " + in_quotes(std::string(text.substr(byte, 20))),
                      .expected = "one JSON document",
                      .fix = ""};
  }
  return Diagnostic{.where = path, .what = builder.problem, .expected = "a JSON document without it"};
}

JsonReader::JsonReader(const Json& object, std::string path, std::string pointer, Diagnostics& faults)
    : object_(&object), path_(std::move(path)), pointer_(std::move(pointer)), faults_(&faults) {
  if (!object.is_object()) {
    faults_->push_back(
        {.where = path_ + "#" + pointer_, .what = kind_of(object) + " stands here", .expected = "an object"});
    object_ = &kEmptyObject;
  }
}

std::string JsonReader::pointer_to(const std::string& key) const {
  std::string part;
  for (const char c : key) part += c == '~' ? "~0" : c == '/' ? "~1" : std::string(1, c);
  return path_ + "#" + pointer_ + "/" + part;
}

void JsonReader::fault(const std::string& key, std::string what, std::string expected, std::string fix) {
  faults_->push_back({.where = pointer_to(key),
                      .what = std::move(what),
                      .expected = std::move(expected),
                      .fix = std::move(fix)});
}

const Json* JsonReader::find(const char* key) {
  known_.emplace_back(key);
  const auto it = object_->find(key);
  return it == object_->end() ? nullptr : &*it;
}

const Json* JsonReader::required(const char* key, const char* expected) {
  const Json* value = find(key);
  if (value == nullptr) fault(key, "\"" + std::string(key) + "\" is missing", expected);
  return value;
}

bool JsonReader::has(const char* key) {
  return find(key) != nullptr;
}

std::string JsonReader::string(const char* key) {
  const Json* value = required(key, "a string");
  if (value == nullptr) return {};
  if (value->is_string()) return value->get<std::string>();
  fault(key, kind_of(*value) + " stands here", "a string");
  return {};
}

std::string JsonReader::string_or(const char* key, std::string fallback) {
  return has(key) ? string(key) : std::move(fallback);
}

double JsonReader::number(const char* key) {
  const Json* value = required(key, "a number");
  if (value == nullptr) return 0.0;
  if (value->is_number()) return value->get<double>();
  fault(key, kind_of(*value) + " stands here", "a number");
  return 0.0;
}

double JsonReader::number_or(const char* key, double fallback) {
  return has(key) ? number(key) : fallback;
}

std::int64_t JsonReader::integer(const char* key) {
  const Json* value = required(key, "an integer");
  if (value == nullptr) return 0;
  const bool in_range = !value->is_number_unsigned() || value->get<std::uint64_t>() <= INT64_MAX;
  if (value->is_number_integer() && in_range) return value->get<std::int64_t>();
  fault(key, kind_of(*value) + " stands here", "an integer of 64 bits");
  return 0;
}

std::int64_t JsonReader::integer_or(const char* key, std::int64_t fallback) {
  return has(key) ? integer(key) : fallback;
}

bool JsonReader::boolean_or(const char* key, bool fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->is_boolean()) return value->get<bool>();
  fault(key, kind_of(*value) + " stands here", "true or false");
  return fallback;
}

const Json& JsonReader::array(const char* key) {
  const Json* value = required(key, "an array");
  if (value == nullptr) return kEmptyArray;
  if (value->is_array()) return *value;
  fault(key, kind_of(*value) + " stands here", "an array");
  return kEmptyArray;
}

const Json& JsonReader::array_or_empty(const char* key) {
  return has(key) ? array(key) : kEmptyArray;
}

const Json& JsonReader::object(const char* key) {
  const Json* value = required(key, "an object");
  if (value == nullptr) return kEmptyObject;
  if (value->is_object()) return *value;
  fault(key, kind_of(*value) + " stands here", "an object");
  return kEmptyObject;
}

const Json& JsonReader::object_or_empty(const char* key) {
  return has(key) ? object(key) : kEmptyObject;
}

const Json& JsonReader::any(const char* key) {
  const Json* value = find(key);
  return value == nullptr ? kNull : *value;
}

JsonReader JsonReader::child(const char* key) {
  return JsonReader(object(key), path_, pointer_ + "/" + key, *faults_);
}

JsonReader JsonReader::child(const char* key, std::size_t index) {
  const Json& list = array(key);
  SATURN_CHECK(index < list.size(), "an array element that exists is read");
  return JsonReader(list[index], path_, pointer_ + "/" + key + "/" + std::to_string(index), *faults_);
}

void JsonReader::finish() {
  const std::set<std::string> known(known_.begin(), known_.end());
  for (const auto& [key, value] : object_->items()) {
    if (known.contains(key)) continue;
    const std::vector<std::string> names(known.begin(), known.end());
    fault(key, "key " + in_quotes(key) + " is not known here", "some of " + listed(names),
          did_you_mean(key, names));
  }
}

Json artefact_header(const std::string& format, const std::vector<MadeFrom>& made_from) {
  Json header = Json::object();
  header["format"] = format;
  header["saturn"] = version();
  Json& sources = header["made_from"] = Json::object();
  for (const MadeFrom& source : made_from) sources[source.name] = source.digest;
  return header;
}

Result<Json> read_artefact(const std::string& path, const std::string& format) {
  SATURN_TRY(const std::string text, read_whole(path));
  SATURN_TRY(Json document, parse_json(text, path));
  const auto found = document.is_object() ? document.find("format") : document.end();
  const std::string have = document.is_object() && found != document.end() && found->is_string()
                               ? found->get<std::string>()
                               : std::string();
  if (have != format) {
    const bool other_version = have.substr(0, have.find('/')) == format.substr(0, format.find('/'));
    return Diagnostic{.where = path + "#/format",
                      .what = have.empty() ? "this is not a Saturn artefact: it has no \"format\""
                                           : "format " + in_quotes(have) + " cannot be read here",
                      .expected = "\"" + format + "\"",
                      .fix = other_version ? "make the file again with this version of saturn" : ""};
  }
  return document;
}

Result<void> write_artefact(const std::string& path, const Json& document) {
  return write_whole(path, to_text(document));
}

}  // namespace saturn

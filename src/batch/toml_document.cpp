// The one file that knows toml++: its exceptions become Diagnostics, its nodes become TomlValue.

#include "batch/toml_document.h"

#include <toml++/toml.h>

#include <algorithm>
#include <sstream>

namespace saturn::batch {
namespace {

// Walks the text once, outside strings and comments, and refuses what would make toml++ recurse deeply:
// nested brackets, and keys of very many parts (which its own limit does not count).
class DepthCheck {
 public:
  DepthCheck(std::string_view text, int limit) : text_(text), limit_(limit) {}

  /// The place where the limit is passed; line 0 where it never is.
  Place first_fault() {
    while (at_ < text_.size()) {
      const char c = text_[at_];
      if (c == '"' || c == '\'') {
        skip_string(c);
        continue;
      }
      if (c == '#') {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
        continue;
      }
      if (c == '[' || c == '{') ++depth_;
      if (c == ']' || c == '}') depth_ = std::max(depth_ - 1, 0);
      if (c == '.') ++dots_;
      if (c == '=' || c == '{' || c == ',' || c == '[' || c == '\n') dots_ = 0;
      if (depth_ > limit_ || dots_ > limit_) return place();
      advance();
    }
    return {};
  }

 private:
  Place place() const { return {line_, static_cast<int>(at_ - line_start_) + 1}; }

  void advance() {
    if (text_[at_] == '\n') {
      ++line_;
      line_start_ = at_ + 1;
    }
    ++at_;
  }

  void skip_string(char quote) {
    const std::string three(3, quote);
    const bool multi_line = text_.substr(at_, 3) == three;
    at_ += multi_line ? 3 : 1;
    while (at_ < text_.size()) {
      if (quote == '"' && text_[at_] == '\\' && at_ + 1 < text_.size()) {
        advance();
        advance();
        continue;
      }
      if (multi_line && text_.substr(at_, 3) == three) {
        at_ += 3;
        return;
      }
      if (!multi_line && (text_[at_] == quote || text_[at_] == '\n')) {
        if (text_[at_] == quote) ++at_;
        return;
      }
      advance();
    }
  }

  std::string_view text_;
  int limit_;
  std::size_t at_ = 0;
  std::size_t line_start_ = 0;
  int line_ = 1;
  int depth_ = 0;
  int dots_ = 0;
};

// Finds the spelling of a value from the line and column that toml++ gives. Columns count code points, so
// every 64th of a line is remembered: a lookup is short however long the line.
class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text) {
    first_mark_.push_back(0);
    std::size_t column = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (continues(i)) continue;
      if (column++ % kStride == 0) marks_.push_back(i);
      if (text[i] != '\n') continue;
      first_mark_.push_back(marks_.size());
      column = 0;
    }
    marks_.push_back(text.size());
  }

  std::string spelling_at(Place place) const {
    if (place.line < 1 || place.line > static_cast<int>(first_mark_.size()) || place.column < 1) return "";
    const auto column = static_cast<std::size_t>(place.column) - 1;
    const std::size_t mark = first_mark_[static_cast<std::size_t>(place.line) - 1] + column / kStride;
    if (mark >= marks_.size()) return "";
    std::size_t at = marks_[mark];
    for (std::size_t skip = column % kStride; skip > 0 && at < text_.size(); --skip) {
      ++at;
      while (at < text_.size() && continues(at)) ++at;
    }
    const std::size_t end = text_.find_first_of(",]}# \t\r\n", at);
    return std::string(text_.substr(at, end == std::string_view::npos ? end : end - at));
  }

 private:
  static constexpr std::size_t kStride = 64;

  bool continues(std::size_t byte) const { return (static_cast<unsigned char>(text_[byte]) & 0xc0) == 0x80; }

  std::string_view text_;
  std::vector<std::size_t> marks_;       // offsets of code points 0, 64, 128, ... of each line
  std::vector<std::size_t> first_mark_;  // of each line
};

Place place_of(const toml::source_region& source) {
  return {static_cast<int>(source.begin.line), static_cast<int>(source.begin.column)};
}

TomlValue convert(const toml::node& node, const Lines& lines) {
  TomlValue value;
  value.place = place_of(node.source());
  if (const auto* table = node.as_table()) {
    value.type = TomlValue::Type::table;
    for (const auto& [key, child] : *table) {
      value.members.push_back({std::string(key.str()), place_of(key.source()), convert(child, lines)});
    }
    std::stable_sort(value.members.begin(), value.members.end(),
                     [](const TomlMember& a, const TomlMember& b) { return a.key_place < b.key_place; });
    return value;
  }
  if (const auto* array = node.as_array()) {
    value.type = TomlValue::Type::array;
    for (const toml::node& element : *array) value.elements.push_back(convert(element, lines));
    return value;
  }
  if (const auto* string = node.as_string()) {
    value.type = TomlValue::Type::string;
    value.spelled = string->get();
    return value;
  }
  value.spelled = lines.spelling_at(value.place);
  if (const auto* integer = node.as_integer()) {
    value.type = TomlValue::Type::integer;
    value.integer = integer->get();
    value.number = static_cast<double>(value.integer);
  } else if (const auto* number = node.as_floating_point()) {
    value.type = TomlValue::Type::number;
    value.number = number->get();
  } else if (const auto* boolean = node.as_boolean()) {
    value.type = TomlValue::Type::boolean;
    value.boolean = boolean->get();
  } else {
    value.type = TomlValue::Type::date;
  }
  return value;
}

std::string lower_first(std::string text) {
  if (!text.empty() && text[0] >= 'A' && text[0] <= 'Z') text[0] = static_cast<char>(text[0] - 'A' + 'a');
  return text;
}

}  // namespace

const TomlMember* TomlValue::find(std::string_view key) const {
  for (const TomlMember& member : members) {
    if (member.key == key) return &member;
  }
  return nullptr;
}

void TomlValue::set(const std::string& key, TomlValue value) {
  for (TomlMember& member : members) {
    if (member.key != key) continue;
    member.key_place = value.place;
    member.value = std::move(value);
    return;
  }
  const Place at = value.place;
  members.push_back({key, at, std::move(value)});
}

const char* name_of(TomlValue::Type type) {
  switch (type) {
    case TomlValue::Type::string:
      return "a string";
    case TomlValue::Type::integer:
      return "an integer";
    case TomlValue::Type::number:
      return "a number with a fraction";
    case TomlValue::Type::boolean:
      return "a boolean";
    case TomlValue::Type::date:
      return "a date or time";
    case TomlValue::Type::array:
      return "an array";
    case TomlValue::Type::table:
      return "a table";
  }
  return "";
}

std::string shown(const TomlValue& value) {
  constexpr std::size_t kMostElements = 8;
  switch (value.type) {
    case TomlValue::Type::string:
      return in_quotes(value.spelled);
    case TomlValue::Type::table:
      return "{...}";
    case TomlValue::Type::array: {
      std::string text;
      for (std::size_t i = 0; i < value.elements.size() && i < kMostElements; ++i) {
        const TomlValue& element = value.elements[i];
        text += (i == 0 ? "" : ", ") + (element.type == TomlValue::Type::array ? "[...]" : shown(element));
      }
      return "[" + text + (value.elements.size() > kMostElements ? ", ..." : "") + "]";
    }
    default:
      return value.spelled.size() <= 40 ? value.spelled : value.spelled.substr(0, 37) + "...";
  }
}

Result<TomlValue> parse_toml(std::string_view text, const std::string& path, TomlLimits limits) {
  if (text.size() > limits.bytes) {
    return Diagnostic{.where = path,
                      .what = "file of " + std::to_string(text.size()) + " bytes is too large to be a batch",
                      .expected = "at most " + std::to_string(limits.bytes) + " bytes of TOML",
                      .fix = "split it into several batches, or write [job.grid] instead of single jobs"};
  }
  if (const Place deep = DepthCheck(text, limits.depth).first_fault(); deep.line > 0) {
    return Diagnostic{.where = position(path, deep.line, deep.column),
                      .what = "nested deeper than " + std::to_string(limits.depth) + " levels",
                      .expected = "the tables and arrays that `saturn schema` lists",
                      .fix = "remove the nesting"};
  }
  try {
    const toml::table root = toml::parse(text, path);
    return convert(root, Lines(text));
  } catch (const toml::parse_error& error) {
    const Place at = place_of(error.source());
    return Diagnostic{.where = position(path, std::max(at.line, 1), std::max(at.column, 1)),
                      .what = "this is not TOML: " + lower_first(std::string(error.description())),
                      .expected = "a TOML 1.0 document in UTF-8, each key once",
                      .fix = "correct the line; what follows it is checked after that"};
  }
}

}  // namespace saturn::batch

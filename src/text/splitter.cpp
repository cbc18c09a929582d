// PCRE2 behind the tokenizers' expressions: what the two engines read differently is rewritten or refused.

#include "text/splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <array>
#include <cctype>
#include <new>
#include <optional>

#include "saturn/base/nearest.h"

namespace saturn::text {
namespace {

constexpr std::size_t kLongestPattern = 16384;
// Characters with Unicode's White_Space property; PCRE2's own \s has U+180E as well.
constexpr const char* kWhiteSpace =
    R"(\x{9}-\x{d}\x{20}\x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000})";

Diagnostic unsupported(const std::string& where, const std::string& pattern, const std::string& what) {
  return {.where = where,
          .what = "the expression " + in_quotes(pattern) + " " + what,
          .expected =
              "an expression of alternatives, classes, \\p{..}, \\s, \\d, (?i:..), (?!..) and quantifiers",
          .fix = "use a tokenizer whose expression is made of these, as those of GPT-2 and LLaMA-3 are"};
}

/// `pattern` as PCRE2 must read it to match what Oniguruma matches.
Result<std::string> translated(const std::string& pattern, const std::string& where) {
  std::string out;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\') {
      if (i + 1 == pattern.size()) return unsupported(where, pattern, "ends in a backslash");
      const char next = pattern[++i];
      if (next == 's') {
        out += in_class ? std::string(kWhiteSpace) : "[" + std::string(kWhiteSpace) + "]";
      } else if (next == 'S' && !in_class) {
        out += "[^" + std::string(kWhiteSpace) + "]";
      } else if (std::string_view("pPdDrntfx").find(next) != std::string_view::npos ||
                 (std::isalnum(static_cast<unsigned char>(next)) == 0 && next > ' ')) {
        out += {c, next};
        // The braces of a property or a code point are no repetition.
        const bool has_braces =
            (next == 'p' || next == 'P' || next == 'x') && pattern.compare(i + 1, 1, "{") == 0;
        for (bool inside = has_braces; inside && i + 1 < pattern.size();) {
          out += pattern[++i];
          inside = pattern[i] != '}';
        }
      } else {
        return unsupported(where, pattern, "holds \\" + std::string(1, next));
      }
      continue;
    }
    if (in_class) {
      if (c == '[' || (c == '&' && pattern.compare(i, 2, "&&") == 0))
        return unsupported(where, pattern, "holds a class within a class");
      in_class = c != ']';
    } else if (c == '[') {
      in_class = true;
      out += c;
      if (pattern.compare(i + 1, 1, "^") == 0) out += pattern[++i];
      continue;
    } else if (c == '^' || c == '$') {
      return unsupported(where, pattern, "holds an anchor");
    } else if (c == '}' && pattern.compare(i + 1, 1, "+") == 0) {
      return unsupported(where, pattern, "holds a + after a counted repetition");
    } else if (c == '(' && pattern.compare(i + 1, 1, "*") == 0) {
      return unsupported(where, pattern, "holds (*");
    } else if (c == '(' && pattern.compare(i + 1, 1, "?") == 0) {
      const std::string_view rest = std::string_view(pattern).substr(i + 2);
      const bool known = rest.starts_with(":") || rest.starts_with("i:") || rest.starts_with("!") ||
                         rest.starts_with("=") || rest.starts_with(">");
      if (!known) return unsupported(where, pattern, "holds an unknown group (?");
    }
    out += c;
  }
  return out;
}

std::string message_of(int error) {
  std::array<unsigned char, 256> text{};
  pcre2_get_error_message(error, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

}  // namespace

Result<Splitter> Splitter::compile(const std::string& pattern, const std::string& where) {
  if (pattern.size() > kLongestPattern) return unsupported(where, pattern.substr(0, 40), "is very long");
  SATURN_TRY(const std::string text, translated(pattern, where));
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Texts are known to be UTF-8 before they are matched.
  pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(),
                                   PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (code == nullptr) return unsupported(where, pattern, "is malformed: " + message_of(error));
  Splitter splitter;
  splitter.code_.reset(code, pcre2_code_free);
  splitter.where_ = where;
  std::uint32_t matches_nothing = 0;
  pcre2_pattern_info(code, PCRE2_INFO_MATCHEMPTY, &matches_nothing);
  if (matches_nothing != 0) return unsupported(where, pattern, "may match nothing");
  // Without a compiler for this machine matching is slower and the same.
  pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
  return splitter;
}

Splitter::Matcher::Matcher(const Splitter& splitter)
    : splitter_(&splitter), match_(pcre2_match_data_create(1, nullptr), pcre2_match_data_free) {
  if (!match_) throw std::bad_alloc();
}

Result<std::size_t> Splitter::Matcher::end_of_piece(std::string_view text, std::size_t from) {
  if (ahead_in_ == text.data() && ahead_from_ == from) return ahead_to_;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  int found = pcre2_match(splitter_->code_.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK,
                          match_.get(), nullptr);
  if (found == PCRE2_ERROR_JIT_STACKLIMIT)
    found = pcre2_match(splitter_->code_.get(), subject, text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT,
                        match_.get(), nullptr);
  if (found == PCRE2_ERROR_NOMATCH) return text.size();
  if (found < 0)
    return Diagnostic{
        .where = splitter_->where_,
        .what = "matching stopped at byte " + std::to_string(from) + " of the text: " + message_of(found),
        .expected = "an expression that matches any text in few steps"};
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match_.get());
  if (ends[0] == from) return ends[1];
  ahead_in_ = text.data();
  ahead_from_ = ends[0];
  ahead_to_ = ends[1];
  return ends[0];
}

}  // namespace saturn::text

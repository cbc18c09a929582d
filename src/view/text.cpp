// UTF-8 by columns, and tables that fit.

#include "saturn/view/text.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>

#include "saturn/base/check.h"

namespace saturn::view {
namespace {

struct Character {
  char32_t code = 0;  // 0 where the bytes are malformed
  std::size_t size = 1;
};

// Decodes the character at `text[at]`; a malformed byte stands alone.
Character character_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return {first, 1};
  const std::size_t size = first >= 0xF0 && first < 0xF5   ? 4
                           : first >= 0xE0 && first < 0xF0 ? 3
                           : first >= 0xC2 && first < 0xE0 ? 2
                                                           : 0;
  if (size == 0 || at + size > text.size()) return {0, 1};
  char32_t code = first & (0xFFU >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(at + i) & 0xC0U) != 0x80U) return {0, 1};
    code = (code << 6U) | (byte(at + i) & 0x3FU);
  }
  constexpr std::array<char32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};  // shorter forms are malformed
  const bool surrogate = code >= 0xD800 && code <= 0xDFFF;
  if (code < kLeast[size] || code > 0x10FFFF || surrogate) return {0, 1};
  return {code, size};
}

struct Range {
  char32_t first;
  char32_t last;
};

template <std::size_t N>
bool within(char32_t code, const std::array<Range, N>& ranges) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Range& range) { return code >= range.first && code <= range.last; });
}

// Marks that take no column of their own, and characters that would turn or hide what follows them.
constexpr std::array<Range, 6> kCombining = {
    {{0x300, 0x36F}, {0x483, 0x489}, {0x591, 0x5BD}, {0x1AB0, 0x1AFF}, {0x20D0, 0x20FF}, {0xFE00, 0xFE0F}}};
constexpr std::array<Range, 9> kWide = {{{0x1100, 0x115F},
                                         {0x2E80, 0xA4CF},
                                         {0xAC00, 0xD7A3},
                                         {0xF900, 0xFAFF},
                                         {0xFE30, 0xFE6F},
                                         {0xFF00, 0xFF60},
                                         {0xFFE0, 0xFFE6},
                                         {0x1F300, 0x1FAFF},
                                         {0x20000, 0x3FFFD}}};
constexpr std::array<Range, 6> kUnsafe = {{{0, 0x1F},  // malformed bytes are 0
                                           {0x7F, 0x9F},
                                           {0x200B, 0x200F},
                                           {0x2028, 0x202E},
                                           {0x2060, 0x206F},
                                           {0xFEFF, 0xFEFF}}};

int columns_of_code(char32_t code) {
  if (within(code, kCombining)) return 0;
  return within(code, kWide) ? 2 : 1;
}

// The longest prefix of at most `columns`, with the combining marks of its last character.
std::string_view head(std::string_view text, int columns) {
  std::size_t at = 0;
  while (at < text.size()) {
    const Character next = character_at(text, at);
    columns -= columns_of_code(next.code);
    if (columns < 0) break;
    at += next.size;
  }
  return text.substr(0, at);
}

// The longest suffix of at most `columns`.
std::string_view tail(std::string_view text, int columns) {
  int left = columns_of(text);
  std::size_t at = 0;
  while (at < text.size() && left > columns) {
    const Character next = character_at(text, at);
    left -= columns_of_code(next.code);
    at += next.size;
  }
  while (at < text.size() && columns_of_code(character_at(text, at).code) == 0)
    at += character_at(text, at).size;
  return text.substr(at);
}

}  // namespace

std::string printable(std::string_view text, bool unicode) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const Character next = character_at(text, at);
    if (within(next.code, kUnsafe) || (!unicode && next.code >= 0x80))
      out += '?';
    else
      out += text.substr(at, next.size);
    at += next.size;
  }
  return out;
}

int columns_of(std::string_view text) {
  int columns = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Character next = character_at(text, at);
    columns += columns_of_code(next.code);
    at += next.size;
  }
  return columns;
}

std::string fitted(std::string_view text, int columns, bool unicode) {
  const std::string safe = printable(text, unicode);
  if (columns <= 0) return "";
  if (columns_of(safe) <= columns) return safe;
  const std::string mark = unicode ? "…" : "..";
  const int kept = columns - columns_of(mark);
  if (kept < 2) return std::string(head(safe, columns));
  const int kept_head = (kept + 1) / 2;
  const std::string_view first = head(safe, kept_head);
  return std::string(first) + mark + std::string(tail(safe, kept - kept_head));
}

std::string padded(std::string_view text, int columns, Align align) {
  const int missing = std::max(0, columns - columns_of(text));
  const std::string spaces(static_cast<std::size_t>(missing), ' ');
  return align == Align::left ? std::string(text) + spaces : spaces + std::string(text);
}

std::vector<std::string> wrapped(std::string_view text, int columns, bool unicode) {
  SATURN_CHECK(columns > 1, "text is wrapped to more than one column");
  const std::string safe = printable(text, unicode);
  std::vector<std::string> lines;
  std::string_view rest = safe;
  while (columns_of(rest) > columns) {
    std::string_view line = head(rest, columns);
    const std::size_t space = rest.substr(0, line.size() + 1).rfind(' ');
    if (space != std::string_view::npos && space > 0) line = rest.substr(0, space);
    lines.emplace_back(line);
    rest.remove_prefix(line.size());
    while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  }
  if (!rest.empty() || lines.empty()) lines.emplace_back(rest);
  return lines;
}

void Table::add(std::vector<std::string> row) {
  SATURN_CHECK(row.size() == columns_.size(), "a row has one cell per column");
  rows_.push_back(std::move(row));
}

std::string Table::text(const Terminal& terminal, int indent) const {
  constexpr int kGap = 2;
  constexpr int kLeastShrunk = 4;

  // 1. What each column would like; a column without content is not shown.
  std::vector<int> widths(columns_.size());
  std::vector<bool> shown(columns_.size());
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    for (const auto& row : rows_)
      widths[c] = std::max(widths[c], columns_of(printable(row[c], terminal.unicode)));
    shown[c] = widths[c] > 0;
    widths[c] = std::max(widths[c], columns_of(columns_[c].title));
  }
  const auto excess = [&] {
    int total = indent - kGap;
    for (std::size_t c = 0; c < columns_.size(); ++c) total += shown[c] ? widths[c] + kGap : 0;
    return total - terminal.width;
  };

  // 2. Shrink the widest of what shrinks, a column at a time; then leave columns out; then shrink again.
  const auto shrink_to = [&](int least) {
    while (excess() > 0) {
      std::size_t widest = columns_.size();
      for (std::size_t c = 0; c < columns_.size(); ++c) {
        if (shown[c] && columns_[c].shrinks && widths[c] > least &&
            (widest == columns_.size() || widths[c] > widths[widest]))
          widest = c;
      }
      if (widest == columns_.size()) return;
      --widths[widest];
    }
  };
  constexpr int kReadable = 16;
  const std::vector<int> wished = widths;
  shrink_to(kReadable);
  std::vector<std::size_t> droppable;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    if (columns_[c].drop_order > 0 && shown[c]) droppable.push_back(c);
  }
  std::stable_sort(droppable.begin(), droppable.end(), [&](std::size_t a, std::size_t b) {
    return columns_[a].drop_order < columns_[b].drop_order;
  });
  std::vector<std::size_t> dropped;
  for (const std::size_t c : droppable) {
    if (excess() <= 0) break;
    shown[c] = false;
    dropped.push_back(c);
    widths = wished;
    shrink_to(kReadable);
  }
  for (auto c = dropped.rbegin(); c != dropped.rend();
       ++c) {  // a narrow one may fit where a wide one did not
    const std::vector<int> before = widths;
    shown[*c] = true;
    shrink_to(kReadable);
    if (excess() <= 0) continue;
    shown[*c] = false;
    widths = before;
  }
  shrink_to(kLeastShrunk);
  for (std::size_t c = columns_.size(); c-- > 1 && excess() > 0;) shown[c] = false;  // narrower than meant
  if (excess() > 0) widths[0] = std::max(1, widths[0] - excess());

  // 3. Set it.
  std::string out;
  const auto set_line = [&](const auto& cell_of) {
    std::string line(static_cast<std::size_t>(indent), ' ');
    bool first = true;
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      if (!shown[c]) continue;
      if (!first) line += std::string(kGap, ' ');
      first = false;
      line += padded(fitted(cell_of(c), widths[c], terminal.unicode), widths[c], columns_[c].align);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  };
  set_line([&](std::size_t c) { return columns_[c].title; });
  for (const auto& row : rows_) set_line([&](std::size_t c) { return row[c]; });
  return out;
}

}  // namespace saturn::view

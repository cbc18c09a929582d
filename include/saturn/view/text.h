// Text measured in terminal columns: safe to print, cut, padded, and set in tables.

#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "saturn/view/terminal.h"

namespace saturn::view {

/// `text` with control characters and malformed UTF-8 replaced; without `unicode`, anything beyond ASCII too.
std::string printable(std::string_view text, bool unicode);

/// Terminal columns of printable UTF-8: wide characters count two, combining ones none.
int columns_of(std::string_view text);

/// `text` cut in the middle to at most `columns` (names of a grid differ at both ends); "…" or ".." marks the
/// cut where there is room for it.
std::string fitted(std::string_view text, int columns, bool unicode);

enum class Align { left, right };

/// Spaces up to `columns`; longer text is unchanged.
std::string padded(std::string_view text, int columns, Align align = Align::left);

/// `text` printable, broken at spaces into lines of at most `columns`; what has no space is broken anywhere.
std::vector<std::string> wrapped(std::string_view text, int columns, bool unicode);

struct Column {
  std::string title;
  Align align = Align::left;
  bool shrinks = false;  ///< its cells may be cut where the table is too wide
  int drop_order = 0;    ///< 1 is left out first where shrinking is not enough; 0 is always shown
};

/// Rows under titles, never wider than the terminal.
class Table {
 public:
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

  /// As many cells as columns.
  void add(std::vector<std::string> row);
  bool empty() const { return rows_.empty(); }

  /// A line of titles, then a line per row; columns without any content are left out.
  std::string text(const Terminal& terminal, int indent = 0) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace saturn::view

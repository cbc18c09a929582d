// What the other end of a descriptor can show: how wide it is, and whether it moves a cursor, has colours and
// draws more than ASCII.

#pragma once

#include <functional>
#include <string>

namespace saturn::view {

struct Terminal {
  int width = 80;            ///< columns; at least kLeastWidth
  int height = 24;           ///< rows
  bool interactive = false;  ///< a terminal that can be redrawn in place
  bool unicode = false;      ///< UTF-8 by the locale
  bool color = false;
};

/// Nothing is drawn for fewer columns than this.
inline constexpr int kLeastWidth = 20;

/// Looks up an environment variable: its value, or nullptr.
using Environment = std::function<const char*(const char* name)>;

/// The size that TIOCGWINSZ gives for `fd` (0 where it is no terminal), COLUMNS before it, else 80 x 24.
/// NO_COLOR, TERM=dumb and the locale (LC_ALL, LC_CTYPE, LANG) are honoured.
Terminal terminal_of(int fd);

struct TerminalSize {
  int width = 0;
  int height = 0;
};

/// The same decision without the system calls.
Terminal terminal_from(bool is_terminal, TerminalSize size, const Environment& environment);

}  // namespace saturn::view

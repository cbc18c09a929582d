// Terminal size and abilities from the descriptor and the environment.

#include "saturn/view/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

namespace saturn::view {
namespace {

constexpr int kMostColumns = 1000;  // a hostile COLUMNS costs no memory

int positive_number(const char* text) {
  int value = 0;
  if (text == nullptr) return 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  return error == std::errc() && stop == end && value > 0 ? value : 0;
}

// The first of the three variables that is set and not empty decides, as in setlocale.
bool locale_is_utf8(const Environment& environment) {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"}) {
    const char* value = environment(name);
    if (value == nullptr || *value == '\0') continue;
    std::string locale = value;
    std::transform(locale.begin(), locale.end(), locale.begin(),
                   [](unsigned char c) { return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c); });
    return locale.find("utf-8") != std::string::npos || locale.find("utf8") != std::string::npos;
  }
  return false;
}

}  // namespace

Terminal terminal_from(bool is_terminal, TerminalSize size, const Environment& environment) {
  Terminal terminal;
  const int columns = positive_number(environment("COLUMNS"));
  if (columns > 0)
    terminal.width = columns;
  else if (size.width > 0)
    terminal.width = size.width;
  terminal.width = std::clamp(terminal.width, kLeastWidth, kMostColumns);
  if (size.height > 0) terminal.height = size.height;
  const char* term = environment("TERM");
  const bool dumb = term == nullptr || std::strcmp(term, "dumb") == 0 || *term == '\0';
  const char* no_color = environment("NO_COLOR");
  terminal.interactive = is_terminal && !dumb;
  terminal.color = terminal.interactive && (no_color == nullptr || *no_color == '\0');
  terminal.unicode = locale_is_utf8(environment);
  return terminal;
}

Terminal terminal_of(int fd) {
  winsize size{};
  const bool is_terminal = ::isatty(fd) == 1;
  const bool has_size = is_terminal && ::ioctl(fd, TIOCGWINSZ, &size) == 0;
  return terminal_from(is_terminal, has_size ? TerminalSize{size.ws_col, size.ws_row} : TerminalSize{},
                       [](const char* name) { return std::getenv(name); });
}

}  // namespace saturn::view

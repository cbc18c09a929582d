// Characters and colours that the text views share: one set for UTF-8, one for ASCII.

#pragma once

#include <array>
#include <cstddef>
#include <string>

#include "saturn/view/terminal.h"

namespace saturn::view {

struct Glyphs {
  const char* open;
  const char* close;
  const char* fill;
  const char* failed;
  const char* running;
  const char* crowded;
  const char* wall;
  const char* corner;
  const char* tick;
  const char* line;
  const char* bar_done;
  const char* bar_rest;
  const char* best;
  const char* separator;
  std::array<const char*, 8> levels;  ///< shares from above 0 to 1
};

inline const Glyphs& glyphs(bool unicode) {
  static constexpr Glyphs kUnicode = {"├", "┤", "─", "✗",   "▸",
                                      "▒", "│", "└", "┬",   "─",
                                      "━", "╌", "★", " · ", {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}};
  static constexpr Glyphs kAscii = {"[", "]", "-", "x",  ">",
                                    "%", "|", "+", "+",  "-",
                                    "#", ".", "*", ", ", {".", ":", "-", "=", "+", "*", "&", "#"}};
  return unicode ? kUnicode : kAscii;
}

/// `text` in the `index`-th of a few distinguishable colours.
inline std::string painted(const std::string& text, std::size_t index, bool color) {
  static constexpr std::array<const char*, 12> kColors = {"39",  "208", "77",  "170", "220", "44",
                                                          "203", "141", "114", "180", "111", "213"};
  if (!color) return text;
  return std::string("\x1b[38;5;") + kColors[index % kColors.size()] + "m" + text + "\x1b[0m";
}

inline std::string bold(const std::string& text, bool color) {
  return color ? "\x1b[1m" + text + "\x1b[0m" : text;
}

inline std::string dim(const std::string& text, bool color) {
  return color ? "\x1b[2m" + text + "\x1b[0m" : text;
}

}  // namespace saturn::view

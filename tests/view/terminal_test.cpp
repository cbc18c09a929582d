// Width and abilities from the environment.

#include "saturn/view/terminal.h"

#include <doctest/doctest.h>

#include <map>

namespace saturn::view {
namespace {

Terminal with(bool is_terminal, TerminalSize size, const std::map<std::string, std::string>& variables) {
  return terminal_from(is_terminal, size, [&](const char* name) -> const char* {
    const auto found = variables.find(name);
    return found == variables.end() ? nullptr : found->second.c_str();
  });
}

TEST_CASE("view/terminal: a pipe is 80 columns wide and is not redrawn") {
  const Terminal terminal = with(false, {}, {{"TERM", "xterm"}});
  CHECK(terminal.width == 80);
  CHECK_FALSE(terminal.interactive);
  CHECK_FALSE(terminal.color);
}

TEST_CASE("view/terminal: COLUMNS is taken before the size of the terminal") {
  CHECK(with(true, {132, 50}, {{"TERM", "xterm"}}).width == 132);
  CHECK(with(true, {132, 50}, {{"TERM", "xterm"}}).height == 50);
  CHECK(with(true, {132, 50}, {{"TERM", "xterm"}, {"COLUMNS", "100"}}).width == 100);
  CHECK(with(false, {}, {{"COLUMNS", "120"}}).width == 120);
}

TEST_CASE("view/terminal: a senseless COLUMNS is not followed") {
  CHECK(with(false, {}, {{"COLUMNS", "wide"}}).width == 80);
  CHECK(with(false, {}, {{"COLUMNS", "-5"}}).width == 80);
  CHECK(with(false, {}, {{"COLUMNS", "3"}}).width == kLeastWidth);
  CHECK(with(false, {}, {{"COLUMNS", "2000000000"}}).width == 1000);
  CHECK(with(false, {}, {{"COLUMNS", "99999999999999999999"}}).width == 80);
}

TEST_CASE("view/terminal: the first locale variable that is set decides what is drawn") {
  CHECK(with(false, {}, {{"LANG", "en_GB.UTF-8"}}).unicode);
  CHECK(with(false, {}, {{"LC_ALL", ""}, {"LANG", "C.utf8"}}).unicode);
  CHECK_FALSE(with(false, {}, {{"LC_ALL", "C"}, {"LANG", "en_GB.UTF-8"}}).unicode);
  CHECK_FALSE(with(false, {}, {}).unicode);
}

TEST_CASE("view/terminal: colours need a terminal that has them and are refused by NO_COLOR") {
  CHECK(with(true, {80, 24}, {{"TERM", "xterm"}}).color);
  CHECK_FALSE(with(true, {80, 24}, {{"TERM", "xterm"}, {"NO_COLOR", "1"}}).color);
  CHECK_FALSE(with(true, {80, 24}, {{"TERM", "dumb"}}).interactive);
  CHECK_FALSE(with(true, {80, 24}, {}).interactive);
}

}  // namespace
}  // namespace saturn::view

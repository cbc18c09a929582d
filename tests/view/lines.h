// A drawn text as its lines.

#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace saturn::testing {

/// The lines of `text`, each of which ends in a newline.
inline std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t from = 0; from < text.size();) {
    const std::size_t end = text.find('\n', from);
    REQUIRE(end != std::string::npos);
    lines.push_back(text.substr(from, end - from));
    from = end + 1;
  }
  return lines;
}

}  // namespace saturn::testing

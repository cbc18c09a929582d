// Exact text against a file of tests/golden; SATURN_UPDATE_GOLDEN=1 writes the file instead.

#pragma once

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "saturn/base/files.h"
#include "tests/support/paths.h"

namespace saturn::testing {

/// Checks that `text` is the content of tests/golden/<name>.
inline void check_golden(const std::string& name, const std::string& text) {
  const std::string path = source_directory() + "/tests/golden/" + name;
  CAPTURE(path);
  const char* update = std::getenv("SATURN_UPDATE_GOLDEN");
  if (update != nullptr && std::string(update) == "1") {
    REQUIRE(make_directories(directory_of(path)).ok());
    REQUIRE(write_whole(path, text).ok());
    return;
  }
  const Result<std::string> wanted = read_whole(path);
  REQUIRE(wanted.ok());
  CHECK(text == *wanted);
}

}  // namespace saturn::testing

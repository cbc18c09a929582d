// The two paths, as CMake says them.

#include "tests/support/paths.h"

namespace saturn::testing {

std::string source_directory() {
  return SATURN_SOURCE_DIR;
}
std::string binary_directory() {
  return SATURN_BINARY_DIR;
}

}  // namespace saturn::testing

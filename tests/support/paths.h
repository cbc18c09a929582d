// Where the checkout and the build lie. Known to one object file, so that every other one is the same in
// every clone and comes from the compiler's cache.

#pragma once

#include <string>

namespace saturn::testing {

std::string source_directory();
std::string binary_directory();

}  // namespace saturn::testing

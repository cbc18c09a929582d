// The families of this build.

#include "batch/family.h"

namespace saturn::batch {

Family gpt2();   // families/gpt2.cpp
Family llama();  // families/llama.cpp

const std::vector<Family>& families() {
  static const std::vector<Family> all = {gpt2(), llama()};
  return all;
}

const Family* find_family(const std::string& name) {
  for (const Family& family : families()) {
    if (family.name == name) return &family;
  }
  return nullptr;
}

}  // namespace saturn::batch

// The families of this build.

#include "batch/family.h"

namespace saturn::batch {

// families/<name>.cpp
Family gpt2();
Family gptj();
Family llama();
Family resnet();
Family vit();

const std::vector<Family>& families() {
  static const std::vector<Family> all = {gpt2(), gptj(), llama(), resnet(), vit()};
  return all;
}

const Family* find_family(const std::string& name) {
  for (const Family& family : families()) {
    if (family.name == name) return &family;
  }
  return nullptr;
}

}  // namespace saturn::batch

// A language model small enough for tests of techniques: a tied embedding, two blocks that mix over the past,
// a head.
//
// Shapes: B rows, T tokens, C width, V vocabulary.

#pragma once

#include <memory>

#include "saturn/train/model.h"

namespace saturn::testing {

struct TinySizes {
  std::int64_t vocabulary = 64;
  std::int64_t width = 48;
  std::int64_t num_blocks = 2;
  double dropout = 0.0;
};

std::unique_ptr<train::Model> make_tiny_model(const TinySizes& sizes);

}  // namespace saturn::testing

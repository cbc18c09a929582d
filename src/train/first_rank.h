// What ranks find out by themselves and must do alike.

#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "saturn/train/communicator.h"

namespace saturn::train {

/// What rank 0 has as `value`, on every rank; a collective.
inline std::int64_t of_first_rank(std::int64_t value, Communicator& communicator) {
  at::Tensor shared = at::full({1}, value, at::kLong);
  communicator.broadcast(shared);
  return shared.item<std::int64_t>();
}

}  // namespace saturn::train

// Tensors of safetensors files into memory.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "saturn/base/result.h"
#include "saturn/formats/safetensors.h"

namespace saturn::train {

/// Whether `read_stored` reads tensors of `dtype`.
bool is_weight_dtype(formats::Dtype dtype);

/// Fills `out` (one-dimensional, contiguous, fp32, on the CPU) with the elements of `stored`, a tensor of
/// `files` in F32, F16, BF16 or F64, from `first_element` on.
Result<void> read_stored(const formats::Safetensors& files, const formats::StoredTensor& stored,
                         std::int64_t first_element, at::Tensor out);

}  // namespace saturn::train

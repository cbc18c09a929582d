// Data with something to learn, made on the spot.

#pragma once

#include <cstdint>
#include <memory>

#include "saturn/data/dataset.h"

namespace saturn::testing {

inline constexpr int kVocabulary = 64;
inline constexpr int kValidationSamples = 7;
inline constexpr int kClasses = 5;
inline constexpr int kImageSize = 16;

/// Tokens of a simple law: the next token is mostly a function of the last.
std::unique_ptr<data::Dataset> made_up_text(std::int64_t num_samples, std::int64_t length);

/// Grey images of kClasses patterns under noise.
std::unique_ptr<data::Dataset> made_up_images(std::int64_t num_samples);

}  // namespace saturn::testing

// JPEG and PNG files as pixels of 8 bits, through libjpeg-turbo and libpng.

#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "saturn/base/result.h"

namespace saturn::formats {

/// Rows from the top, pixels from the left, `channels` bytes each.
struct Image {
  int width = 0;
  int height = 0;
  int channels = 0;
  std::vector<unsigned char> pixels;
};

struct ImageWish {
  int channels = 3;   ///< 3: RGB; 1: grey
  int reduce_by = 1;  ///< 2, 4, 8: a JPEG is decoded at that part of its size, rounded up; a PNG is not
};

struct ImageSize {
  int width = 0;
  int height = 0;
};

/// Most pixels of an image that is decoded: what claims more is not decompressed.
inline constexpr std::int64_t kMostPixels = std::int64_t{1} << 26;

/// Decodes a whole file. Colours become what the wish says, as Pillow's `convert` does it: CMYK (Adobe's
/// inverted kind too) to RGB, 16 bits to their upper 8, palettes looked up, transparency left out.
///
/// Errors: Kind::input at `where`: neither JPEG nor PNG, damaged, cut off, or of more than kMostPixels
/// pixels.
Result<Image> decode_image(std::string_view file, const ImageWish& wish, const std::string& where);

/// What the header says; errors likewise.
Result<ImageSize> size_of_image(std::string_view file, const std::string& where);

}  // namespace saturn::formats

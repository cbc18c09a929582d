// Images and archives for tests, as other programs write them.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "saturn/formats/image.h"

namespace saturn::testing {

/// Smooth colours, so that JPEG keeps them nearly; every `seed` others.
formats::Image smooth_image(int width, int height, int channels, std::uint64_t seed = 1);

struct PngForm {
  int bits = 8;
  bool alpha = false;
  bool palette = false;  ///< the upper two bits of each of three channels
  bool interlaced = false;
};
std::string png_of(const formats::Image& image, const PngForm& form = {});

struct JpegForm {
  int quality = 95;
  bool inks = false;  ///< CMYK of four channels as Adobe writes it: 255 is no ink
  bool progressive = false;
};
std::string jpeg_of(const formats::Image& image, const JpegForm& form = {});

/// A PNG of one colour that claims any size; its pixels compress a thousandfold.
std::string flat_png(int width, int height);

struct TarEntry {
  std::string name;
  std::string content;
  char type = '0';
};

/// One entry with its header of POSIX and its padding.
std::string tar_entry(const TarEntry& entry);
/// A whole archive.
std::string tar_of(const std::vector<TarEntry>& entries);
/// Sets the sum of the header that begins at `at`.
void sign_tar_header(std::string& archive, std::size_t at);

}  // namespace saturn::testing

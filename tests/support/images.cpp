// Images through libjpeg-turbo and libpng; archives byte by byte.

#include "tests/support/images.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// After the C library's, whose types libjpeg's header expects to be there.
#include <jpeglib.h>
#include <png.h>

#include "saturn/base/check.h"
#include "saturn/base/random.h"

namespace saturn::testing {
namespace {

void append(png_structp png, png_bytep bytes, std::size_t size) {
  static_cast<std::string*>(png_get_io_ptr(png))->append(reinterpret_cast<const char*>(bytes), size);
}

/// Writes rows of `bytes`; `type` and `form.bits` say what they are.
std::string write_png(int width, int height, int type, const PngForm& form, std::string& bytes) {
  std::string file;
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, nullptr, nullptr);
  png_infop info = png_create_info_struct(png);
  SATURN_CHECK(setjmp(png_jmpbuf(png)) == 0, "a test's PNG can be written");
  png_set_write_fn(png, &file, &append, nullptr);
  png_set_IHDR(png, info, static_cast<png_uint_32>(width), static_cast<png_uint_32>(height), form.bits, type,
               form.interlaced ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
               PNG_FILTER_TYPE_DEFAULT);
  if (form.palette) {
    std::vector<png_color> colours;
    for (int i = 0; i < 64; ++i)
      colours.push_back({static_cast<png_byte>((i >> 4) * 85), static_cast<png_byte>((i >> 2 & 3) * 85),
                         static_cast<png_byte>((i & 3) * 85)});
    png_set_PLTE(png, info, colours.data(), static_cast<int>(colours.size()));
  }
  png_write_info(png, info);
  const std::size_t stride = png_get_rowbytes(png, info);
  std::vector<png_bytep> rows;
  for (int y = 0; y < height; ++y)
    rows.push_back(reinterpret_cast<png_bytep>(bytes.data()) + static_cast<std::size_t>(y) * stride);
  png_write_image(png, rows.data());
  png_write_end(png, info);
  png_destroy_write_struct(&png, &info);
  return file;
}

void put(std::string& header, std::size_t at, const std::string& text) {
  header.replace(at, text.size(), text);
}

std::string octal(std::uint64_t number, int digits) {
  char text[32];
  std::snprintf(text, sizeof text, "%0*llo", digits, static_cast<unsigned long long>(number));
  return text;
}

}  // namespace

formats::Image smooth_image(int width, int height, int channels, std::uint64_t seed) {
  formats::Image image{.width = width, .height = height, .channels = channels, .pixels = {}};
  Random random(seed);
  std::vector<double> phases;
  for (int c = 0; c < channels; ++c) phases.push_back(6.0 * random.uniform());
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < channels; ++c)
        image.pixels.push_back(
            static_cast<unsigned char>(127.5 + 120.0 * std::sin(phases[static_cast<std::size_t>(c)] +
                                                                3.0 * x / width + 2.0 * y / height)));
  return image;
}

std::string png_of(const formats::Image& image, const PngForm& form) {
  std::string bytes;
  const std::size_t count = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height);
  const auto channels = static_cast<std::size_t>(image.channels);
  for (std::size_t i = 0; i < count; ++i) {
    const unsigned char* const pixel = &image.pixels[i * channels];
    if (form.palette) {
      bytes += static_cast<char>((pixel[0] >> 6) << 4 | (pixel[1] >> 6) << 2 | pixel[2] >> 6);
      continue;
    }
    for (std::size_t c = 0; c < channels; ++c) {
      bytes += static_cast<char>(pixel[c]);
      if (form.bits == 16) bytes += static_cast<char>(i);  // a lower half that is not the upper one
    }
    if (form.alpha) bytes.append(static_cast<std::size_t>(form.bits / 8), static_cast<char>(i));
  }
  const int grey = form.alpha ? PNG_COLOR_TYPE_GRAY_ALPHA : PNG_COLOR_TYPE_GRAY;
  const int colour = form.alpha ? PNG_COLOR_TYPE_RGB_ALPHA : PNG_COLOR_TYPE_RGB;
  const int type = form.palette ? PNG_COLOR_TYPE_PALETTE : image.channels == 1 ? grey : colour;
  return write_png(image.width, image.height, type, form, bytes);
}

std::string flat_png(int width, int height) {
  std::string bytes((static_cast<std::size_t>(width) + 7) / 8 * static_cast<std::size_t>(height), '\0');
  return write_png(width, height, PNG_COLOR_TYPE_GRAY, {.bits = 1}, bytes);
}

std::string jpeg_of(const formats::Image& image, const JpegForm& form) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);  // ends the test on a fault
  jpeg_create_compress(&info);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &buffer, &size);
  info.image_width = static_cast<unsigned>(image.width);
  info.image_height = static_cast<unsigned>(image.height);
  info.input_components = image.channels;
  info.in_color_space = form.inks ? JCS_CMYK : image.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, form.quality, TRUE);
  if (form.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  std::vector<unsigned char> pixels = image.pixels;
  const std::size_t stride = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.channels);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row = &pixels[info.next_scanline * stride];
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  std::string file(reinterpret_cast<const char*>(buffer), size);
  std::free(buffer);
  return file;
}

void sign_tar_header(std::string& archive, std::size_t at) {
  archive.replace(at + 148, 8, 8, ' ');
  unsigned sum = 0;
  for (std::size_t i = 0; i < 512; ++i) sum += static_cast<unsigned char>(archive[at + i]);
  put(archive, at + 148, octal(sum, 6));
  archive[at + 154] = '\0';
}

std::string tar_entry(const TarEntry& entry) {
  SATURN_CHECK(entry.name.size() <= 100, "a test's short name");
  std::string bytes(512, '\0');
  put(bytes, 0, entry.name);
  put(bytes, 100, "0000644");
  put(bytes, 108, "0000000");
  put(bytes, 116, "0000000");
  put(bytes, 124, octal(entry.content.size(), 11));
  put(bytes, 136, "00000000000");
  bytes[156] = entry.type;
  put(bytes, 257,
      std::string("ustar\0"
                  "00",
                  8));
  sign_tar_header(bytes, 0);
  bytes += entry.content;
  bytes.resize((bytes.size() + 511) / 512 * 512, '\0');
  return bytes;
}

std::string tar_of(const std::vector<TarEntry>& entries) {
  std::string archive;
  for (const TarEntry& entry : entries) archive += tar_entry(entry);
  return archive + std::string(1024, '\0');
}

}  // namespace saturn::testing

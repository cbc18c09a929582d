// PNG through libpng.

#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstring>

#include "formats/image_kinds.h"

namespace saturn::formats {
namespace {

constexpr png_alloc_size_t kMostChunkBytes = 8U << 20;
constexpr std::int64_t kMostBytesOfByte = 1032;  // deflate's best
constexpr std::size_t kMostText = 200;

struct Reading {
  std::string_view file;
  std::size_t at = 0;
  char text[kMostText] = {};
};

void read_bytes(png_structp png, png_bytep into, std::size_t size) {
  auto* reading = static_cast<Reading*>(png_get_io_ptr(png));
  if (reading->file.size() - reading->at < size) png_error(png, "the file is cut off");
  std::memcpy(into, reading->file.data() + reading->at, size);
  reading->at += size;
}

[[noreturn]] void give_up(png_structp png, png_const_charp text) {
  auto* reading = static_cast<Reading*>(png_get_error_ptr(png));
  std::strncpy(reading->text, text, kMostText - 1);
  png_longjmp(png, 1);
}

void ignore_warning(png_structp, png_const_charp) {}

/// What the jump must not find half-made lives with the caller.
/// Only the size where `size_only`.
bool decode(png_structp png, png_infop info, bool size_only, Reading& reading, Image& image,
            std::vector<png_bytep>& rows) {
  if (setjmp(png_jmpbuf(png)) != 0) return false;
  png_set_read_fn(png, &reading, &read_bytes);
  png_set_user_limits(png, 1U << 20, 1U << 20);
  png_set_chunk_malloc_max(png, kMostChunkBytes);
  png_read_info(png, info);
  const std::int64_t width = png_get_image_width(png, info);
  const std::int64_t height = png_get_image_height(png, info);
  if (width * height > kMostPixels) png_error(png, "too many pixels");
  const std::int64_t num_bytes = static_cast<std::int64_t>(png_get_rowbytes(png, info)) * height;
  if (num_bytes / kMostBytesOfByte > static_cast<std::int64_t>(reading.file.size()))
    png_error(png, "more pixels than its bytes can hold");
  image.width = static_cast<int>(width);
  image.height = static_cast<int>(height);
  if (size_only) return true;
  const int type = png_get_color_type(png, info);
  if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(png);
  if (type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(png);
  png_set_strip_16(png);
  png_set_strip_alpha(png);
  (void)png_set_interlace_handling(png);
  png_read_update_info(png, info);
  image.channels = png_get_channels(png, info);
  const std::size_t stride = png_get_rowbytes(png, info);
  if (stride != static_cast<std::size_t>(image.width) * image.channels)
    png_error(png, "rows of another length");
  image.pixels.resize(stride * image.height);
  rows.resize(image.height);
  for (int y = 0; y < image.height; ++y) rows[y] = image.pixels.data() + y * stride;
  png_read_image(png, rows.data());
  png_read_end(png, nullptr);
  return true;
}

Result<Image> read_png(std::string_view file, bool size_only, const std::string& where) {
  Reading reading{.file = file};
  Image image;
  std::vector<png_bytep> rows;
  png_structp png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reading, &give_up, &ignore_warning);
  png_infop info = png == nullptr ? nullptr : png_create_info_struct(png);
  const bool good = info != nullptr && decode(png, info, size_only, reading, image, rows);
  png_destroy_read_struct(&png, &info, nullptr);
  if (good && (size_only || image.channels == 1 || image.channels == 3)) return image;
  return Diagnostic{.where = where,
                    .what = std::string("the PNG cannot be decoded: ") + reading.text,
                    .expected = "a whole image of at most 64 million pixels",
                    .fix = "replace the file, or remove it"};
}

}  // namespace

Result<Image> decode_png(std::string_view file, const std::string& where) {
  return read_png(file, /*size_only=*/false, where);
}

Result<ImageSize> size_of_png(std::string_view file, const std::string& where) {
  SATURN_TRY(const Image image, read_png(file, /*size_only=*/true, where));
  return ImageSize{image.width, image.height};
}

}  // namespace saturn::formats

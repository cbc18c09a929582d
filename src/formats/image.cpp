// Which decoder, and from its channels to those asked for.

#include "saturn/formats/image.h"

#include "formats/image_kinds.h"

namespace saturn::formats {
namespace {

/// ITU-R 601 in 16 bits, as Pillow's convert("L").
unsigned char luma(const unsigned char* rgb) {
  return static_cast<unsigned char>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

Image with_channels(Image image, int channels) {
  if (image.channels == channels) return image;
  const std::size_t count = static_cast<std::size_t>(image.width) * image.height;
  std::vector<unsigned char> pixels(count * channels);
  for (std::size_t i = 0; i < count; ++i) {
    if (channels == 1) {
      pixels[i] = luma(&image.pixels[3 * i]);
    } else {
      for (int c = 0; c < 3; ++c) pixels[3 * i + c] = image.pixels[i];
    }
  }
  image.channels = channels;
  image.pixels = std::move(pixels);
  return image;
}

enum class Kind { jpeg, png, other };

Kind kind_of(std::string_view file) {
  if (file.starts_with("\xff\xd8\xff")) return Kind::jpeg;
  return file.starts_with("\x89PNG\r\n\x1a\n") ? Kind::png : Kind::other;
}

Diagnostic no_image(std::string_view file, const std::string& where) {
  return {.where = where,
          .what = file.empty() ? "the file is empty" : "this is neither a JPEG nor a PNG",
          .expected = "an image that begins as one",
          .fix = "replace the file, or remove it"};
}

}  // namespace

Result<Image> decode_image(std::string_view file, const ImageWish& wish, const std::string& where) {
  const Kind kind = kind_of(file);
  if (kind == Kind::other) return no_image(file, where);
  SATURN_TRY(Image image,
             kind == Kind::jpeg ? decode_jpeg(file, wish.reduce_by, where) : decode_png(file, where));
  return with_channels(std::move(image), wish.channels);
}

Result<ImageSize> size_of_image(std::string_view file, const std::string& where) {
  const Kind kind = kind_of(file);
  if (kind == Kind::other) return no_image(file, where);
  return kind == Kind::jpeg ? size_of_jpeg(file, where) : size_of_png(file, where);
}

}  // namespace saturn::formats

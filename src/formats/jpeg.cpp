// JPEG through libjpeg-turbo.

#include <algorithm>
#include <csetjmp>
#include <cstddef>
#include <cstdio>

// After the C library's, whose types libjpeg's header expects to be there.
#include <jerror.h>
#include <jpeglib.h>

#include "formats/image_kinds.h"

namespace saturn::formats {
namespace {

constexpr long kMostDecoderBytes = 512L << 20;
constexpr std::int64_t kMostPixelsOfByte = 1024;  // a block of 64 takes at least a bit
constexpr int kMostScans = 500;                   // a progressive file may repeat itself at will

/// libjpeg's own struct first, so that its callbacks find the rest behind it.
struct Errors {
  jpeg_error_mgr base;
  std::jmp_buf jump;
  char text[JMSG_LENGTH_MAX];
};

struct Progress {
  jpeg_progress_mgr base;
};

[[noreturn]] void give_up(j_common_ptr info) {
  auto* errors = reinterpret_cast<Errors*>(info->err);
  errors->base.format_message(info, errors->text);
  std::longjmp(errors->jump, 1);
}

/// Decoders repair what is odd; what is cut off is not an image.
void take_warning(j_common_ptr info, int level) {
  if (level < 0 && info->err->msg_code == JWRN_JPEG_EOF) give_up(info);
}

void count_scans(j_common_ptr info) {
  if (!info->is_decompressor) return;
  const auto* decoder = reinterpret_cast<j_decompress_ptr>(info);
  if (decoder->input_scan_number <= kMostScans) return;
  info->err->msg_code = JERR_EOI_EXPECTED;
  give_up(info);
}

unsigned char divided_by_255(unsigned product) {
  const unsigned rounded = product + 128;
  return static_cast<unsigned char>((rounded + (rounded >> 8)) >> 8);
}

/// One row of CMYK as Adobe stores it, 255 for no ink.
void to_rgb(const unsigned char* cmyk, unsigned char* rgb, int width) {
  for (int x = 0; x < width; ++x, cmyk += 4, rgb += 3)
    for (int c = 0; c < 3; ++c) rgb[c] = divided_by_255(unsigned{cmyk[c]} * cmyk[3]);
}

/// What the jump must not find half-made lives in the caller's `pixels` and `row`.
/// Only the size where `size_only`.
bool decode(std::string_view file, int reduce_by, bool size_only, Errors& errors, Image& image,
            std::vector<unsigned char>& row) {
  jpeg_decompress_struct info{};
  Progress progress{};
  info.err = jpeg_std_error(&errors.base);
  errors.base.error_exit = &give_up;
  errors.base.emit_message = &take_warning;
  if (setjmp(errors.jump) != 0) {
    jpeg_destroy_decompress(&info);
    return false;
  }
  jpeg_create_decompress(&info);
  info.mem->max_memory_to_use = kMostDecoderBytes;
  progress.base.progress_monitor = &count_scans;
  info.progress = &progress.base;
  jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(file.data()), file.size());
  jpeg_read_header(&info, TRUE);
  const std::int64_t num_pixels = static_cast<std::int64_t>(info.image_width) * info.image_height;
  if (num_pixels > std::min(kMostPixels, kMostPixelsOfByte * static_cast<std::int64_t>(file.size()))) {
    std::snprintf(errors.text, sizeof errors.text, "%u x %u pixels cannot lie in %zu bytes, or are too many",
                  info.image_width, info.image_height, file.size());
    std::longjmp(errors.jump, 1);
  }
  image.width = static_cast<int>(info.image_width);
  image.height = static_cast<int>(info.image_height);
  if (size_only) {
    jpeg_destroy_decompress(&info);
    return true;
  }
  const bool inks = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
  const bool grey = info.jpeg_color_space == JCS_GRAYSCALE;
  info.out_color_space = inks ? JCS_CMYK : grey ? JCS_GRAYSCALE : JCS_RGB;
  info.scale_num = 1;
  info.scale_denom = static_cast<unsigned>(reduce_by);
  jpeg_start_decompress(&info);
  image.width = static_cast<int>(info.output_width);
  image.height = static_cast<int>(info.output_height);
  image.channels = grey ? 1 : 3;
  const std::size_t stride = static_cast<std::size_t>(image.width) * image.channels;
  image.pixels.resize(stride * image.height);
  if (inks) row.resize(static_cast<std::size_t>(image.width) * 4);
  while (info.output_scanline < info.output_height) {
    unsigned char* const into = image.pixels.data() + info.output_scanline * stride;
    JSAMPROW target = inks ? row.data() : into;
    jpeg_read_scanlines(&info, &target, 1);
    if (inks) to_rgb(row.data(), into, image.width);
  }
  jpeg_finish_decompress(&info);
  jpeg_destroy_decompress(&info);
  return true;
}

Diagnostic fault(const std::string& where, const Errors& errors) {
  return {.where = where,
          .what = std::string("the JPEG cannot be decoded: ") + errors.text,
          .expected = "a whole image of at most 64 million pixels",
          .fix = "replace the file, or remove it"};
}

}  // namespace

Result<Image> decode_jpeg(std::string_view file, int reduce_by, const std::string& where) {
  Errors errors{};
  Image image;
  std::vector<unsigned char> row;
  if (decode(file, reduce_by, /*size_only=*/false, errors, image, row)) return image;
  return fault(where, errors);
}

Result<ImageSize> size_of_jpeg(std::string_view file, const std::string& where) {
  Errors errors{};
  Image image;
  std::vector<unsigned char> row;
  if (decode(file, 1, /*size_only=*/true, errors, image, row)) return ImageSize{image.width, image.height};
  return fault(where, errors);
}

}  // namespace saturn::formats

// Decoding what libjpeg and libpng write, and refusing what is damaged, cut off or too large.

#include "saturn/formats/image.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "saturn/base/random.h"
#include "tests/support/images.h"

namespace saturn {
namespace {

using formats::decode_image;
using formats::Image;
using testing::flat_png;
using testing::jpeg_of;
using testing::png_of;
using testing::smooth_image;

Image decoded(const std::string& file, const formats::ImageWish& wish = {}) {
  Result<Image> image = decode_image(file, wish, "a.jpg");
  REQUIRE_MESSAGE(image.ok(), to_text(image.faults()));
  CHECK(image->pixels.size() == static_cast<std::size_t>(image->width) *
                                    static_cast<std::size_t>(image->height) *
                                    static_cast<std::size_t>(image->channels));
  CHECK(image->channels == wish.channels);
  return *std::move(image);
}

/// What is wrong with `file`; it is the same for its size where that is refused too.
std::string fault_of(const std::string& file) {
  const Result<Image> image = decode_image(file, {}, "a.jpg");
  if (image.ok()) return "none";
  const Diagnostic& fault = image.faults().front();
  CHECK(fault.where == "a.jpg");
  CHECK_FALSE(fault.expected.empty());
  CHECK_FALSE(fault.fix.empty());
  return fault.what;
}

int largest_difference(const std::vector<unsigned char>& a, const std::vector<unsigned char>& b) {
  REQUIRE(a.size() == b.size());
  int largest = 0;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::abs(int{a[i]} - int{b[i]}));
  return largest;
}

TEST_SUITE("formats") {
  TEST_CASE("formats/image: a PNG gives its pixels whatever its form") {
    const Image colour = smooth_image(13, 7, 3), grey = smooth_image(13, 7, 1);
    CHECK(decoded(png_of(colour)).pixels == colour.pixels);
    CHECK(decoded(png_of(colour, {.interlaced = true})).pixels == colour.pixels);
    CHECK(decoded(png_of(colour, {.bits = 16})).pixels == colour.pixels);
    CHECK(decoded(png_of(colour, {.alpha = true})).pixels == colour.pixels);
    CHECK(decoded(png_of(colour, {.bits = 16, .alpha = true, .interlaced = true})).pixels == colour.pixels);
    CHECK(decoded(png_of(grey), {.channels = 1}).pixels == grey.pixels);
    CHECK(decoded(png_of(grey, {.bits = 16, .alpha = true}), {.channels = 1}).pixels == grey.pixels);
    std::vector<unsigned char> steps = colour.pixels;
    for (unsigned char& value : steps) value = static_cast<unsigned char>((value >> 6) * 85);
    CHECK(decoded(png_of(colour, {.palette = true})).pixels == steps);
    CHECK(decoded(flat_png(9, 3), {.channels = 1}).pixels == std::vector<unsigned char>(27, 0));
  }

  TEST_CASE("formats/image: colours and grey become each other as Pillow makes them") {
    // PIL.Image.fromarray(...).convert("L") of these four colours.
    const Image four{
        .width = 4, .height = 1, .channels = 3, .pixels = {255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 200, 30}};
    CHECK(decoded(png_of(four), {.channels = 1}).pixels == std::vector<unsigned char>{76, 150, 29, 124});
    const Image two{.width = 2, .height = 1, .channels = 1, .pixels = {7, 9}};
    CHECK(decoded(png_of(two)).pixels == std::vector<unsigned char>{7, 7, 7, 9, 9, 9});
  }

  TEST_CASE("formats/image: a JPEG gives nearly the pixels it was made of") {
    const Image colour = smooth_image(61, 40, 3), grey = smooth_image(61, 40, 1);
    CHECK(largest_difference(decoded(jpeg_of(colour)).pixels, colour.pixels) < 12);
    CHECK(largest_difference(decoded(jpeg_of(colour, {.progressive = true})).pixels, colour.pixels) < 12);
    CHECK(largest_difference(decoded(jpeg_of(grey), {.channels = 1}).pixels, grey.pixels) < 6);
    const Image reduced = decoded(jpeg_of(grey), {.channels = 1, .reduce_by = 4});
    CHECK(reduced.width == 16);
    CHECK(reduced.height == 10);
    CHECK(decoded(png_of(grey), {.channels = 1, .reduce_by = 4}).width == 61);
  }

  TEST_CASE("formats/image: the four inks of a JPEG become three colours") {
    const Image inks = smooth_image(32, 24, 4);
    std::vector<unsigned char> want;
    for (std::size_t i = 0; i < inks.pixels.size(); i += 4)
      for (std::size_t c = 0; c < 3; ++c)
        want.push_back(static_cast<unsigned char>((inks.pixels[i + c] * inks.pixels[i + 3] + 127) / 255));
    CHECK(largest_difference(decoded(jpeg_of(inks, {.inks = true})).pixels, want) < 12);
  }

  TEST_CASE("formats/image: the size is what the header says") {
    for (const std::string& file : {png_of(smooth_image(13, 7, 3)), jpeg_of(smooth_image(13, 7, 1))}) {
      const auto size = formats::size_of_image(file, "a");
      REQUIRE(size.ok());
      CHECK(size->width == 13);
      CHECK(size->height == 7);
    }
    CHECK_FALSE(formats::size_of_image("GIF89a", "a").ok());
  }

  TEST_CASE("formats/image: every cut of a file is a fault") {
    for (const std::string& file : {png_of(smooth_image(20, 10, 3)), jpeg_of(smooth_image(20, 10, 3)),
                                    jpeg_of(smooth_image(20, 10, 3), {.progressive = true}),
                                    png_of(smooth_image(20, 10, 1), {.bits = 16, .interlaced = true})}) {
      for (std::size_t size = 0; size < file.size(); ++size) {
        CAPTURE(size);
        CAPTURE(file.size());
        CHECK(fault_of(file.substr(0, size)) != "none");
      }
    }
  }

  TEST_CASE("formats/image: flipped bits give a fault or an image of bounded size") {
    Random random(7);
    for (const std::string& file : {png_of(smooth_image(20, 10, 3)), jpeg_of(smooth_image(20, 10, 3)),
                                    jpeg_of(smooth_image(20, 10, 3), {.progressive = true})}) {
      int num_faults = 0;
      for (int i = 0; i < 2000; ++i) {
        std::string flipped = file;
        flipped[random.below(file.size())] ^= static_cast<char>(1 << random.below(8));
        const Result<Image> image = decode_image(flipped, {}, "a");
        num_faults += image.ok() ? 0 : 1;
        if (image.ok()) CHECK(image->pixels.size() <= 3 * static_cast<std::size_t>(formats::kMostPixels));
      }
      CHECK(num_faults > 100);
    }
  }

  TEST_CASE("formats/image: what claims to be huge is refused before it is decompressed") {
    // 81 million pixels in a few kilobytes.
    const std::string png = flat_png(9000, 9000);
    CHECK(png.size() < 100000);
    CHECK(fault_of(png).find("too many pixels") != std::string::npos);
    std::string cut_png = flat_png(8000, 8000);
    cut_png.resize(200);  // the header stays
    CHECK(fault_of(cut_png).find("more pixels than its bytes can hold") != std::string::npos);
    std::string jpeg = jpeg_of(smooth_image(16, 16, 3));
    const std::size_t frame = jpeg.find("\xff\xc0");
    REQUIRE(frame != std::string::npos);
    for (const std::string sides : {"\xff\xdc\xff\xdc", "\x1f\x40\x1f\x40"}) {  // 65500 and 8000, twice
      jpeg.replace(frame + 5, 4, sides);
      CHECK(fault_of(jpeg).find("pixels cannot lie in") != std::string::npos);
    }
  }

  TEST_CASE("formats/image: what is no image is named") {
    CHECK(fault_of("") == "the file is empty");
    for (const std::string file : {"GIF89a", "\xff\xd8", "\x89PNG", "<html>"})
      CHECK(fault_of(file) == "this is neither a JPEG nor a PNG");
    CHECK(fault_of("\xff\xd8\xff").starts_with("the JPEG cannot be decoded: "));
    CHECK(fault_of("\x89PNG\r\n\x1a\n") == "the PNG cannot be decoded: the file is cut off");
  }
}

}  // namespace
}  // namespace saturn

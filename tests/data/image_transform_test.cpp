// Cutting and resizing against Pillow and torchvision.

#include "data/image_transform.h"

#include <cmath>
#include <vector>

#include "tests/support/torch_doctest.h"

namespace saturn::data {
namespace {

using formats::Image;

/// 7 x 5: (37 x + 53 y + 11 (x y mod 7)) mod 256; of three channels also its inverse and its half.
Image pattern(int channels) {
  Image image{.width = 7, .height = 5, .channels = channels, .pixels = {}};
  for (int y = 0; y < 5; ++y)
    for (int x = 0; x < 7; ++x) {
      const auto value = static_cast<unsigned char>((37 * x + 53 * y + 11 * (x * y % 7)) % 256);
      image.pixels.push_back(value);
      if (channels == 3) {
        image.pixels.push_back(static_cast<unsigned char>(255 - value));
        image.pixels.push_back(value / 2);
      }
    }
  return image;
}

std::vector<int> pixels_of(const Image& image) {
  return {image.pixels.begin(), image.pixels.end()};
}

}  // namespace

TEST_SUITE("data") {
  // Image.fromarray(pattern).resize(size, BILINEAR) of Pillow 12, cropped before where a part is taken.
  TEST_CASE("data/image_transform: resizing gives Pillow's pixels to the bit") {
    const Image grey = pattern(1);
    CHECK(pixels_of(resized(grey, {0, 0, 7, 5}, {3, 2})) == std::vector<int>{92, 131, 124, 139, 88, 134});
    CHECK(pixels_of(resized(grey, {0, 0, 7, 5}, {9, 6})) ==
          std::vector<int>{0,   25,  53,  82,  111, 140, 169, 197, 222, 40,  70,  105, 141, 176,
                           211, 139, 89,  119, 84,  120, 162, 172, 98,  105, 78,  73,  109, 128,
                           170, 172, 122, 31,  45,  67,  102, 145, 172, 178, 119, 46,  58,  99,
                           119, 144, 180, 212, 95,  39,  59,  122, 125, 171, 208, 211});
    CHECK(pixels_of(resized(grey, {1, 1, 5, 3}, {4, 4})) ==
          std::vector<int>{113, 169, 225, 89, 155, 152, 95, 67, 181, 104, 40, 71, 183, 40, 77, 101});
    CHECK(pixels_of(resized(pattern(3), {0, 0, 7, 5}, {2, 3})) ==
          std::vector<int>{89, 166, 44, 151, 104, 76, 131, 124, 65, 91, 164, 45, 109, 146, 54, 136, 119, 68});
    CHECK(pixels_of(resized(grey, {0, 0, 7, 5}, {7, 5})) == pixels_of(grey));
  }

  // The same with BICUBIC.
  TEST_CASE("data/image_transform: bicubic resizing gives Pillow's pixels to the bit") {
    const Image grey = pattern(1);
    const auto cubic = [](const Image& image, const Rectangle& part, formats::ImageSize size) {
      return pixels_of(resized(image, part, size, Interpolation::bicubic));
    };
    CHECK(cubic(grey, {0, 0, 7, 5}, {3, 2}) == std::vector<int>{86, 136, 123, 144, 79, 136});
    CHECK(cubic(grey, {0, 0, 7, 5}, {9, 6}) ==
          std::vector<int>{0,   20,  50,  79,  108, 136, 171, 206, 229, 36,  65,  101, 140, 190,
                           244, 142, 70,  114, 81,  116, 179, 196, 98,  102, 66,  60,  103, 124,
                           184, 197, 129, 14,  21,  53,  102, 148, 174, 197, 121, 23,  56,  106,
                           121, 144, 184, 222, 88,  17,  56,  125, 122, 175, 217, 212});
    CHECK(cubic(grey, {1, 1, 5, 3}, {4, 4}) ==
          std::vector<int>{104, 167, 248, 80, 156, 165, 85, 61, 194, 105, 15, 72, 194, 24, 83, 107});
    CHECK(cubic(pattern(3), {0, 0, 7, 5}, {2, 3}) ==
          std::vector<int>{84, 171, 42, 158, 97, 78, 137, 118, 68, 84, 171, 42, 106, 149, 53, 136, 119, 68});
    CHECK(cubic(grey, {0, 0, 7, 5}, {7, 5}) == pixels_of(grey));
    CHECK(interpolation_named(batch::ImageSettings{}.interpolation) == Interpolation::bilinear);
    CHECK(interpolation_named("bicubic") == Interpolation::bicubic);
  }

  TEST_CASE("data/image_transform: the centre is torchvision's Resize and CenterCrop") {
    batch::ImageSettings settings;
    settings.size = 224;
    settings.resize = 256;
    const CentreCrop wide = centre_crop({500, 375}, settings);
    CHECK(wide.whole.width == 341);
    CHECK(wide.whole.height == 256);
    CHECK(wide.square.left == 58);  // round(117 / 2) of Python
    CHECK(wide.square.top == 16);
    const CentreCrop tall = centre_crop({375, 500}, settings);
    CHECK(tall.whole.height == 341);
    CHECK(tall.square.left == 16);
    settings.resize = 0;
    const CentreCrop small = centre_crop({8, 8}, settings);
    CHECK(small.whole.width == 224);
    CHECK(small.square.left == 0);
    settings.size = 1;  // a shape of 64 to 1 still has its shorter side
    CHECK(centre_crop({64, 1}, settings).whole.width == 64);
  }

  TEST_CASE("data/image_transform: random crops lie within the image and have the area and shape asked for") {
    double smallest = 1.0, largest = 0.0, mean = 0.0;
    constexpr int kDraws = 4000;
    for (int i = 0; i < kDraws; ++i) {
      Random random(static_cast<std::uint64_t>(i));
      const Rectangle crop = random_crop(random, {400, 300}, 0.08, 1.0);
      REQUIRE(crop.left >= 0);
      REQUIRE(crop.top >= 0);
      REQUIRE(crop.width > 0);
      REQUIRE(crop.height > 0);
      REQUIRE(crop.left + crop.width <= 400);
      REQUIRE(crop.top + crop.height <= 300);
      const double area = crop.width * crop.height / 120000.0;
      const double shape = static_cast<double>(crop.width) / crop.height;
      CHECK(shape > 0.73);
      CHECK(shape < 1.36);
      smallest = std::min(smallest, area);
      largest = std::max(largest, area);
      mean += area / kDraws;
    }
    CHECK(smallest > 0.078);
    CHECK(smallest < 0.1);
    CHECK(largest > 0.95);
    CHECK(std::abs(mean - 0.435) < 0.02);  // as torchvision draws them: large ones often do not fit
    // Where no draw can fit: the centre, with the nearest shape.
    Random random(1);
    const Rectangle strip = random_crop(random, {1000, 10}, 0.9, 1.0);
    CHECK(strip.height == 10);
    CHECK(strip.width == 13);
    CHECK(strip.left == 493);
  }

  TEST_CASE("data/image_transform: pixels are scaled and normalised channel by channel") {
    const Image image{.width = 2, .height = 1, .channels = 3, .pixels = {0, 51, 102, 153, 204, 255}};
    batch::ImageSettings settings;
    settings.mean = {0.5, 0.25, 0.0};
    settings.deviation = {0.5, 0.25, 1.0};
    std::vector<float> values(6);
    normalise(image, {0, 0, 2, 1}, false, settings, values.data());
    const std::vector<double> want = {-1.0, 0.2, -0.2, 2.2, 0.4, 1.0};
    for (std::size_t i = 0; i < want.size(); ++i) CHECK(values[i] == doctest::Approx(want[i]));
    normalise(image, {0, 0, 2, 1}, true, settings, values.data());
    CHECK(values[0] == doctest::Approx(0.2));
    CHECK(values[1] == doctest::Approx(-1.0));
  }
}

}  // namespace saturn::data

// Cutting, resizing and normalising images.
//
// Source: torchvision.transforms (RandomResizedCrop, Resize, CenterCrop) on Pillow images; Pillow's
// Resample.c before version 13, which now and then takes the columns first and so rounds otherwise.

#include "data/image_transform.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "saturn/base/check.h"

namespace saturn::data {
namespace {

using formats::Image;
using formats::ImageSize;

constexpr int kPrecisionBits = 32 - 8 - 2;

/// For each pixel of one output line the input pixels under it and their weights, which add up to one.
struct Weights {
  int most = 0;  ///< weights of a pixel
  std::vector<int> first, count;
  std::vector<int> weights;  ///< `most` for each pixel, in fixed point
};

/// The weight of a pixel at `distance` (at least 0) from the middle, in pixels of the smaller image.
double filter(Interpolation interpolation, double distance) {
  if (interpolation == Interpolation::bilinear) return std::max(0.0, 1.0 - distance);
  constexpr double kSharpness = -0.5;
  if (distance < 1.0) return ((kSharpness + 2.0) * distance - (kSharpness + 3.0)) * distance * distance + 1.0;
  if (distance < 2.0) return (((distance - 5.0) * distance + 8.0) * distance - 4.0) * kSharpness;
  return 0.0;
}

Weights weights_of(int in_size, int out_size, Interpolation interpolation) {
  const double scale = static_cast<double>(in_size) / out_size;
  const double stretch = std::max(scale, 1.0);
  const double support = stretch * (interpolation == Interpolation::bilinear ? 1.0 : 2.0);
  Weights all;
  all.most = static_cast<int>(std::ceil(support)) * 2 + 1;
  all.weights.resize(static_cast<std::size_t>(all.most) * out_size);
  std::vector<double> exact(all.most);
  for (int at = 0; at < out_size; ++at) {
    const double centre = (at + 0.5) * scale;
    const int first = std::max(0, static_cast<int>(centre - support + 0.5));
    const int count = std::min(in_size, static_cast<int>(centre + support + 0.5)) - first;
    double sum = 0.0;
    for (int i = 0; i < count; ++i) {
      exact[i] = filter(interpolation, std::abs((i + first - centre + 0.5) / stretch));
      sum += exact[i];
    }
    for (int i = 0; i < count; ++i) {
      const double weight = sum != 0.0 ? exact[i] / sum : exact[i];
      all.weights[static_cast<std::size_t>(at) * all.most + i] =
          static_cast<int>((weight < 0.0 ? -0.5 : 0.5) + weight * (1 << kPrecisionBits));
    }
    all.first.push_back(first);
    all.count.push_back(count);
  }
  return all;
}

unsigned char rounded(int sum) {
  return static_cast<unsigned char>(std::clamp(sum >> kPrecisionBits, 0, 255));
}

template <int kChannels>
void resize_row(const unsigned char* from, const Weights& weights, unsigned char* into) {
  for (std::size_t at = 0; at < weights.first.size(); ++at, into += kChannels) {
    const int* weight = &weights.weights[at * weights.most];
    const unsigned char* pixel = from + static_cast<std::size_t>(weights.first[at]) * kChannels;
    std::array<int, kChannels> sums;
    sums.fill(1 << (kPrecisionBits - 1));
    for (int i = 0; i < weights.count[at]; ++i, pixel += kChannels)
      for (int c = 0; c < kChannels; ++c) sums[c] += pixel[c] * weight[i];
    for (int c = 0; c < kChannels; ++c) into[c] = rounded(sums[c]);
  }
}

}  // namespace

Rectangle random_crop(Random& random, ImageSize size, double least_area, double most_area) {
  const double area = static_cast<double>(size.width) * size.height;
  const double narrowest = std::log(3.0 / 4.0), widest = std::log(4.0 / 3.0);
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double target = area * (least_area + (most_area - least_area) * random.uniform());
    const double shape = std::exp(narrowest + (widest - narrowest) * random.uniform());
    const int width = static_cast<int>(std::lround(std::sqrt(target * shape)));
    const int height = static_cast<int>(std::lround(std::sqrt(target / shape)));
    if (width <= 0 || height <= 0 || width > size.width || height > size.height) continue;
    const int top = static_cast<int>(random.below(static_cast<std::uint64_t>(size.height - height) + 1));
    const int left = static_cast<int>(random.below(static_cast<std::uint64_t>(size.width - width) + 1));
    return {left, top, width, height};
  }
  int width = size.width, height = size.height;
  const double shape = static_cast<double>(width) / height;
  if (shape < 3.0 / 4.0) height = std::max(1, static_cast<int>(std::lround(width / (3.0 / 4.0))));
  if (shape > 4.0 / 3.0) width = std::max(1, static_cast<int>(std::lround(height * (4.0 / 3.0))));
  return {(size.width - width) / 2, (size.height - height) / 2, width, height};
}

Interpolation interpolation_named(const std::string& name) {
  return name == "bicubic" ? Interpolation::bicubic : Interpolation::bilinear;
}

Image resized(const Image& image, const Rectangle& part, ImageSize size, Interpolation interpolation) {
  SATURN_CHECK(part.left >= 0 && part.top >= 0 && part.left + part.width <= image.width &&
                   part.top + part.height <= image.height && part.width > 0 && part.height > 0,
               "a piece lies in its image");
  const int channels = image.channels;
  const std::size_t stride = static_cast<std::size_t>(image.width) * channels;
  const std::size_t row = static_cast<std::size_t>(size.width) * channels;
  const unsigned char* const first =
      image.pixels.data() + part.top * stride + static_cast<std::size_t>(part.left) * channels;

  // Along the rows, then along the columns, rounded in between.
  std::vector<unsigned char> narrowed(row * part.height);
  if (part.width == size.width) {
    for (int y = 0; y < part.height; ++y) std::copy_n(first + y * stride, row, &narrowed[y * row]);
  } else {
    const Weights weights = weights_of(part.width, size.width, interpolation);
    for (int y = 0; y < part.height; ++y) {
      if (channels == 1)
        resize_row<1>(first + y * stride, weights, &narrowed[y * row]);
      else
        resize_row<3>(first + y * stride, weights, &narrowed[y * row]);
    }
  }
  Image result{.width = size.width, .height = size.height, .channels = channels, .pixels = {}};
  if (part.height == size.height) {
    result.pixels = std::move(narrowed);
    return result;
  }
  const Weights weights = weights_of(part.height, size.height, interpolation);
  result.pixels.resize(row * size.height);
  std::vector<int> sums(row);
  for (int y = 0; y < size.height; ++y) {
    std::fill(sums.begin(), sums.end(), 1 << (kPrecisionBits - 1));
    for (int i = 0; i < weights.count[y]; ++i) {
      const int weight = weights.weights[static_cast<std::size_t>(y) * weights.most + i];
      const unsigned char* from = &narrowed[(static_cast<std::size_t>(weights.first[y]) + i) * row];
      for (std::size_t x = 0; x < row; ++x) sums[x] += from[x] * weight;
    }
    for (std::size_t x = 0; x < row; ++x) result.pixels[y * row + x] = rounded(sums[x]);
  }
  return result;
}

CentreCrop centre_crop(ImageSize size, const batch::ImageSettings& settings) {
  const int shorter = settings.resize != 0 ? settings.resize : settings.size;
  const auto longer = [&](int of_long, int of_short) {
    return std::max(shorter, static_cast<int>(static_cast<std::int64_t>(shorter) * of_long / of_short));
  };
  CentreCrop crop;
  crop.whole = size.width <= size.height ? ImageSize{shorter, longer(size.height, size.width)}
                                         : ImageSize{longer(size.width, size.height), shorter};
  // Halves go to the even neighbour, as Python rounds.
  const auto middle = [&](int whole) {
    return static_cast<int>(std::nearbyint((whole - settings.size) / 2.0));
  };
  crop.square = {middle(crop.whole.width), middle(crop.whole.height), settings.size, settings.size};
  return crop;
}

void normalise(const Image& image, const Rectangle& square, bool mirrored,
               const batch::ImageSettings& settings, float* into) {
  for (int c = 0; c < image.channels; ++c) {
    std::array<float, 256> value{};
    for (int i = 0; i < 256; ++i) {
      const float scaled = static_cast<float>(i) / 255.0F;
      value[i] = (scaled - static_cast<float>(settings.mean[c])) / static_cast<float>(settings.deviation[c]);
    }
    for (int y = 0; y < square.height; ++y) {
      const unsigned char* row =
          &image.pixels[(static_cast<std::size_t>(square.top + y) * image.width + square.left) *
                            image.channels +
                        c];
      for (int x = 0; x < square.width; ++x) {
        const int from = mirrored ? square.width - 1 - x : x;
        *into++ = value[row[static_cast<std::size_t>(from) * image.channels]];
      }
    }
  }
}

}  // namespace saturn::data

// From a decoded image to the square that a model reads: where it is cut, and how the piece is resized.

#pragma once

#include <cstdint>
#include <string>

#include "saturn/base/random.h"
#include "saturn/batch/batch.h"
#include "saturn/formats/image.h"

namespace saturn::data {

/// A rectangle of an image, in whole pixels.
struct Rectangle {
  int left = 0;
  int top = 0;
  int width = 0;
  int height = 0;
};

/// A piece of random area and shape (3:4 to 4:3), as torchvision's RandomResizedCrop draws it; the centre
/// where ten draws did not fit.
Rectangle random_crop(Random& random, formats::ImageSize size, double least_area, double most_area);

enum class Interpolation { bilinear, bicubic };
/// Of ImageSettings::interpolation, which the reader of batches has checked.
Interpolation interpolation_named(const std::string& name);

/// `part` of `image` as an image of `size`: over the area that a pixel covers, bit by bit as Pillow does it.
formats::Image resized(const formats::Image& image, const Rectangle& part, formats::ImageSize size,
                       Interpolation interpolation = Interpolation::bilinear);

/// How validation brings an image to its model: the size of the whole and the square that is then cut from
/// it.
struct CentreCrop {
  formats::ImageSize whole;
  Rectangle square;
};
CentreCrop centre_crop(formats::ImageSize size, const batch::ImageSettings& settings);

/// `square` of `image` into `into`, [channels, side, side]: values from 0 to 1, the mean taken off, divided
/// by the deviation.
void normalise(const formats::Image& image, const Rectangle& square, bool mirrored,
               const batch::ImageSettings& settings, float* into);

}  // namespace saturn::data

// Boxes of parameters and what every placement shares.

#include "saturn/train/placement.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "saturn/base/check.h"

namespace saturn::train {
namespace {

using Extents = std::vector<std::int64_t>;

std::int64_t product(const Extents& extents, std::size_t begin = 0) {
  std::int64_t count = 1;
  for (std::size_t i = begin; i < extents.size(); ++i) count *= extents[i];
  return count;
}

Extents row_major_strides(const Extents& sizes) {
  Extents strides(sizes.size(), 1);
  for (std::size_t i = sizes.size(); i-- > 1;) strides[i - 1] = strides[i] * sizes[i];
  return strides;
}

/// A rectangle of a tensor.
struct Rectangle {
  Extents begin, end;
};

/// The rectangles that elements [first, last) of a tensor make up, row-major: at most two for each dimension
/// but the first, and one.
void rectangles_of(const Extents& sizes, const Extents& strides, std::int64_t first, std::int64_t last,
                   std::size_t dimension, Rectangle fixed, std::vector<Rectangle>& into) {
  if (first >= last) return;
  if (dimension == sizes.size()) {
    into.push_back(fixed);
    return;
  }
  const std::int64_t stride = strides[dimension];
  const auto inside = [&](std::int64_t index, std::int64_t from, std::int64_t to) {
    Rectangle one = fixed;
    one.begin[dimension] = index;
    one.end[dimension] = index + 1;
    rectangles_of(sizes, strides, from, to, dimension + 1, std::move(one), into);
  };
  const std::int64_t first_index = first / stride, last_index = last / stride;
  const std::int64_t first_rest = first % stride, last_rest = last % stride;
  if (first_index == last_index) return inside(first_index, first_rest, last_rest);
  const std::int64_t first_full = first_rest == 0 ? first_index : first_index + 1;
  if (first_rest != 0) inside(first_index, first_rest, stride);
  if (first_full < last_index) {
    Rectangle rows = fixed;
    rows.begin[dimension] = first_full;
    rows.end[dimension] = last_index;
    into.push_back(std::move(rows));
  }
  if (last_rest != 0) inside(last_index, 0, last_rest);
}

}  // namespace

at::Tensor Box::of(const at::Tensor& held) const {
  SATURN_CHECK(held.is_contiguous(), "boxes lie in contiguous tensors");
  return held.as_strided(sizes, strides, held.storage_offset() + first);
}

std::int64_t Part::num_elements() const {
  return product(sizes);
}

Part whole_part(const Parameter& parameter) {
  return {.sizes = parameter.shape,
          .boxes = {{.offsets = Extents(parameter.shape.size(), 0),
                     .sizes = parameter.shape,
                     .strides = row_major_strides(parameter.shape)}}};
}

Part slice_part(const Parameter& parameter, TensorSlice slice) {
  if (parameter.split.dimension < 0 || slice.size == 1) return whole_part(parameter);
  const auto dimension = static_cast<std::size_t>(parameter.split.dimension);
  const std::int64_t num_blocks = parameter.split.num_blocks;
  SATURN_CHECK(dimension < parameter.shape.size() && parameter.shape[dimension] % num_blocks == 0,
               "a split is along a dimension that its blocks divide");
  const std::int64_t extent = parameter.shape[dimension] / num_blocks;
  const Range range = share_of(extent, slice);
  Part part{.sizes = parameter.shape, .boxes = {}};
  part.sizes[dimension] = num_blocks * range.count;
  const Extents strides = row_major_strides(part.sizes);
  for (std::int64_t block = 0; block < num_blocks; ++block) {
    Box box{.offsets = Extents(parameter.shape.size(), 0),
            .sizes = parameter.shape,
            .strides = strides,
            .first = block * range.count * strides[dimension]};
    box.offsets[dimension] = block * extent + range.first;
    box.sizes[dimension] = range.count;
    part.boxes.push_back(std::move(box));
  }
  return part;
}

Part range_of(const Part& part, std::int64_t first, std::int64_t count) {
  SATURN_CHECK(first >= 0 && count >= 0 && first + count <= part.num_elements(), "a range lies in its part");
  const Extents strides = row_major_strides(part.sizes);
  std::vector<Rectangle> rectangles;
  rectangles_of(part.sizes, strides, first, first + count, 0, {Extents(part.sizes.size(), 0), part.sizes},
                rectangles);
  Part range{.sizes = {count}, .boxes = {}};
  for (const Box& box : part.boxes) {
    for (const Rectangle& rectangle : rectangles) {
      Box common{.offsets = box.offsets, .sizes = box.sizes, .strides = strides, .first = -first};
      bool empty = false;
      for (std::size_t i = 0; i < strides.size(); ++i) {
        const std::int64_t of_box =
            box.first / strides[i] % part.sizes[i];  // where the box begins in the part
        const std::int64_t begin = std::max(of_box, rectangle.begin[i]);
        const std::int64_t end = std::min(of_box + box.sizes[i], rectangle.end[i]);
        empty = empty || begin >= end;
        common.offsets[i] += begin - of_box;
        common.sizes[i] = end - begin;
        common.first += begin * strides[i];
      }
      if (!empty) range.boxes.push_back(std::move(common));
    }
  }
  return range;
}

Result<void> read_part(WeightSource& source, const Parameter& parameter, const Part& part, at::Tensor held) {
  const Extents whole_strides = row_major_strides(parameter.shape);
  const std::size_t num_dimensions = parameter.shape.size();
  for (const Box& box : part.boxes) {
    // Dimensions from `full` on are whole in the box, so that elements of `full - 1` on are one run.
    std::size_t full = num_dimensions;
    while (full > 0 && box.sizes[full - 1] == parameter.shape[full - 1]) --full;
    const std::size_t outer = full == 0 ? 0 : full - 1;
    const std::int64_t run = product(box.sizes, outer);
    const Extents outer_sizes(box.sizes.begin(), box.sizes.begin() + static_cast<std::ptrdiff_t>(outer));
    at::Tensor into = box.of(held);
    at::Tensor read = into.is_contiguous() ? into.view({-1})
                                           : at::empty({box.sizes.empty() ? 1 : product(box.sizes)},
                                                       at::TensorOptions(at::kFloat));
    for (std::int64_t i = 0; i < product(outer_sizes); ++i) {
      std::int64_t first = 0, rest = i;
      for (std::size_t d = outer; d-- > 0;) {
        first += (box.offsets[d] + rest % box.sizes[d]) * whole_strides[d];
        rest /= box.sizes[d];
      }
      for (std::size_t d = outer; d < num_dimensions; ++d) first += box.offsets[d] * whole_strides[d];
      SATURN_TRY_VOID(source.read(parameter, first, read.narrow(0, i * run, run)));
    }
    if (!into.is_contiguous()) into.copy_(read.view(box.sizes));
  }
  return {};
}

Placement::Placement(PlacementContext context) : context_(context) {
  SATURN_CHECK(
      context_.first_layer < context_.end_layer && context_.end_layer <= context_.model.layers.size(),
      "a rank has layers of its model");
  for (std::size_t i = context_.first_layer; i < context_.end_layer; ++i)
    for (const ParameterPtr& parameter : layer(i).parameters())
      if (std::find(parameters_.begin(), parameters_.end(), parameter) == parameters_.end())
        parameters_.push_back(parameter);
}

void Placement::leave_primary(const ParameterPtr& parameter) {
  for (HeldTensor& held : held_)
    if (held.parameter == parameter) held.primary = false;
}

}  // namespace saturn::train

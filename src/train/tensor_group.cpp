// Slices of parameters, and the exchanges of the ranks that split a layer.

#include "saturn/train/tensor_group.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "saturn/base/check.h"

namespace saturn::train {
namespace {

constexpr std::int64_t kElementsAtOnce = std::int64_t{1}
                                         << 21;  // of whole rows that a column slice is cut from

bool is_split(const Parameter& parameter, TensorSlice slice) {
  return parameter.split.dimension >= 0 && slice.size > 1;
}

std::int64_t block_extent(const Parameter& parameter) {
  const auto dimension = static_cast<std::size_t>(parameter.split.dimension);
  SATURN_CHECK(dimension < parameter.shape.size() && parameter.split.num_blocks >= 1 &&
                   parameter.shape[dimension] % parameter.split.num_blocks == 0,
               "a split is along a dimension that its blocks divide");
  return parameter.shape[dimension] / parameter.split.num_blocks;
}

}  // namespace

Range share_of(std::int64_t extent, TensorSlice slice) {
  const std::int64_t first = extent * slice.rank / slice.size;
  return {first, extent * (slice.rank + 1) / slice.size - first};
}

std::vector<std::int64_t> local_shape(const Parameter& parameter, TensorSlice slice) {
  std::vector<std::int64_t> shape = parameter.shape;
  if (is_split(parameter, slice))
    shape[static_cast<std::size_t>(parameter.split.dimension)] =
        parameter.split.num_blocks * share_of(block_extent(parameter), slice).count;
  return shape;
}

at::Tensor SliceBox::of(const at::Tensor& local) const {
  at::Tensor view = local;
  for (std::size_t i = 0; i < shape.size(); ++i)
    view = view.narrow(static_cast<std::int64_t>(i), local_offsets[i], shape[i]);
  return view;
}

std::vector<SliceBox> boxes_of(const Parameter& parameter, TensorSlice slice) {
  const std::vector<std::int64_t> nowhere(parameter.shape.size(), 0);
  if (!is_split(parameter, slice)) return {{nowhere, nowhere, parameter.shape}};
  const auto dimension = static_cast<std::size_t>(parameter.split.dimension);
  const std::int64_t extent = block_extent(parameter);
  const Range range = share_of(extent, slice);
  std::vector<SliceBox> boxes;
  for (std::int64_t block = 0; block < parameter.split.num_blocks; ++block) {
    SliceBox box{nowhere, nowhere, parameter.shape};
    box.offsets[dimension] = block * extent + range.first;
    box.local_offsets[dimension] = block * range.count;
    box.shape[dimension] = range.count;
    boxes.push_back(std::move(box));
  }
  return boxes;
}

Result<void> read_slice(WeightSource& source, const Parameter& parameter, TensorSlice slice,
                        at::Tensor local) {
  SATURN_CHECK(local.is_contiguous() && local.sizes().vec() == local_shape(parameter, slice),
               "a slice is read into a tensor of its shape");
  if (!is_split(parameter, slice)) return source.read(parameter, 0, local.view({-1}));
  const std::vector<SliceBox> boxes = boxes_of(parameter, slice);
  const std::int64_t row = parameter.num_elements() / parameter.shape.front();
  if (parameter.split.dimension == 0) {
    for (const SliceBox& box : boxes)
      SATURN_TRY_VOID(source.read(parameter, box.offsets.front() * row, box.of(local).view({-1})));
    return {};
  }
  // A cut along another dimension is a few elements of every row: whole rows are read, some at a time.
  const std::int64_t num_rows = parameter.shape.front();
  const std::int64_t at_once = std::clamp<std::int64_t>(kElementsAtOnce / row, 1, num_rows);
  std::vector<std::int64_t> shape = parameter.shape;
  for (std::int64_t first = 0; first < num_rows; first += at_once) {
    shape.front() = std::min(at_once, num_rows - first);
    at::Tensor rows = at::empty(shape, local.options());
    SATURN_TRY_VOID(source.read(parameter, first * row, rows.view({-1})));
    for (const SliceBox& box : boxes) {
      const std::int64_t dimension = parameter.split.dimension;
      const auto i = static_cast<std::size_t>(dimension);
      box.of(local)
          .narrow(0, first, shape.front())
          .copy_(rows.narrow(dimension, box.offsets[i], box.shape[i]));
    }
  }
  return {};
}

std::int64_t TensorGroup::share_length() const {
  SATURN_CHECK(sequence_length_ > 0, "the sequence's length is set before anything is computed");
  const std::int64_t size = communicator_.num_ranks();
  return (sequence_length_ + size - 1) / size;
}

Range TensorGroup::positions_of(int rank) const {
  const std::int64_t first = std::min(rank * share_length(), sequence_length_);
  return {first, std::min(share_length(), sequence_length_ - first)};
}

at::Tensor TensorGroup::gather(const at::Tensor& mine) const {
  const at::Tensor from = mine.contiguous();
  std::vector<std::int64_t> shape = from.sizes().vec();
  shape.insert(shape.begin(), communicator_.num_ranks());
  at::Tensor all = at::empty(shape, from.options());
  at::Tensor flat = all.view({-1});
  at::Tensor part = from.view({-1});
  communicator_.group()->_allgather_base(flat, part)->wait();
  return all;
}

at::Tensor TensorGroup::gather_sequence(const at::Tensor& share) const {
  SATURN_CHECK(share.size(1) == share_length(), "between split regions a rank has its share of the sequence");
  const at::Tensor all = gather(share);
  std::vector<std::int64_t> shape = share.sizes().vec();
  shape[1] = sequence_length_;
  at::Tensor whole = at::empty(shape, share.options());
  for (int rank = 0; rank < communicator_.num_ranks(); ++rank) {
    const Range range = positions_of(rank);
    whole.narrow(1, range.first, range.count).copy_(all.select(0, rank).narrow(1, 0, range.count));
  }
  return whole;
}

at::Tensor TensorGroup::sum_to_share(const at::Tensor& partial) const {
  SATURN_CHECK(partial.size(1) == sequence_length_, "in a split region a rank has the whole sequence");
  std::vector<std::int64_t> shape = partial.sizes().vec();
  shape[1] = share_length();
  shape.insert(shape.begin(), communicator_.num_ranks());
  at::Tensor sent = at::empty(shape, partial.options());
  for (int rank = 0; rank < communicator_.num_ranks(); ++rank) {
    const Range range = positions_of(rank);
    const at::Tensor part = sent.select(0, rank);
    part.narrow(1, 0, range.count).copy_(partial.narrow(1, range.first, range.count));
    part.narrow(1, range.count, share_length() - range.count).zero_();
  }
  // All ranks' parts of this rank's share come here and are added in the order of the ranks, in fp32 where
  // they are narrower: one exchange, no more traffic than a ring, and a sum that no schedule changes.
  at::Tensor received = at::empty(shape, partial.options());
  at::Tensor to = received.view({-1});
  at::Tensor from = sent.view({-1});
  std::vector<std::int64_t> equal;
  communicator_.group()->alltoall_base(to, from, equal, equal)->wait();
  return received.sum(0);
}

void TensorGroup::sum(std::vector<at::Tensor>& tensors) const {
  if (tensors.empty()) return;
  std::vector<at::Tensor> flat;
  flat.reserve(tensors.size());
  for (const at::Tensor& tensor : tensors) flat.push_back(tensor.reshape({-1}));
  at::Tensor joined = at::cat(flat);
  communicator_.sum(joined);
  std::int64_t at = 0;
  for (at::Tensor& tensor : tensors) {
    tensor.copy_(joined.narrow(0, at, tensor.numel()).view(tensor.sizes()));
    at += tensor.numel();
  }
}

Range own_share(std::int64_t extent, const TensorGroup* group) {
  return group == nullptr ? Range{0, extent} : share_of(extent, group->slice());
}

std::int64_t first_position(const TensorGroup* group) {
  return group == nullptr ? 0 : group->positions_of(group->slice().rank).first;
}

}  // namespace saturn::train

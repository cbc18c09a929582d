// Shares of dimensions, and the exchanges of the ranks that split a layer.

#include "saturn/train/tensor_group.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "saturn/base/check.h"

namespace saturn::train {
Range share_of(std::int64_t extent, TensorSlice slice) {
  const std::int64_t first = extent * slice.rank / slice.size;
  return {first, extent * (slice.rank + 1) / slice.size - first};
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

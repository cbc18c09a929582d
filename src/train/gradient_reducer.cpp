// The Reducer with a hook that sums.

#include "train/gradient_reducer.h"

#include <ATen/ATen.h>

#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include "saturn/base/check.h"

namespace saturn::train {
namespace {

/// Sums a bucket over the ranks. The Reducer's own hook would divide by their number; here the loss is
/// already weighted by the targets of the global batch, so that uneven shares count as they should.
class SumBuckets final : public c10d::CppCommHookInterface<c10::intrusive_ptr<c10d::ProcessGroup>> {
 public:
  using CppCommHookInterface::CppCommHookInterface;

  c10::intrusive_ptr<c10::ivalue::Future> runHook(c10d::GradBucket& bucket) override {
    std::vector<at::Tensor> tensors = {bucket.getBufferRef()};
    return state_->allreduce(tensors)->getFuture();
  }
};

}  // namespace

GradientReducer::GradientReducer(const std::vector<at::Tensor>& leaves, const std::vector<std::string>& names,
                                 Communicator& communicator) {
  // Backward reaches the last layers first, so buckets go from the last parameter to the first.
  const std::vector<at::Tensor> parameters(leaves.rbegin(), leaves.rend());
  std::unordered_map<std::size_t, std::string> names_by_index;
  for (std::size_t i = 0; i < names.size(); ++i) names_by_index[i] = names[names.size() - 1 - i];
  std::vector<std::size_t> all(parameters.size());
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;

  const auto& group = communicator.group();
  reducer_ = std::make_unique<c10d::Reducer>(
      parameters, std::vector<std::vector<std::size_t>>{all}, group,
      std::vector<bool>(parameters.size(), false), c10d::kDefaultBucketBytesCap,
      /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true, names_by_index,
      c10d::kDefaultFirstBucketBytes, /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
      std::vector<std::int64_t>{});
  reducer_->register_comm_hook(std::make_unique<SumBuckets>(group));
  // The Reducer would cut its buckets after the first backward, in the order it saw. Cut now, they are a
  // function of the configuration alone, and a run that restarts sums in the same order as one that did
  // not.
  reducer_->push_rebuilt_params_for_all_indices();
  SATURN_CHECK(reducer_->rebuild_buckets(), "the Reducer takes the bucket order it is given");
}

GradientReducer::~GradientReducer() = default;

void GradientReducer::expect_last_backward() {
  reducer_->prepare_for_forward();
  reducer_->prepare_for_backward({});
}

void GradientReducer::finish() {
  reducer_->check_finalized();
}

}  // namespace saturn::train

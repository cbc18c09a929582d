// The Reducer with a hook that sums, and may send bf16.

#include "train/gradient_reducer.h"

#include <ATen/ATen.h>

#include <chrono>
#include <mutex>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include "saturn/base/check.h"

namespace saturn::train {
namespace {

using FuturePtr = c10::intrusive_ptr<c10::ivalue::Future>;

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// fp32 from bf16. On the CPU in a loop of its own: the group's threads must not bring OpenMP threads along.
void widen(const at::Tensor& narrow, const at::Tensor& wide) {
  if (!wide.is_cpu()) {
    wide.copy_(narrow);
    return;
  }
  const c10::BFloat16* from = narrow.const_data_ptr<c10::BFloat16>();
  float* to = wide.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < wide.numel(); ++i) to[i] = from[i];
}

}  // namespace

/// When some bucket was under way, whichever thread ended it.
class GradientReducer::BucketClock {
 public:
  void launched() {
    const std::lock_guard lock(mutex_);
    last_launch_s_ = now_s();
    if (num_under_way_++ == 0) busy_since_s_ = last_launch_s_;
  }
  void arrived() {
    const std::lock_guard lock(mutex_);
    if (--num_under_way_ == 0) times_.all_s += now_s() - busy_since_s_;
  }
  /// Backward launches its last bucket when it has nothing left to compute.
  void finished() {
    const std::lock_guard lock(mutex_);
    times_.exposed_s += now_s() - last_launch_s_;
  }
  CommunicationTimes times() const {
    const std::lock_guard lock(mutex_);
    return times_;
  }

  /// Sums a bucket over the ranks. The Reducer's own hook would divide by their number; here the loss is
  /// already weighted by the targets of the global batch, so that uneven shares count as they should.
  class SumBuckets final : public c10d::CppCommHookInterface<c10::intrusive_ptr<c10d::ProcessGroup>> {
   public:
    SumBuckets(c10::intrusive_ptr<c10d::ProcessGroup> group, std::shared_ptr<BucketClock> clock,
               bool compress)
        : CppCommHookInterface(std::move(group)), clock_(std::move(clock)), compress_(compress) {}

    FuturePtr runHook(c10d::GradBucket& bucket) override {
      at::Tensor buffer = bucket.getBuffer();
      std::vector<at::Tensor> sent = {compress_ ? buffer.to(at::kBFloat16) : buffer};
      clock_->launched();
      const FuturePtr sum = state_->allreduce(sent)->getFuture();
      sum->addCallback([clock = clock_](c10::ivalue::Future&) { clock->arrived(); });
      if (!compress_) return sum;
      return sum->then(
          [buffer](c10::ivalue::Future& done) -> c10::IValue {
            widen(done.value().toTensorVector()[0], buffer);
            return std::vector<at::Tensor>{buffer};
          },
          sum->elementType());
    }

   private:
    std::shared_ptr<BucketClock> clock_;
    bool compress_;
  };

 private:
  mutable std::mutex mutex_;
  int num_under_way_ = 0;
  double busy_since_s_ = 0.0;
  double last_launch_s_ = 0.0;
  CommunicationTimes times_;
};

GradientReducer::GradientReducer(const std::vector<at::Tensor>& leaves, const std::vector<std::string>& names,
                                 Communicator& communicator, bool compress)
    : clock_(std::make_shared<BucketClock>()) {
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
  reducer_->register_comm_hook(std::make_unique<BucketClock::SumBuckets>(group, clock_, compress));
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
  clock_->finished();
  reducer_->check_finalized();
}

CommunicationTimes GradientReducer::times() const {
  return clock_->times();
}

}  // namespace saturn::train

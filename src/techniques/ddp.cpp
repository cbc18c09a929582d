// Data parallelism: every rank holds the whole model and sums gradients with its peers while backward runs.

#include <ATen/ATen.h>

#include <algorithm>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/reducer.hpp>

#include "saturn/base/check.h"
#include "saturn/batch/batch.h"
#include "saturn/train/replica.h"
#include "saturn/train/technique.h"

namespace saturn::techniques {
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

class Ddp final : public train::Technique {
 public:
  explicit Ddp(train::TechniqueContext context)
      : Technique(std::move(context)), replica_(*context_.model, context_.job, context_.device) {
    SATURN_CHECK(context_.communicator.num_ranks() > 1, "ddp runs on several ranks");
  }

  Result<void> prepare(train::WeightSource& source) override {
    SATURN_TRY_VOID(replica_.place(source));
    make_reducer();
    return {};
  }

  Result<train::StepStats> step(const train::MicroBatches& batches, double learning_rate) override {
    replica_.begin_step();
    at::Tensor loss_sum = at::zeros({}, at::TensorOptions(context_.device).dtype(at::kDouble));
    for (const train::MicroBatch& batch : batches.parts) {
      // Gradients of all but the last micro-batch stay on this rank; the last one's backward sends the sums.
      const bool last = &batch == &batches.parts.back();
      if (last) {
        reducer_->prepare_for_forward();
        reducer_->prepare_for_backward({});
      }
      loss_sum += replica_.accumulate(batch, batches.step, batches.num_targets);
    }
    reducer_->check_finalized();
    return replica_.update(batches.step, learning_rate, loss_sum.item<double>());
  }

  Result<train::EvaluationSums> evaluate(const train::MicroBatches& batches) override {
    return replica_.evaluate(batches);
  }
  Result<void> for_each_state(const train::StateVisitor& visit) override {
    return replica_.for_each_state(visit, /*primary=*/context_.communicator.rank() == 0);
  }
  at::Tensor gather_weight(std::size_t index) override { return replica_.weight(index); }

 private:
  void make_reducer() {
    // Backward reaches the last layers first, so buckets go from the last parameter to the first.
    std::vector<at::Tensor> parameters(replica_.leaves().rbegin(), replica_.leaves().rend());
    std::unordered_map<std::size_t, std::string> names;
    const auto declared = context_.model->parameters();
    for (std::size_t i = 0; i < parameters.size(); ++i) names[i] = declared[declared.size() - 1 - i]->name;
    std::vector<std::size_t> all(parameters.size());
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = i;

    const auto& group = context_.communicator.group();
    reducer_ = std::make_unique<c10d::Reducer>(
        parameters, std::vector<std::vector<std::size_t>>{all}, group,
        std::vector<bool>(parameters.size(), false), c10d::kDefaultBucketBytesCap,
        /*find_unused_parameters=*/false, /*gradient_as_bucket_view=*/true, names,
        c10d::kDefaultFirstBucketBytes, /*skip_all_reduce_unused_params=*/false, /*use_python_reducer=*/false,
        std::vector<std::int64_t>{});
    reducer_->register_comm_hook(std::make_unique<SumBuckets>(group));
    // The Reducer would cut its buckets after the first backward, in the order it saw. Cut now, they are a
    // function of the configuration alone, and a run that restarts sums in the same order as one that did
    // not.
    reducer_->push_rebuilt_params_for_all_indices();
    SATURN_CHECK(reducer_->rebuild_buckets(), "the Reducer takes the bucket order it is given");
  }

  train::Replica replica_;
  std::unique_ptr<c10d::Reducer> reducer_;
};

}  // namespace

train::TechniqueEntry ddp() {
  return {.name = "ddp", .summary = "replicate the model, average gradients", .make = &train::make<Ddp>};
}

}  // namespace saturn::techniques

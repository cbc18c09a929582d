// One rank with the whole model: the training that every other technique must reproduce.

#include <ATen/ATen.h>

#include "saturn/base/check.h"
#include "saturn/batch/batch.h"
#include "saturn/train/replica.h"
#include "saturn/train/technique.h"

namespace saturn::techniques {
namespace {

class Single final : public train::Technique {
 public:
  explicit Single(train::TechniqueContext context)
      : Technique(std::move(context)), replica_(*context_.model, context_.job, context_.device) {
    SATURN_CHECK(context_.communicator.num_ranks() == 1, "single runs on one rank");
  }

  Result<void> prepare(train::WeightSource& source) override { return replica_.place(source); }

  Result<train::StepStats> step(const train::MicroBatches& batches, double learning_rate) override {
    replica_.begin_step();
    at::Tensor loss_sum = at::zeros({}, at::TensorOptions(context_.device).dtype(at::kDouble));
    for (const train::MicroBatch& batch : batches.parts)
      loss_sum += replica_.accumulate(batch, batches.step, batches.num_targets);
    return replica_.update(batches.step, learning_rate, loss_sum.item<double>());
  }

  Result<train::EvaluationSums> evaluate(const train::MicroBatches& batches) override {
    return replica_.evaluate(batches);
  }
  Result<void> for_each_state(const train::StateVisitor& visit) override {
    return replica_.for_each_state(visit, /*primary=*/true);
  }
  at::Tensor gather_weight(std::size_t index) override { return replica_.weight(index); }

 private:
  train::Replica replica_;
};

}  // namespace

train::TechniqueEntry single() {
  return {.name = "single", .summary = "one process holds the whole model", .make = &train::make<Single>};
}

}  // namespace saturn::techniques

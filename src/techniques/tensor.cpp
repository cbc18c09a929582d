// Tensor parallelism: every rank computes a slice of each layer over the whole batch.

#include "saturn/batch/batch.h"
#include "saturn/train/placed_technique.h"
#include "saturn/train/tensor_group.h"
#include "saturn/train/whole_placement.h"

namespace saturn::techniques {
namespace {

class Tensor final : public train::PlacedTechnique {
 public:
  explicit Tensor(train::TechniqueContext context)
      : PlacedTechnique(std::move(context)), group_(context_.communicator) {}

  /// Every rank computes every row.
  std::vector<train::RowRange> micro_batches_of(std::int64_t num_rows) const override {
    return data::split_rows({0, num_rows}, context_.job.micro_batches);
  }

 protected:
  train::TensorGroup* tensor_group() override { return &group_; }

  Result<std::unique_ptr<train::Placement>> make_placement() override {
    SATURN_TRY_VOID(train::check_splits(*context_.model, context_.job.model, group_.slice().size));
    SATURN_TRY(alone_, train::Communicator::connect({}));
    SATURN_TRY(train::PlacementContext whole, whole_model_context(*alone_, group_.slice()));
    return std::unique_ptr<train::Placement>(std::make_unique<train::WholePlacement>(whole));
  }

 private:
  train::TensorGroup group_;
  std::unique_ptr<train::Communicator> alone_;  ///< no other rank holds what this one does
};

}  // namespace

train::TechniqueEntry tensor() {
  return {.name = "tensor",
          .summary = "split attention heads, hidden units and the vocabulary of every layer",
          .make = &train::make<Tensor>};
}

}  // namespace saturn::techniques

// Data parallelism: every rank holds the whole model and sums gradients with its peers while backward runs.

#include "saturn/base/check.h"
#include "saturn/train/placed_technique.h"
#include "saturn/train/whole_placement.h"

namespace saturn::techniques {
namespace {

class Ddp final : public train::PlacedTechnique {
 public:
  explicit Ddp(train::TechniqueContext context) : PlacedTechnique(std::move(context)) {
    SATURN_CHECK(context_.communicator.num_ranks() > 1, "ddp runs on several ranks");
  }

 private:
  Result<std::unique_ptr<train::Placement>> make_placement() override {
    SATURN_TRY(const train::PlacementContext context, whole_model_context());
    return std::unique_ptr<train::Placement>(new train::WholePlacement(context));
  }
};

}  // namespace

train::TechniqueEntry ddp() {
  return {.name = "ddp", .summary = "replicate the model, average gradients", .make = &train::make<Ddp>};
}

}  // namespace saturn::techniques

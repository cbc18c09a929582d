// One rank with the whole model: the training that every other technique must reproduce.

#include "saturn/base/check.h"
#include "saturn/train/placed_technique.h"
#include "saturn/train/whole_placement.h"

namespace saturn::techniques {
namespace {

class Single final : public train::PlacedTechnique {
 public:
  explicit Single(train::TechniqueContext context) : PlacedTechnique(std::move(context)) {
    SATURN_CHECK(context_.communicator.num_ranks() == 1, "single runs on one rank");
  }

 private:
  Result<std::unique_ptr<train::Placement>> make_placement() override {
    SATURN_TRY(const train::PlacementContext context, whole_model_context());
    return std::unique_ptr<train::Placement>(new train::WholePlacement(context));
  }
};

}  // namespace

train::TechniqueEntry single() {
  return {.name = "single", .summary = "one process holds the whole model", .make = &train::make<Single>};
}

}  // namespace saturn::techniques

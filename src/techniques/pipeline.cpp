// Pipeline parallelism: every rank holds some consecutive layers, and micro-batches pass through the ranks.

#include "saturn/base/check.h"
#include "saturn/train/staged_technique.h"
#include "saturn/train/whole_placement.h"

namespace saturn::techniques {
namespace {

class Pipeline final : public train::StagedTechnique {
 public:
  using StagedTechnique::StagedTechnique;

 private:
  Result<train::MeshShape> read_mesh() override {
    return train::MeshShape{.pipeline = context_.communicator.num_ranks()};
  }
  Result<std::unique_ptr<train::Placement>> place_stage(train::PlacementContext context) override {
    return std::unique_ptr<train::Placement>(new train::WholePlacement(context));
  }
};

}  // namespace

train::TechniqueEntry pipeline() {
  return {.name = "pipeline",
          .summary = "cut the layers into stages, pass micro-batches through them",
          .make = &train::make<Pipeline>};
}

}  // namespace saturn::techniques

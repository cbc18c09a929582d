// Fully sharded data parallelism: every rank holds a part of each layer and of its optimiser state, and
// layers are whole only while they run.

#include "saturn/batch/technique_spec.h"
#include "saturn/train/knobs.h"
#include "saturn/train/placed_technique.h"
#include "saturn/train/sharded_placement.h"

namespace saturn::techniques {
namespace {

class Fsdp final : public train::PlacedTechnique {
 public:
  using PlacedTechnique::PlacedTechnique;

  std::vector<train::RowRange> micro_batches_of(std::int64_t num_rows) const override {
    return equally_many_micro_batches_of(num_rows);
  }

 private:
  Result<std::unique_ptr<train::Placement>> make_placement() override {
    SATURN_TRY(const train::PlacementContext context, whole_model_context());
    SATURN_TRY(const bool reshards,
               train::flag_of(context_.configuration.knobs, "reshard_after_forward", /*otherwise=*/true));
    return std::unique_ptr<train::Placement>(new train::ShardedPlacement(context, reshards));
  }
};

}  // namespace

train::TechniqueEntry fsdp() {
  return {.name = "fsdp",
          .summary = "shard weights, gradients and optimiser state, gather each layer to run it",
          .make = &train::make<Fsdp>};
}

}  // namespace saturn::techniques

// Data parallelism: every rank holds the whole model and sums gradients with its peers while backward runs.

#include "saturn/base/check.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/train/knobs.h"
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
    const Json& knobs = context_.configuration.knobs;
    SATURN_TRY(const std::size_t compression, train::choice_of(knobs, "compression", {"none", "bf16"}));
    SATURN_TRY(const bool shards, train::flag_of(knobs, "shard_optimizer", /*otherwise=*/false));
    if (compression != 0 && context_.job.precision != "bf16")
      return Diagnostic{
          .where = "knobs#/compression",
          .what = "gradients in bf16 are asked for, and the job's precision is " + context_.job.precision,
          .expected = "a job of precision bf16: in fp32 every technique trains alike"};
    return std::unique_ptr<train::Placement>(new train::WholePlacement(
        context, {.compress_gradients = compression != 0, .shard_optimizer = shards}));
  }
};

}  // namespace

train::TechniqueEntry ddp() {
  return {.name = "ddp", .summary = "replicate the model, average gradients", .make = &train::make<Ddp>};
}

}  // namespace saturn::techniques

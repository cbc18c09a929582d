// Data x pipeline x tensor over one mesh: each factor optional. Over the data dimension a stage's layers are
// whole on every rank, or, with the knob "sharded", dealt over the ranks as fsdp deals them.

#include "saturn/batch/technique_spec.h"
#include "saturn/train/knobs.h"
#include "saturn/train/sharded_placement.h"
#include "saturn/train/staged_technique.h"
#include "saturn/train/whole_placement.h"

namespace saturn::techniques {
namespace {

/// An extent of the mesh; 1 where the knob is absent.
Result<int> extent_of(const Json& knobs, const char* name) {
  const auto written = knobs.find(name);
  if (written == knobs.end()) return 1;
  if (written->is_number_integer() && written->get<std::int64_t>() >= 1 &&
      written->get<std::int64_t>() <= 1 << 16)
    return written->get<int>();
  return Diagnostic{.where = std::string("configuration#/knobs/") + name,
                    .what = std::string(name) + " = " + to_line(*written),
                    .expected = "a number of ranks from 1 on"};
}

class Hybrid final : public train::StagedTechnique {
 public:
  using StagedTechnique::StagedTechnique;

 private:
  Result<train::MeshShape> read_mesh() override {
    const Json& knobs = context_.configuration.knobs;
    SATURN_TRY(sharded_, train::flag_of(knobs, "sharded", /*otherwise=*/false));
    SATURN_TRY(reshards_, train::flag_of(knobs, "reshard_after_forward", /*otherwise=*/true));
    SATURN_TRY(const int data, extent_of(knobs, "data"));
    SATURN_TRY(const int pipeline, extent_of(knobs, "pipeline"));
    SATURN_TRY(const int tensor, extent_of(knobs, "tensor"));
    return train::MeshShape{.data = data, .pipeline = pipeline, .tensor = tensor};
  }

  Result<std::unique_ptr<train::Placement>> place_stage(train::PlacementContext context) override {
    if (sharded_) return std::unique_ptr<train::Placement>(new train::ShardedPlacement(context, reshards_));
    return std::unique_ptr<train::Placement>(new train::WholePlacement(context));
  }

  int num_shares_of_state() const override { return sharded_ ? mesh().shape().data : 1; }

  bool sharded_ = false;
  bool reshards_ = true;
};

}  // namespace

train::TechniqueEntry hybrid() {
  return {.name = "hybrid",
          .summary = "data x pipeline x tensor over one mesh of devices",
          .make = &train::make<Hybrid>};
}

}  // namespace saturn::techniques

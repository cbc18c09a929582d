// A training library whose ddp is wrong on purpose: one gradient arrives with its rows in another order.
// Everything else of the library is the product's; this file takes the place of techniques/ddp.cpp.

#include <ATen/ATen.h>

#include "saturn/base/check.h"
#include "saturn/train/placed_technique.h"
#include "saturn/train/whole_placement.h"

namespace saturn::techniques {
namespace {

class BrokenDdp final : public train::PlacedTechnique {
 public:
  using PlacedTechnique::PlacedTechnique;

  Result<void> prepare(train::WeightSource& source) override {
    SATURN_TRY_VOID(PlacedTechnique::prepare(source));
    for (const train::ParameterPtr& parameter : context_.model->parameters()) {
      if (!parameter->name.ends_with("attn.c_proj.weight")) continue;
      parameter->value.register_hook([](const at::Tensor& gradient) { return gradient.flip(0); });
      return {};
    }
    SATURN_CHECK(false, "the test's model has an attention");
    return {};
  }

 private:
  Result<std::unique_ptr<train::Placement>> make_placement() override {
    SATURN_TRY(const train::PlacementContext context, whole_model_context());
    return std::unique_ptr<train::Placement>(new train::WholePlacement(context));
  }
};

}  // namespace

train::TechniqueEntry ddp() {
  return {.name = "ddp", .summary = "wrong on purpose", .make = &train::make<BrokenDdp>};
}

}  // namespace saturn::techniques

// What layers of several families are made of.

#pragma once

#include <ATen/ops/layer_norm.h>

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "saturn/train/model.h"
#include "saturn/train/ops.h"
#include "saturn/train/tensor_group.h"

namespace saturn::models {

struct LayerNorm {
  train::ParameterPtr weight;
  train::ParameterPtr bias;
  double epsilon = 1e-5;

  at::Tensor operator()(const at::Tensor& x) const {
    return at::layer_norm(x, weight->value.sizes(), weight->value, bias->value, epsilon);
  }
};

/// A layer that knows the sizes of its model. Base is Layer or Head; Sizes has what the members that are used
/// ask for: width, dropout, vocabulary.
template <class Base, class Sizes>
class SizedLayer : public Base {
 public:
  SizedLayer(std::string name, const Sizes& sizes) : Base(std::move(name)), sizes_(sizes) {}

 protected:
  LayerNorm declare_layer_norm(const std::string& name, double epsilon) {
    return {.weight = this->declare({.name = name + ".weight",
                                     .shape = {sizes_.width},
                                     .initial = {train::Initial::Kind::ones},
                                     .decays = false}),
            .bias = this->declare({.name = name + ".bias", .shape = {sizes_.width}, .decays = false}),
            .epsilon = epsilon};
  }

  /// A place of dropout in this layer, by default on a share of the sequence.
  train::ops::DropoutSite drop_at(const char* place, const train::StepContext& context) const {
    return drop_at(place, context, train::first_position(context.tensor) * sizes_.width);
  }
  train::ops::DropoutSite drop_at(const char* place, const train::StepContext& context,
                                  std::int64_t first_element) const {
    if (!context.training || sizes_.dropout == 0.0) return {};
    return {.probability = sizes_.dropout,
            .key = train::ops::dropout_key(context.seed, context.step, this->name() + place),
            .first_row = context.first_row,
            .first_element = first_element};
  }

  train::ops::TableSplit table_split(const train::StepContext& context) const {
    return {.group = context.tensor, .vocabulary = sizes_.vocabulary};
  }

  Sizes sizes_;
};

/// Ends the model with its head.
inline void end_with(std::unique_ptr<train::Head> head, train::Model& model) {
  model.head = head.get();
  model.layers.push_back(std::move(head));
}

}  // namespace saturn::models

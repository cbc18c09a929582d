// What every model shares: declaring parameters, and the forward pass over all layers.

#include "saturn/train/model.h"

#include <algorithm>

#include "saturn/base/check.h"

namespace saturn::train {

ParameterPtr Layer::declare(Parameter parameter) {
  return share(std::make_shared<Parameter>(std::move(parameter)));
}

ParameterPtr Layer::declare_buffer(Parameter buffer) {
  buffer.decays = false;
  buffers_.push_back(std::make_shared<Parameter>(std::move(buffer)));
  return buffers_.back();
}

ParameterPtr Layer::share(ParameterPtr parameter) {
  parameters_.push_back(parameter);
  ++parameter->num_users;
  return parameter;
}

std::vector<ParameterPtr> Model::parameters() const {
  std::vector<ParameterPtr> all;
  for (const auto& layer : layers)
    for (const ParameterPtr& parameter : layer->parameters())
      if (std::find(all.begin(), all.end(), parameter) == all.end()) all.push_back(parameter);
  return all;
}

std::vector<ParameterPtr> Model::buffers() const {
  std::vector<ParameterPtr> all;
  for (const auto& layer : layers) all.insert(all.end(), layer->buffers().begin(), layer->buffers().end());
  return all;
}

namespace {

/// The input of the head.
at::Tensor body(Model& model, const at::Tensor& inputs, const StepContext& context) {
  SATURN_CHECK(model.head != nullptr && model.layers.back().get() == model.head, "a model ends in its head");
  at::Tensor activation = inputs;
  for (std::size_t i = 0; i + 1 < model.layers.size(); ++i)
    activation = model.layers[i]->forward(activation, context);
  return activation;
}

}  // namespace

at::Tensor loss(Model& model, const at::Tensor& inputs, const at::Tensor& targets,
                const StepContext& context) {
  return model.head->loss(body(model, inputs, context), targets, context);
}

at::Tensor outputs(Model& model, const at::Tensor& inputs, const StepContext& context) {
  return model.head->forward(body(model, inputs, context), context);
}

}  // namespace saturn::train

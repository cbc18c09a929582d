// What every model shares: declaring parameters, and the forward pass over all layers.

#include "saturn/train/model.h"

#include <algorithm>
#include <cmath>

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

void Layer::adapt(const ParameterPtr& target, std::int64_t rank, double scale) {
  const auto at = std::find(parameters_.begin(), parameters_.end(), target);
  SATURN_CHECK(at != parameters_.end() && target->outputs >= 0 && target->num_users == 1 && !target->adapter,
               "an adapter is put beside a linear map of the layer, once");
  const auto outputs = static_cast<std::size_t>(target->outputs);
  const std::int64_t num_inputs = target->shape[1 - outputs];
  const std::string module = target->name.substr(0, target->name.rfind('.'));
  const Split whole;
  const auto along = [&](int dimension) {
    return Split{.dimension = dimension, .num_blocks = target->split.num_blocks};
  };
  const bool by_outputs = target->split.dimension == target->outputs;
  const bool by_inputs = target->split.dimension >= 0 && !by_outputs;
  // As PEFT begins: a uniform map in, so that its outputs vary as a linear layer's do, and nothing out.
  Parameter a{
      .name = module + ".lora_A.weight",
      .shape = {rank, num_inputs},
      .initial = {.kind = Initial::Kind::uniform, .bound = 1.0 / std::sqrt(static_cast<double>(num_inputs))},
      .num_users = 1,
      .split = by_inputs ? along(1) : whole,
      .of_adapter = true};
  Parameter b{.name = module + ".lora_B.weight",
              .shape = {target->shape[outputs], rank},
              .num_users = 1,
              .split = by_outputs ? along(0) : whole,
              .of_adapter = true};
  target->adapter = {.a = std::make_shared<Parameter>(std::move(a)),
                     .b = std::make_shared<Parameter>(std::move(b)),
                     .scale = scale};
  parameters_.insert(at, {target->adapter->a, target->adapter->b});
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

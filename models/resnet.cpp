// Residual networks: convolutions with BatchNorm in basic or bottleneck blocks (stride on the 3x3 map);
// parameters and buffers named as torchvision and timm have them.
//
// Source: He et al. 2016; ResNet of torchvision and timm. Shapes: B rows, C channels, H and W pixels, V
// classes.

#include <ATen/TensorOperators.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/max_pool2d.h>
#include <ATen/ops/relu.h>

#include <cmath>

#include "models/image_config.h"
#include "models/layers.h"
#include "saturn/batch/model_spec.h"
#include "saturn/train/model.h"
#include "saturn/train/ops.h"

namespace saturn::models {
namespace {

using train::Initial;
using train::ModelOptions;
using train::ParameterPtr;
using train::StepContext;
namespace ops = train::ops;

/// Channels of the first map, in every such network.
constexpr std::int64_t kStem = 64;

struct Sizes {
  std::vector<std::int64_t> blocks;  // of the four stages
  std::int64_t width = 0;
  bool bottleneck = true;
  std::int64_t channels = 0;
  std::int64_t classes = 0;
  double epsilon = 1e-5;
  double momentum = 0.1;
  double label_smoothing = 0.0;

  std::int64_t expansion() const { return bottleneck ? 4 : 1; }
};

/// A convolution without bias and the norm behind it.
struct Map {
  ParameterPtr weight;
  ParameterPtr scale;
  ParameterPtr bias;
  ParameterPtr mean;
  ParameterPtr variance;
  double epsilon = 1e-5;
  double momentum = 0.1;
  std::int64_t stride = 1;

  at::Tensor operator()(const at::Tensor& x, const StepContext& context) const {
    const std::int64_t padding = weight->value.size(-1) / 2;
    const at::Tensor y = at::conv2d(x, weight->value, /*bias=*/{}, {stride, stride}, {padding, padding});
    return ops::batch_norm(
        y, scale->value, bias->value,
        {.mean = mean->value, .variance = variance->value, .momentum = momentum, .epsilon = epsilon},
        context);
  }
};

/// What all layers share: the sizes, and declaring the parts they are made of. Base is Layer or Head.
template <class Base>
class ResnetLayer : public SizedLayer<Base, Sizes> {
 public:
  using SizedLayer<Base, Sizes>::SizedLayer;

 protected:
  using SizedLayer<Base, Sizes>::sizes_;

  struct Shape {
    std::int64_t inputs = 0;
    std::int64_t outputs = 0;
    std::int64_t kernel = 1;
    std::int64_t stride = 1;
  };

  /// `last`: ends a block's branch, whose norm begins at zero so that the block begins as the identity.
  Map declare_map(const std::string& weight, const std::string& norm, const Shape& shape, bool last = false) {
    const auto fan_out = static_cast<double>(shape.outputs * shape.kernel * shape.kernel);
    const auto vector = [&](const char* part, Initial::Kind kind) {
      return train::Parameter{
          .name = norm + part, .shape = {shape.outputs}, .initial = {kind}, .decays = false};
    };
    return {.weight = this->declare({.name = weight + ".weight",
                                     .shape = {shape.outputs, shape.inputs, shape.kernel, shape.kernel},
                                     .initial = {Initial::Kind::normal, std::sqrt(2.0 / fan_out)}}),
            .scale = this->declare(vector(".weight", last ? Initial::Kind::zeros : Initial::Kind::ones)),
            .bias = this->declare(vector(".bias", Initial::Kind::zeros)),
            .mean = this->declare_buffer(vector(".running_mean", Initial::Kind::zeros)),
            .variance = this->declare_buffer(vector(".running_var", Initial::Kind::ones)),
            .epsilon = sizes_.epsilon,
            .momentum = sizes_.momentum,
            .stride = shape.stride};
  }
};

class Stem final : public ResnetLayer<train::Layer> {
 public:
  explicit Stem(const Sizes& sizes) : ResnetLayer("stem", sizes) {
    map_ = declare_map("conv1", "bn1", {sizes.channels, kStem, 7, 2});
  }

  at::Tensor forward(const at::Tensor& pixels_BCHW, const StepContext& context) override {
    const at::Tensor x = at::relu(map_(pixels_BCHW.to(map_.weight->value.scalar_type()), context));
    return at::max_pool2d(x, {3, 3}, /*stride=*/{2, 2}, /*padding=*/{1, 1});
  }

 private:
  Map map_;
};

class Block final : public ResnetLayer<train::Layer> {
 public:
  Block(const Sizes& sizes, const std::string& name, std::int64_t inputs, std::int64_t inner,
        std::int64_t stride)
      : ResnetLayer(name, sizes) {
    const std::int64_t outputs = inner * sizes.expansion();
    const auto add = [&](int index, const Shape& shape, bool last) {
      const std::string number = std::to_string(index);
      maps_.push_back(declare_map(name + ".conv" + number, name + ".bn" + number, shape, last));
    };
    if (sizes.bottleneck) {
      add(1, {inputs, inner, 1, 1}, false);
      add(2, {inner, inner, 3, stride}, false);
      add(3, {inner, outputs, 1, 1}, true);
    } else {
      add(1, {inputs, inner, 3, stride}, false);
      add(2, {inner, outputs, 3, 1}, true);
    }
    if (stride != 1 || inputs != outputs)
      shortcut_ = declare_map(name + ".downsample.0", name + ".downsample.1", {inputs, outputs, 1, stride});
  }

  at::Tensor forward(const at::Tensor& x_BCHW, const StepContext& context) override {
    at::Tensor y = x_BCHW;
    for (std::size_t i = 0; i < maps_.size(); ++i) {
      y = maps_[i](y, context);
      if (i + 1 < maps_.size()) y = at::relu(y);
    }
    return at::relu(y + (shortcut_.weight ? shortcut_(x_BCHW, context) : x_BCHW));
  }

 private:
  std::vector<Map> maps_;
  Map shortcut_;
};

class ClassHead final : public ResnetLayer<train::Head> {
 public:
  ClassHead(const Sizes& sizes, std::int64_t features) : ResnetLayer("head", sizes) {
    weight_ = declare({.name = "fc.weight",
                       .shape = {sizes.classes, features},
                       .initial = {Initial::Kind::normal, 1.0 / std::sqrt(static_cast<double>(features))},
                       .outputs = 0});
    bias_ = declare({.name = "fc.bias", .shape = {sizes.classes}, .decays = false});
  }

  at::Tensor forward(const at::Tensor& x_BCHW, const StepContext&) override {
    return ops::linear_map(x_BCHW.mean({2, 3}), *weight_, bias_->value);
  }

  at::Tensor loss(const at::Tensor& x_BCHW, const at::Tensor& targets_B,
                  const StepContext& context) override {
    return ops::class_cross_entropy(forward(x_BCHW, context), targets_B, sizes_.label_smoothing, context);
  }

 private:
  ParameterPtr weight_;
  ParameterPtr bias_;
};

/// config.json as timm reads it: some named architecture, and all sizes in which this one may differ.
Json config_of(const Sizes& sizes, std::int64_t features, const batch::ImageSettings* images) {
  Json widths = Json::array();
  for (int stage = 0; stage < 4; ++stage) widths.push_back(sizes.width << stage);
  return timm_config({.architecture = sizes.bottleneck ? "resnet50" : "resnet18",
                      .features = features,
                      .classes = sizes.classes,
                      .pool = "avg",
                      .first_layer = "conv1",
                      .last_layer = "fc",
                      .channels = sizes.channels,
                      .arguments = {{"layers", sizes.blocks}, {"channels", std::move(widths)}}},
                     images);
}

Sizes sizes_of(const batch::ModelSpec& spec, const ModelOptions& options) {
  const Json& given = spec.sizes;
  const auto count = [&](const char* key) { return given.at(key).get<std::int64_t>(); };
  return {.blocks = {count("blocks_1"), count("blocks_2"), count("blocks_3"), count("blocks_4")},
          .width = count("width"),
          .bottleneck = given.at("bottleneck").get<bool>(),
          .channels = spec.channels,
          .classes = spec.vocabulary != 0 ? spec.vocabulary : options.vocabulary,
          .epsilon = given.at("batch_norm_epsilon").get<double>(),
          .momentum = given.at("batch_norm_momentum").get<double>(),
          .label_smoothing = options.label_smoothing};
}

Result<std::unique_ptr<train::Model>> make_resnet(const batch::ModelSpec& spec, const ModelOptions& options) {
  const Sizes sizes = sizes_of(spec, options);
  SATURN_CHECK(sizes.classes > 0 && sizes.channels > 0,
               "what a preset leaves to the data is settled before a model is made");
  if (options.dropout > 0.0)
    return Diagnostic{
        .what = "dropout = " + std::to_string(options.dropout) + " is set, and a resnet has none",
        .expected = "dropout = 0"};
  auto model = std::make_unique<train::Model>();
  model->family = spec.family;
  model->ignored_suffixes = {".num_batches_tracked"};
  model->head_prefix = "fc.";
  model->layers.push_back(std::make_unique<Stem>(sizes));
  std::int64_t inputs = kStem;
  for (std::size_t stage = 0; stage < sizes.blocks.size(); ++stage) {
    const std::int64_t inner = sizes.width << stage;
    for (std::int64_t i = 0; i < sizes.blocks[stage]; ++i) {
      const std::string name = "layer" + std::to_string(stage + 1) + "." + std::to_string(i);
      model->layers.push_back(
          std::make_unique<Block>(sizes, name, inputs, inner, i == 0 && stage > 0 ? 2 : 1));
      inputs = inner * sizes.expansion();
    }
  }
  model->config = config_of(sizes, inputs, options.images);
  end_with(std::make_unique<ClassHead>(sizes, inputs), *model);
  return model;
}

}  // namespace

train::ModelEntry resnet() {
  return {.family = "resnet", .make = &make_resnet};
}

}  // namespace saturn::models

// The vision transformer: square patches of an image and a class token through transformer blocks with
// LayerNorm before each part; parameters named and laid out as timm has them (weights of linear maps as
// [outputs, inputs]).
//
// Source: Dosovitskiy et al. 2021; VisionTransformer of timm. Shapes: B rows, T tokens (the class token and
// one for each patch), C width, H heads, D head size, V classes.

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/scaled_dot_product_attention.h>

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

struct Sizes {
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t width = 0;
  std::int64_t feed_forward = 0;
  std::int64_t patch = 0;
  std::int64_t image = 0;
  std::int64_t channels = 0;
  std::int64_t classes = 0;
  double epsilon = 1e-6;
  double initializer_range = 0.02;
  double dropout = 0.0;
  double label_smoothing = 0.0;

  std::int64_t tokens() const { return (image / patch) * (image / patch) + 1; }
};

struct Affine {
  ParameterPtr weight;
  ParameterPtr bias;

  at::Tensor operator()(const at::Tensor& x) const { return ops::linear_map(x, *weight, bias->value); }
};

/// What all layers share: the sizes, and declaring the parts they are made of. Base is Layer or Head.
template <class Base>
class VitLayer : public SizedLayer<Base, Sizes> {
 public:
  using SizedLayer<Base, Sizes>::SizedLayer;

 protected:
  using SizedLayer<Base, Sizes>::sizes_;

  ParameterPtr declare_vector(const std::string& name, std::int64_t size) {
    return this->declare({.name = name, .shape = {size}, .decays = false});
  }

  Affine declare_affine(const std::string& name, std::int64_t inputs, std::int64_t outputs) {
    return {.weight = this->declare({.name = name + ".weight",
                                     .shape = {outputs, inputs},
                                     .initial = {Initial::Kind::normal, sizes_.initializer_range},
                                     .outputs = 0}),
            .bias = declare_vector(name + ".bias", outputs)};
  }

  at::Tensor dropped(const at::Tensor& x, const char* place, const StepContext& context) const {
    return ops::dropout(x, this->drop_at(place, context, 0));
  }
};

class Embedding final : public VitLayer<train::Layer> {
 public:
  explicit Embedding(const Sizes& sizes) : VitLayer("patch_embed", sizes) {
    const std::int64_t inputs = sizes.channels * sizes.patch * sizes.patch;
    class_token_ = declare({.name = "cls_token",
                            .shape = {1, 1, sizes.width},
                            .initial = {Initial::Kind::normal, 1e-6},
                            .decays = false});
    positions_ = declare({.name = "pos_embed",
                          .shape = {1, sizes.tokens(), sizes.width},
                          .initial = {Initial::Kind::normal, sizes.initializer_range},
                          .decays = false});
    patches_ = declare({.name = "patch_embed.proj.weight",
                        .shape = {sizes.width, sizes.channels, sizes.patch, sizes.patch},
                        .initial = {Initial::Kind::normal, 1.0 / std::sqrt(static_cast<double>(inputs))}});
    patch_bias_ = declare_vector("patch_embed.proj.bias", sizes.width);
  }

  at::Tensor forward(const at::Tensor& pixels_BCHW, const StepContext& context) override {
    const at::Tensor pixels = pixels_BCHW.to(patches_->value.scalar_type());
    const at::Tensor patches_BCT =
        at::conv2d(pixels, patches_->value, patch_bias_->value, /*stride=*/{sizes_.patch, sizes_.patch})
            .flatten(2);
    // As a vector, so that its gradient is laid out as it is.
    const at::Tensor class_B1C =
        class_token_->value.view({sizes_.width}).expand({pixels.size(0), 1, sizes_.width});
    const at::Tensor x_BTC = at::cat({class_B1C, patches_BCT.transpose(1, 2)}, 1) + positions_->value;
    return dropped(x_BTC, ".sum", context);
  }

 private:
  ParameterPtr class_token_;
  ParameterPtr positions_;
  ParameterPtr patches_;
  ParameterPtr patch_bias_;
};

class Block final : public VitLayer<train::Layer> {
 public:
  Block(const Sizes& sizes, std::int64_t index) : VitLayer("blocks." + std::to_string(index), sizes) {
    attention_norm_ = declare_layer_norm(name() + ".norm1", sizes.epsilon);
    qkv_ = declare_affine(name() + ".attn.qkv", sizes.width, 3 * sizes.width);
    attention_out_ = declare_affine(name() + ".attn.proj", sizes.width, sizes.width);
    mlp_norm_ = declare_layer_norm(name() + ".norm2", sizes.epsilon);
    fc_ = declare_affine(name() + ".mlp.fc1", sizes.width, sizes.feed_forward);
    mlp_out_ = declare_affine(name() + ".mlp.fc2", sizes.feed_forward, sizes.width);
  }

  at::Tensor forward(const at::Tensor& x_BTC, const StepContext& context) override {
    const at::Tensor mid_BTC = x_BTC + dropped(attention(attention_norm_(x_BTC)), ".attn", context);
    const at::Tensor hidden = at::gelu(fc_(mlp_norm_(mid_BTC)));
    return mid_BTC + dropped(mlp_out_(hidden), ".mlp", context);
  }

 private:
  at::Tensor attention(const at::Tensor& x_BTC) const {
    const std::int64_t rows = x_BTC.size(0);
    const std::int64_t tokens = x_BTC.size(1);
    const at::Tensor qkv_3BHTD = qkv_(x_BTC)
                                     .view({rows, tokens, 3, sizes_.heads, sizes_.width / sizes_.heads})
                                     .permute({2, 0, 3, 1, 4});
    const at::Tensor mixed_BHTD = at::scaled_dot_product_attention(qkv_3BHTD[0], qkv_3BHTD[1], qkv_3BHTD[2]);
    return attention_out_(mixed_BHTD.transpose(1, 2).reshape({rows, tokens, sizes_.width}));
  }

  LayerNorm attention_norm_;
  Affine qkv_;
  Affine attention_out_;
  LayerNorm mlp_norm_;
  Affine fc_;
  Affine mlp_out_;
};

class ClassHead final : public VitLayer<train::Head> {
 public:
  explicit ClassHead(const Sizes& sizes) : VitLayer("head", sizes) {
    norm_ = declare_layer_norm("norm", sizes.epsilon);
    classes_ = declare_affine("head", sizes.width, sizes.classes);
  }

  at::Tensor forward(const at::Tensor& x_BTC, const StepContext&) override {
    return classes_(norm_(x_BTC.select(1, 0)));
  }

  at::Tensor loss(const at::Tensor& x_BTC, const at::Tensor& targets_B, const StepContext& context) override {
    return ops::class_cross_entropy(forward(x_BTC, context), targets_B, sizes_.label_smoothing, context);
  }

 private:
  LayerNorm norm_;
  Affine classes_;
};

/// A number that times `width` and cut to an integer gives `feed_forward`, which is how timm reads it.
double ratio_of(std::int64_t width, std::int64_t feed_forward) {
  double ratio = static_cast<double>(feed_forward) / static_cast<double>(width);
  while (static_cast<std::int64_t>(static_cast<double>(width) * ratio) < feed_forward)
    ratio = std::nextafter(ratio, static_cast<double>(feed_forward));
  return ratio;
}

/// config.json as timm reads it: some named architecture, and all sizes in which this one may differ.
Json config_of(const Sizes& sizes, const batch::ImageSettings* images) {
  return timm_config({.architecture = "vit_base_patch16_224",
                      .features = sizes.width,
                      .classes = sizes.classes,
                      .pool = "token",
                      .first_layer = "patch_embed.proj",
                      .last_layer = "head",
                      .channels = sizes.channels,
                      .image_size = sizes.image,
                      .arguments = {{"img_size", sizes.image},
                                    {"patch_size", sizes.patch},
                                    {"embed_dim", sizes.width},
                                    {"depth", sizes.layers},
                                    {"num_heads", sizes.heads},
                                    {"mlp_ratio", ratio_of(sizes.width, sizes.feed_forward)}}},
                     images);
}

Sizes sizes_of(const batch::ModelSpec& spec, const ModelOptions& options) {
  const Json& given = spec.sizes;
  const auto count = [&](const char* key) { return given.at(key).get<std::int64_t>(); };
  return {.layers = count("layers"),
          .heads = count("heads"),
          .width = count("width"),
          .feed_forward = count("feed_forward"),
          .patch = count("patch_size"),
          .image = spec.image_size,
          .channels = spec.channels,
          .classes = spec.vocabulary != 0 ? spec.vocabulary : options.vocabulary,
          .epsilon = given.at("layer_norm_epsilon").get<double>(),
          .initializer_range = given.at("initializer_range").get<double>(),
          .dropout = options.dropout,
          .label_smoothing = options.label_smoothing};
}

Result<std::unique_ptr<train::Model>> make_vit(const batch::ModelSpec& spec, const ModelOptions& options) {
  const Sizes sizes = sizes_of(spec, options);
  SATURN_CHECK(sizes.classes > 0 && sizes.image > 0 && sizes.channels > 0,
               "what a preset leaves to the data is settled before a model is made");
  auto model = std::make_unique<train::Model>();
  model->family = spec.family;
  model->config = config_of(sizes, options.images);
  model->head_prefix = "head.";
  model->layers.push_back(std::make_unique<Embedding>(sizes));
  for (std::int64_t i = 0; i < sizes.layers; ++i) model->layers.push_back(std::make_unique<Block>(sizes, i));
  end_with(std::make_unique<ClassHead>(sizes), *model);
  return model;
}

}  // namespace

train::ModelEntry vit() {
  return {.family = "vit", .make = &make_vit};
}

}  // namespace saturn::models

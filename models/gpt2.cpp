// GPT-2: transformer blocks with LayerNorm before each part and learnt positions, their parameters named and
// laid out as Hugging Face has them (weights of affine maps as [inputs, outputs]).
//
// Source: Radford et al. 2019; GPT2LMHeadModel of `transformers`. Shapes: B rows, T tokens, C width, V
// vocabulary. In a tensor group T between the split regions is this rank's share of the sequence.

#include <ATen/TensorOperators.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/matmul.h>

#include <cmath>

#include "models/layers.h"
#include "saturn/batch/model_spec.h"
#include "saturn/train/model.h"
#include "saturn/train/ops.h"
#include "saturn/train/tensor_group.h"

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
  std::int64_t vocabulary = 0;
  std::int64_t positions = 0;
  double layer_norm_epsilon = 1e-5;
  double initializer_range = 0.02;
  bool tied_head = true;
  double dropout = 0.0;
};

struct Affine {
  ParameterPtr weight;
  ParameterPtr bias;

  /// A map whose outputs, if anything, are split.
  at::Tensor operator()(const at::Tensor& x) const { return ops::linear_map(x, *weight, bias->value); }

  /// A map whose inputs are split: the bias counts once in the sum over the group.
  at::Tensor partial(const at::Tensor& x, const train::TensorGroup* group) const {
    return ops::linear_map(x, *weight, ops::added_once(bias->value, group));
  }
};

/// How an affine map is cut over a tensor group: `column` by outputs, `row` by inputs with the bias whole.
enum class Cut { column, row };

/// What all layers share: the sizes, and declaring the parts they are made of. Base is Layer or Head.
template <class Base>
class Gpt2Layer : public SizedLayer<Base, Sizes> {
 public:
  using SizedLayer<Base, Sizes>::SizedLayer;

 protected:
  using SizedLayer<Base, Sizes>::sizes_;

  ParameterPtr declare_table(const std::string& name, std::int64_t rows) {
    return this->declare(
        {.name = name, .shape = {rows, sizes_.width}, .initial = normal(sizes_.initializer_range)});
  }

  ParameterPtr declare_token_table(const std::string& name) {
    const ParameterPtr table = declare_table(name, sizes_.vocabulary);
    table->split = {.dimension = 0};
    return table;
  }

  Affine declare_affine(const std::string& name, std::int64_t inputs, std::int64_t outputs, double deviation,
                        Cut cut, int num_blocks = 1) {
    const bool by_outputs = cut == Cut::column;
    return {.weight = this->declare({.name = name + ".weight",
                                     .shape = {inputs, outputs},
                                     .initial = normal(deviation),
                                     .split = {.dimension = by_outputs ? 1 : 0, .num_blocks = num_blocks},
                                     .outputs = 1}),
            .bias = this->declare({.name = name + ".bias",
                                   .shape = {outputs},
                                   .decays = false,
                                   .split = {.dimension = by_outputs ? 0 : -1, .num_blocks = num_blocks}})};
  }

  static Initial normal(double deviation) { return {Initial::Kind::normal, deviation}; }
};

class Embedding final : public Gpt2Layer<train::Layer> {
 public:
  explicit Embedding(const Sizes& sizes) : Gpt2Layer("transformer.embedding", sizes) {
    tokens_ = declare_token_table("transformer.wte.weight");
    positions_ = declare_table("transformer.wpe.weight", sizes.positions);
  }

  at::Tensor forward(const at::Tensor& tokens_BT, const StepContext& context) override {
    const bool tied_here = tokens_->num_users > 1;  // the head may lie on another rank
    const at::Tensor x_BTC =
        ops::embed(tokens_BT, tokens_->value, positions_->value, tied_here, table_split(context));
    return ops::dropout(x_BTC, drop_at(".sum", context));
  }

  const ParameterPtr& token_table() const { return tokens_; }

 private:
  ParameterPtr tokens_;
  ParameterPtr positions_;
};

class Block final : public Gpt2Layer<train::Layer> {
 public:
  Block(const Sizes& sizes, std::int64_t index) : Gpt2Layer("transformer.h." + std::to_string(index), sizes) {
    const double deviation = sizes.initializer_range;
    // The maps that write into the residual stream start smaller, so that its variance does not grow with
    // depth.
    const double residual = deviation / std::sqrt(2.0 * static_cast<double>(sizes.layers));
    attention_norm_ = declare_layer_norm(name() + ".ln_1", sizes.layer_norm_epsilon);
    qkv_ = declare_affine(name() + ".attn.c_attn", sizes.width, 3 * sizes.width, deviation, Cut::column,
                          /*num_blocks=*/3);
    attention_out_ = declare_affine(name() + ".attn.c_proj", sizes.width, sizes.width, residual, Cut::row);
    mlp_norm_ = declare_layer_norm(name() + ".ln_2", sizes.layer_norm_epsilon);
    fc_ = declare_affine(name() + ".mlp.c_fc", sizes.width, sizes.feed_forward, deviation, Cut::column);
    mlp_out_ = declare_affine(name() + ".mlp.c_proj", sizes.feed_forward, sizes.width, residual, Cut::row);
  }

  at::Tensor forward(const at::Tensor& x_BTC, const StepContext& context) override {
    const at::Tensor mid_BTC = x_BTC + attention(attention_norm_(x_BTC), context);
    return mid_BTC + mlp(mlp_norm_(mid_BTC), context);
  }

 private:
  at::Tensor attention(const at::Tensor& x_BTC, const StepContext& context) const {
    const std::int64_t head_size = sizes_.width / sizes_.heads;
    const double scale = 1.0 / std::sqrt(static_cast<double>(head_size));
    const at::Tensor qkv = qkv_(ops::enter_split(x_BTC, context.tensor));
    const train::Range heads = train::own_share(sizes_.heads, context.tensor);
    const std::int64_t first_probability = heads.first * qkv.size(1) * qkv.size(1);
    const at::Tensor mixed = ops::causal_attention(
        qkv, heads.count, scale, drop_at(".attn.probabilities", context, first_probability));
    const at::Tensor y_BTC = ops::leave_split(attention_out_.partial(mixed, context.tensor), context.tensor);
    return ops::dropout(y_BTC, drop_at(".attn", context));
  }

  at::Tensor mlp(const at::Tensor& x_BTC, const StepContext& context) const {
    const at::Tensor y_BTC = ops::leave_split(
        ops::gelu_mlp(ops::enter_split(x_BTC, context.tensor), *fc_.weight, fc_.bias->value, *mlp_out_.weight,
                      ops::added_once(mlp_out_.bias->value, context.tensor)),
        context.tensor);
    return ops::dropout(y_BTC, drop_at(".mlp", context));
  }

  LayerNorm attention_norm_;
  Affine qkv_;
  Affine attention_out_;
  LayerNorm mlp_norm_;
  Affine fc_;
  Affine mlp_out_;
};

class LanguageHead final : public Gpt2Layer<train::Head> {
 public:
  LanguageHead(const Sizes& sizes, const ParameterPtr& token_table) : Gpt2Layer("transformer.head", sizes) {
    norm_ = declare_layer_norm("transformer.ln_f", sizes.layer_norm_epsilon);
    table_ = sizes.tied_head ? share(token_table) : declare_token_table("lm_head.weight");
  }

  at::Tensor forward(const at::Tensor& x_BTC, const StepContext&) override {
    return at::matmul(norm_(x_BTC), table_->value.t());
  }

  at::Tensor loss(const at::Tensor& x_BTC, const at::Tensor& targets_BT,
                  const StepContext& context) override {
    return ops::head_cross_entropy(ops::enter_split(norm_(x_BTC), context.tensor), table_->value, targets_BT,
                                   context.loss_weight, table_split(context));
  }

 private:
  LayerNorm norm_;
  ParameterPtr table_;
};

/// config.json as `transformers` writes it for such a model.
Json config_of(const Sizes& sizes) {
  constexpr std::int64_t kPublishedVocabulary = 50257;
  const Json end_of_text = sizes.vocabulary == kPublishedVocabulary ? Json(kPublishedVocabulary - 1) : Json();
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"activation_function", "gelu_new"},
          {"attn_pdrop", sizes.dropout},
          {"bos_token_id", end_of_text},
          {"embd_pdrop", sizes.dropout},
          {"eos_token_id", end_of_text},
          {"initializer_range", sizes.initializer_range},
          {"layer_norm_epsilon", sizes.layer_norm_epsilon},
          {"n_embd", sizes.width},
          {"n_head", sizes.heads},
          {"n_inner", sizes.feed_forward},
          {"n_layer", sizes.layers},
          {"n_positions", sizes.positions},
          {"resid_pdrop", sizes.dropout},
          {"scale_attn_by_inverse_layer_idx", false},
          {"scale_attn_weights", true},
          {"tie_word_embeddings", sizes.tied_head},
          {"torch_dtype", "float32"},
          {"vocab_size", sizes.vocabulary}};
}

Sizes sizes_of(const batch::ModelSpec& spec, const ModelOptions& options) {
  const Json& given = spec.sizes;
  Sizes sizes{.layers = given.at("layers").get<std::int64_t>(),
              .heads = given.at("heads").get<std::int64_t>(),
              .width = given.at("width").get<std::int64_t>(),
              .feed_forward = given.at("feed_forward").get<std::int64_t>(),
              .vocabulary = spec.vocabulary != 0 ? spec.vocabulary : options.vocabulary,
              .positions = given.at("longest_sequence").get<std::int64_t>(),
              .layer_norm_epsilon = given.at("layer_norm_epsilon").get<double>(),
              .initializer_range = given.at("initializer_range").get<double>(),
              .tied_head = given.at("tied_head").get<bool>(),
              .dropout = options.dropout};
  if (sizes.feed_forward == 0) sizes.feed_forward = 4 * sizes.width;
  return sizes;
}

Result<std::unique_ptr<train::Model>> make_gpt2(const batch::ModelSpec& spec, const ModelOptions& options) {
  const Sizes sizes = sizes_of(spec, options);
  SATURN_CHECK(sizes.vocabulary > 0, "a model's vocabulary is settled before it is made");
  SATURN_CHECK(sizes.width % sizes.heads == 0, "the reader has checked that heads divide the width");
  auto model = std::make_unique<train::Model>();
  model->family = spec.family;
  model->config = config_of(sizes);
  model->base_prefix = "transformer.";
  model->ignored_suffixes = {".attn.bias", ".attn.masked_bias"};
  if (sizes.tied_head) model->ignored_suffixes.push_back("lm_head.weight");

  auto embedding = std::make_unique<Embedding>(sizes);
  const ParameterPtr token_table = embedding->token_table();
  model->layers.push_back(std::move(embedding));
  for (std::int64_t i = 0; i < sizes.layers; ++i) model->layers.push_back(std::make_unique<Block>(sizes, i));
  end_with(std::make_unique<LanguageHead>(sizes, token_table), *model);
  return model;
}

}  // namespace

train::ModelEntry gpt2() {
  return {.family = "gpt2", .make = &make_gpt2};
}

}  // namespace saturn::models

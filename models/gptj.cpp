// GPT-J: transformer blocks whose attention and two-layer part read one LayerNorm side by side, rotary
// positions in the first elements of each head; parameters named and laid out as Hugging Face has them
// (weights of linear maps as [outputs, inputs]).
//
// Source: Wang and Komatsuzaki 2021; GPTJForCausalLM of `transformers`. Shapes: B rows, T tokens, C width, V
// vocabulary, H heads, D head size. In a tensor group T between the split regions is this rank's share of the
// sequence.

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>

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
  std::int64_t rotary_size = 0;
  std::int64_t vocabulary = 0;
  std::int64_t positions = 0;
  double epsilon = 1e-5;
  double initializer_range = 0.02;
  double dropout = 0.0;
};

/// Turns of neighbouring pairs at the beginning of a head; the tables are made on first use, where the
/// queries lie.
class Rotary {
 public:
  explicit Rotary(std::int64_t size) : size_(size) {}

  at::Tensor operator()(const at::Tensor& x_BTHD) {
    const std::int64_t tokens = x_BTHD.size(1);
    if (!cos_T1R_.defined() || cos_T1R_.size(0) < tokens || cos_T1R_.device() != x_BTHD.device())
      prepare(tokens, x_BTHD.device());
    const auto table = [&](const at::Tensor& whole) {
      return whole.narrow(0, 0, tokens).to(x_BTHD.scalar_type());
    };
    const at::Tensor turned = x_BTHD.narrow(-1, 0, size_);
    std::vector<std::int64_t> pairs = turned.sizes().vec();
    pairs.back() = size_ / 2;
    pairs.push_back(2);
    const at::Tensor split = turned.reshape(pairs);
    const at::Tensor other = at::stack({-split.select(-1, 1), split.select(-1, 0)}, -1).flatten(-2);
    const at::Tensor done = turned * table(cos_T1R_) + other * table(sin_T1R_);
    const std::int64_t rest = x_BTHD.size(-1) - size_;
    return rest == 0 ? done : at::cat({done, x_BTHD.narrow(-1, size_, rest)}, -1);
  }

 private:
  void prepare(std::int64_t tokens, c10::Device device) {
    std::vector<float> frequencies;
    for (std::int64_t i = 0; i < size_; i += 2)
      frequencies.push_back(1.0F / std::pow(10000.0F, static_cast<float>(i) / static_cast<float>(size_)));
    const at::Tensor positions = at::arange(tokens, at::TensorOptions(at::kFloat));
    const at::Tensor angles = at::outer(positions, at::tensor(frequencies, at::kFloat));
    const at::Tensor angles_T1R = angles.repeat_interleave(2, 1).unsqueeze(1);
    cos_T1R_ = angles_T1R.cos().to(device);
    sin_T1R_ = angles_T1R.sin().to(device);
  }

  std::int64_t size_;
  at::Tensor cos_T1R_;
  at::Tensor sin_T1R_;
};

/// What all layers share: the sizes, and declaring the parts they are made of. Base is Layer or Head.
template <class Base>
class GptjLayer : public SizedLayer<Base, Sizes> {
 public:
  using SizedLayer<Base, Sizes>::SizedLayer;

 protected:
  using SizedLayer<Base, Sizes>::sizes_;

  /// `split_dimension`: 0 by outputs, 1 by inputs.
  ParameterPtr declare_weight(const std::string& name, std::int64_t inputs, std::int64_t outputs,
                              int split_dimension) {
    return this->declare({.name = name + ".weight",
                          .shape = {outputs, inputs},
                          .initial = {Initial::Kind::normal, sizes_.initializer_range},
                          .split = {.dimension = split_dimension},
                          .outputs = 0});
  }
  ParameterPtr declare_token_table(const std::string& name) {
    const ParameterPtr table = declare_weight(name, sizes_.width, sizes_.vocabulary, /*split_dimension=*/0);
    table->outputs = -1;
    return table;
  }

  /// `split_dimension`: -1 where every rank holds it whole.
  ParameterPtr declare_bias(const std::string& name, std::int64_t outputs, int split_dimension) {
    return this->declare({.name = name + ".bias",
                          .shape = {outputs},
                          .decays = false,
                          .split = {.dimension = split_dimension}});
  }
};

class Embedding final : public GptjLayer<train::Layer> {
 public:
  explicit Embedding(const Sizes& sizes) : GptjLayer("transformer.embedding", sizes) {
    tokens_ = declare_token_table("transformer.wte");
  }

  at::Tensor forward(const at::Tensor& tokens_BT, const StepContext& context) override {
    const at::Tensor x_BTC =
        ops::embed_tokens(tokens_BT, tokens_->value, /*tied=*/false, table_split(context));
    return ops::dropout(x_BTC, drop_at(".sum", context));
  }

 private:
  ParameterPtr tokens_;
};

class Block final : public GptjLayer<train::Layer> {
 public:
  Block(const Sizes& sizes, std::int64_t index, std::shared_ptr<Rotary> rotary)
      : GptjLayer("transformer.h." + std::to_string(index), sizes), rotary_(std::move(rotary)) {
    const std::int64_t width = sizes.width;
    norm_ = declare_layer_norm(name() + ".ln_1", sizes.epsilon);
    q_ = declare_weight(name() + ".attn.q_proj", width, width, 0);
    k_ = declare_weight(name() + ".attn.k_proj", width, width, 0);
    v_ = declare_weight(name() + ".attn.v_proj", width, width, 0);
    out_ = declare_weight(name() + ".attn.out_proj", width, width, 1);
    fc_ = declare_weight(name() + ".mlp.fc_in", width, sizes.feed_forward, 0);
    fc_bias_ = declare_bias(name() + ".mlp.fc_in", sizes.feed_forward, 0);
    proj_ = declare_weight(name() + ".mlp.fc_out", sizes.feed_forward, width, 1);
    proj_bias_ = declare_bias(name() + ".mlp.fc_out", width, -1);
  }

  /// Both parts read one input, so that a tensor group gathers and sums once for the two; with dropout, which
  /// falls on each part's sum, twice.
  at::Tensor forward(const at::Tensor& x_BTC, const StepContext& context) override {
    const at::Tensor y_BTC = ops::enter_split(norm_(x_BTC), context.tensor);
    const at::Tensor attended = attention(y_BTC, context);
    const at::Tensor thought = ops::gelu_mlp(y_BTC, *fc_, fc_bias_->value, *proj_,
                                             ops::added_once(proj_bias_->value, context.tensor));
    if (!context.training || sizes_.dropout == 0.0)
      return x_BTC + ops::leave_split(attended + thought, context.tensor);
    return x_BTC + ops::dropout(ops::leave_split(attended, context.tensor), drop_at(".attn", context)) +
           ops::dropout(ops::leave_split(thought, context.tensor), drop_at(".mlp", context));
  }

 private:
  at::Tensor attention(const at::Tensor& x, const StepContext& context) {
    const std::int64_t rows = x.size(0);
    const std::int64_t tokens = x.size(1);
    const std::int64_t head_size = sizes_.width / sizes_.heads;
    const auto heads_of = [&](const ParameterPtr& weight) {
      return ops::linear_map(x, *weight).view({rows, tokens, -1, head_size});
    };
    const at::Tensor q_BTHD = (*rotary_)(heads_of(q_));
    const at::Tensor k_BTHD = (*rotary_)(heads_of(k_));
    const at::Tensor v_BTHD = heads_of(v_);
    const train::Range heads = train::own_share(sizes_.heads, context.tensor);
    const at::Tensor qkv = at::cat({q_BTHD.flatten(2), k_BTHD.flatten(2), v_BTHD.flatten(2)}, -1);
    const double scale = 1.0 / std::sqrt(static_cast<double>(head_size));
    const at::Tensor mixed = ops::causal_attention(
        qkv, heads.count, scale, drop_at(".attn.probabilities", context, heads.first * tokens * tokens));
    return ops::linear_map(mixed, *out_);
  }

  std::shared_ptr<Rotary> rotary_;  // of all blocks
  LayerNorm norm_;
  ParameterPtr q_;
  ParameterPtr k_;
  ParameterPtr v_;
  ParameterPtr out_;
  ParameterPtr fc_;
  ParameterPtr fc_bias_;
  ParameterPtr proj_;
  ParameterPtr proj_bias_;
};

class LanguageHead final : public GptjLayer<train::Head> {
 public:
  explicit LanguageHead(const Sizes& sizes) : GptjLayer("transformer.head", sizes) {
    norm_ = declare_layer_norm("transformer.ln_f", sizes.epsilon);
    table_ = declare_token_table("lm_head");
    bias_ = declare_bias("lm_head", sizes.vocabulary, 0);
  }

  at::Tensor forward(const at::Tensor& x_BTC, const StepContext&) override {
    return at::linear(norm_(x_BTC), table_->value, bias_->value);
  }

  at::Tensor loss(const at::Tensor& x_BTC, const at::Tensor& targets_BT,
                  const StepContext& context) override {
    const at::Tensor y = ops::enter_split(norm_(x_BTC), context.tensor);
    return ops::head_cross_entropy(y, table_->value, targets_BT, context.loss_weight, table_split(context),
                                   bias_->value);
  }

 private:
  LayerNorm norm_;
  ParameterPtr table_;
  ParameterPtr bias_;
};

/// config.json as `transformers` writes it for such a model.
Json config_of(const Sizes& sizes) {
  constexpr std::int64_t kPublishedVocabulary = 50400;
  constexpr std::int64_t kEndOfText = 50256;  // of GPT-2's tokenizer, which the published model uses
  const Json end_of_text = sizes.vocabulary == kPublishedVocabulary ? Json(kEndOfText) : Json();
  return {{"architectures", {"GPTJForCausalLM"}},
          {"model_type", "gptj"},
          {"activation_function", "gelu_new"},
          {"attn_pdrop", sizes.dropout},
          {"bos_token_id", end_of_text},
          {"embd_pdrop", sizes.dropout},
          {"eos_token_id", end_of_text},
          {"initializer_range", sizes.initializer_range},
          {"layer_norm_epsilon", sizes.epsilon},
          {"n_embd", sizes.width},
          {"n_head", sizes.heads},
          {"n_inner", sizes.feed_forward},
          {"n_layer", sizes.layers},
          {"n_positions", sizes.positions},
          {"resid_pdrop", sizes.dropout},
          {"rotary_dim", sizes.rotary_size},
          {"tie_word_embeddings", false},
          {"torch_dtype", "float32"},
          {"vocab_size", sizes.vocabulary}};
}

Sizes sizes_of(const batch::ModelSpec& spec, const ModelOptions& options) {
  const Json& given = spec.sizes;
  const auto count = [&](const char* key) { return given.at(key).get<std::int64_t>(); };
  return {.layers = count("layers"),
          .heads = count("heads"),
          .width = count("width"),
          .feed_forward = count("feed_forward"),
          .rotary_size = count("rotary_size"),
          .vocabulary = spec.vocabulary != 0 ? spec.vocabulary : options.vocabulary,
          .positions = count("longest_sequence"),
          .epsilon = given.at("layer_norm_epsilon").get<double>(),
          .initializer_range = given.at("initializer_range").get<double>(),
          .dropout = options.dropout};
}

Result<std::unique_ptr<train::Model>> make_gptj(const batch::ModelSpec& spec, const ModelOptions& options) {
  const Sizes sizes = sizes_of(spec, options);
  SATURN_CHECK(sizes.vocabulary > 0, "a model's vocabulary is settled before it is made");
  SATURN_CHECK(sizes.width % sizes.heads == 0, "the reader has checked that heads divide the width");
  auto model = std::make_unique<train::Model>();
  model->family = spec.family;
  model->config = config_of(sizes);
  model->base_prefix = "transformer.";
  model->ignored_suffixes = {".attn.bias", ".attn.masked_bias", ".attn.embed_positions"};
  model->layers.push_back(std::make_unique<Embedding>(sizes));
  const auto rotary = std::make_shared<Rotary>(sizes.rotary_size);
  for (std::int64_t i = 0; i < sizes.layers; ++i)
    model->layers.push_back(std::make_unique<Block>(sizes, i, rotary));
  end_with(std::make_unique<LanguageHead>(sizes), *model);
  return model;
}

}  // namespace

train::ModelEntry gptj() {
  return {.family = "gptj", .make = &make_gptj};
}

}  // namespace saturn::models

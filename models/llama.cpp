// LLaMA: transformer blocks with RMSNorm before each part, rotary positions, grouped-query attention and a
// gated part, their parameters named and laid out as Hugging Face has them (weights of linear maps as
// [outputs, inputs]).
//
// Source: Touvron et al. 2023; Dubey et al. 2024 (scaled positions); LlamaForCausalLM of `transformers`.
// Shapes: B rows, T tokens, C width, V vocabulary, H heads, G heads of keys and values, D head size. In a
// tensor group T between the split regions is this rank's share of the sequence.

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/outer.h>
#include <ATen/ops/rms_norm.h>
#include <ATen/ops/tensor.h>

#include <cmath>
#include <numbers>

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

struct Rope {
  double theta = 10000.0;
  double factor = 0.0;  // 0: positions are not scaled
  double low_frequency = 1.0;
  double high_frequency = 4.0;
  std::int64_t original_length = 8192;
};

struct Sizes {
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_size = 0;
  std::int64_t width = 0;
  std::int64_t feed_forward = 0;
  std::int64_t vocabulary = 0;
  std::int64_t positions = 0;
  double epsilon = 1e-5;
  double initializer_range = 0.02;
  Rope rope;
  bool tied_head = false;
  double dropout = 0.0;
};

/// Turns of each pair of a head at every position; made on first use, where the queries lie.
class Rotary {
 public:
  explicit Rotary(const Sizes& sizes) : sizes_(sizes) {}

  /// `x_BTHD` with the first half of each head turned against the second.
  at::Tensor operator()(const at::Tensor& x_BTHD) {
    const std::int64_t tokens = x_BTHD.size(1);
    if (!cos_TD_.defined() || cos_TD_.size(0) < tokens || cos_TD_.device() != x_BTHD.device())
      prepare(tokens, x_BTHD.device());
    const auto turn = [&](const at::Tensor& table_TD) {
      return table_TD.narrow(0, 0, tokens).unsqueeze(1).to(x_BTHD.scalar_type());
    };
    const std::int64_t half = sizes_.head_size / 2;
    const at::Tensor other = at::cat({-x_BTHD.narrow(-1, half, half), x_BTHD.narrow(-1, 0, half)}, -1);
    return x_BTHD * turn(cos_TD_) + other * turn(sin_TD_);
  }

 private:
  /// Frequencies in fp32, as the reference has them.
  std::vector<float> frequencies() const {
    const Rope& rope = sizes_.rope;
    std::vector<float> all;
    for (std::int64_t i = 0; i < sizes_.head_size; i += 2) {
      const auto power = static_cast<float>(i) / static_cast<float>(sizes_.head_size);
      float frequency = 1.0F / std::pow(static_cast<float>(rope.theta), power);
      if (rope.factor > 0.0) frequency = scaled(frequency);
      all.push_back(frequency);
    }
    return all;
  }

  /// Short wave lengths as they are, long ones slower by the factor, those between them in part.
  float scaled(float frequency) const {
    const Rope& rope = sizes_.rope;
    const auto length = static_cast<double>(rope.original_length);
    const double wave = 2.0 * std::numbers::pi / frequency;
    if (wave < length / rope.high_frequency) return frequency;
    if (wave > length / rope.low_frequency) return static_cast<float>(frequency / rope.factor);
    const double kept = (length / wave - rope.low_frequency) / (rope.high_frequency - rope.low_frequency);
    return static_cast<float>((1.0 - kept) * frequency / rope.factor + kept * frequency);
  }

  void prepare(std::int64_t tokens, c10::Device device) {
    const at::Tensor positions = at::arange(tokens, at::TensorOptions(at::kFloat));
    const at::Tensor angles = at::outer(positions, at::tensor(frequencies(), at::kFloat));
    const at::Tensor angles_TD = at::cat({angles, angles}, -1);
    cos_TD_ = angles_TD.cos().to(device);
    sin_TD_ = angles_TD.sin().to(device);
  }

  Sizes sizes_;
  at::Tensor cos_TD_;
  at::Tensor sin_TD_;
};

/// What all layers share: the sizes, and declaring the parts they are made of. Base is Layer or Head.
template <class Base>
class LlamaLayer : public SizedLayer<Base, Sizes> {
 public:
  using SizedLayer<Base, Sizes>::SizedLayer;

 protected:
  using SizedLayer<Base, Sizes>::sizes_;

  ParameterPtr declare_token_table(const std::string& name) {
    const ParameterPtr table = declare_linear(name, sizes_.width, sizes_.vocabulary, /*split_dimension=*/0);
    table->outputs = -1;
    return table;
  }

  ParameterPtr declare_norm(const std::string& name) {
    return this->declare({.name = name + ".weight",
                          .shape = {sizes_.width},
                          .initial = {Initial::Kind::ones},
                          .decays = false});
  }

  /// `split_dimension`: 0 by outputs, 1 by inputs.
  ParameterPtr declare_linear(const std::string& name, std::int64_t inputs, std::int64_t outputs,
                              int split_dimension) {
    return this->declare({.name = name + ".weight",
                          .shape = {outputs, inputs},
                          .initial = {Initial::Kind::normal, sizes_.initializer_range},
                          .split = {.dimension = split_dimension},
                          .outputs = 0});
  }

  at::Tensor norm(const at::Tensor& x_BTC, const ParameterPtr& weight) const {
    return at::rms_norm(x_BTC, weight->value.sizes(), weight->value, sizes_.epsilon);
  }
};

class Embedding final : public LlamaLayer<train::Layer> {
 public:
  explicit Embedding(const Sizes& sizes) : LlamaLayer("model.embedding", sizes) {
    tokens_ = declare_token_table("model.embed_tokens");
  }

  at::Tensor forward(const at::Tensor& tokens_BT, const StepContext& context) override {
    const bool tied_here = tokens_->num_users > 1;  // the head may lie on another rank
    return ops::embed_tokens(tokens_BT, tokens_->value, tied_here, table_split(context));
  }

  const ParameterPtr& token_table() const { return tokens_; }

 private:
  ParameterPtr tokens_;
};

class Block final : public LlamaLayer<train::Layer> {
 public:
  Block(const Sizes& sizes, std::int64_t index, std::shared_ptr<Rotary> rotary)
      : LlamaLayer("model.layers." + std::to_string(index), sizes), rotary_(std::move(rotary)) {
    const std::int64_t kv_width = sizes.kv_heads * sizes.head_size;
    const std::int64_t q_width = sizes.heads * sizes.head_size;
    attention_norm_ = declare_norm(name() + ".input_layernorm");
    q_ = declare_linear(name() + ".self_attn.q_proj", sizes.width, q_width, 0);
    k_ = declare_linear(name() + ".self_attn.k_proj", sizes.width, kv_width, 0);
    v_ = declare_linear(name() + ".self_attn.v_proj", sizes.width, kv_width, 0);
    out_ = declare_linear(name() + ".self_attn.o_proj", q_width, sizes.width, 1);
    mlp_norm_ = declare_norm(name() + ".post_attention_layernorm");
    gate_ = declare_linear(name() + ".mlp.gate_proj", sizes.width, sizes.feed_forward, 0);
    up_ = declare_linear(name() + ".mlp.up_proj", sizes.width, sizes.feed_forward, 0);
    down_ = declare_linear(name() + ".mlp.down_proj", sizes.feed_forward, sizes.width, 1);
  }

  at::Tensor forward(const at::Tensor& x_BTC, const StepContext& context) override {
    const at::Tensor mid_BTC = x_BTC + attention(norm(x_BTC, attention_norm_), context);
    return mid_BTC + mlp(norm(mid_BTC, mlp_norm_), context);
  }

 private:
  at::Tensor attention(const at::Tensor& x_BTC, const StepContext& context) {
    const at::Tensor x = ops::enter_split(x_BTC, context.tensor);
    const std::int64_t rows = x.size(0);
    const std::int64_t tokens = x.size(1);
    const auto heads_of = [&](const ParameterPtr& weight) {
      return ops::linear_map(x, *weight).view({rows, tokens, -1, sizes_.head_size});
    };
    const at::Tensor q_BTHD = (*rotary_)(heads_of(q_));
    const at::Tensor k_BTGD = (*rotary_)(heads_of(k_));
    const at::Tensor v_BTGD = heads_of(v_);
    const std::int64_t heads = q_BTHD.size(2);
    const auto flat = [&](const at::Tensor& x_BTGD) {
      const std::int64_t group = heads / x_BTGD.size(2);
      return x_BTGD.unsqueeze(3)
          .expand({rows, tokens, x_BTGD.size(2), group, sizes_.head_size})
          .reshape({rows, tokens, heads * sizes_.head_size});
    };
    const std::int64_t first_head = train::own_share(sizes_.heads, context.tensor).first;
    const ops::DropoutSite drop = drop_at(".self_attn.probabilities", context, first_head * tokens * tokens);
    const double scale = 1.0 / std::sqrt(static_cast<double>(sizes_.head_size));
    const at::Tensor mixed =
        ops::causal_attention(at::cat({flat(q_BTHD), flat(k_BTGD), flat(v_BTGD)}, -1), heads, scale, drop);
    return ops::leave_split(ops::linear_map(mixed, *out_), context.tensor);
  }

  at::Tensor mlp(const at::Tensor& x_BTC, const StepContext& context) const {
    const at::Tensor x = ops::enter_split(x_BTC, context.tensor);
    const at::Tensor hidden = ops::gated_silu(ops::linear_map(x, *gate_), ops::linear_map(x, *up_));
    return ops::leave_split(ops::linear_map(hidden, *down_), context.tensor);
  }

  std::shared_ptr<Rotary> rotary_;  // of all blocks
  ParameterPtr attention_norm_;
  ParameterPtr q_;
  ParameterPtr k_;
  ParameterPtr v_;
  ParameterPtr out_;
  ParameterPtr mlp_norm_;
  ParameterPtr gate_;
  ParameterPtr up_;
  ParameterPtr down_;
};

class LanguageHead final : public LlamaLayer<train::Head> {
 public:
  LanguageHead(const Sizes& sizes, const ParameterPtr& token_table) : LlamaLayer("model.head", sizes) {
    norm_ = declare_norm("model.norm");
    table_ = sizes.tied_head ? share(token_table) : declare_token_table("lm_head");
  }

  at::Tensor forward(const at::Tensor& x_BTC, const StepContext&) override {
    return at::matmul(norm(x_BTC, norm_), table_->value.t());
  }

  at::Tensor loss(const at::Tensor& x_BTC, const at::Tensor& targets_BT,
                  const StepContext& context) override {
    return ops::head_cross_entropy(ops::enter_split(norm(x_BTC, norm_), context.tensor), table_->value,
                                   targets_BT, context.loss_weight, table_split(context));
  }

 private:
  ParameterPtr norm_;
  ParameterPtr table_;
};

/// config.json as `transformers` reads it for such a model, also before it wrote `rope_parameters`.
Json config_of(const Sizes& sizes) {
  Json scaling;
  if (sizes.rope.factor > 0.0) {
    scaling = {{"rope_type", "llama3"},
               {"factor", sizes.rope.factor},
               {"low_freq_factor", sizes.rope.low_frequency},
               {"high_freq_factor", sizes.rope.high_frequency},
               {"original_max_position_embeddings", sizes.rope.original_length}};
  }
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"attention_bias", false},
          {"attention_dropout", sizes.dropout},
          {"head_dim", sizes.head_size},
          {"hidden_act", "silu"},
          {"hidden_size", sizes.width},
          {"initializer_range", sizes.initializer_range},
          {"intermediate_size", sizes.feed_forward},
          {"max_position_embeddings", sizes.positions},
          {"mlp_bias", false},
          {"num_attention_heads", sizes.heads},
          {"num_hidden_layers", sizes.layers},
          {"num_key_value_heads", sizes.kv_heads},
          {"rms_norm_eps", sizes.epsilon},
          {"rope_scaling", scaling},
          {"rope_theta", sizes.rope.theta},
          {"tie_word_embeddings", sizes.tied_head},
          {"torch_dtype", "float32"},
          {"vocab_size", sizes.vocabulary}};
}

Sizes sizes_of(const batch::ModelSpec& spec, const ModelOptions& options) {
  const Json& given = spec.sizes;
  const auto count = [&](const char* key) { return given.at(key).get<std::int64_t>(); };
  const auto number = [&](const char* key) { return given.at(key).get<double>(); };
  return {.layers = count("layers"),
          .heads = count("heads"),
          .kv_heads = count("kv_heads"),
          .head_size = count("head_size"),
          .width = count("width"),
          .feed_forward = count("feed_forward"),
          .vocabulary = spec.vocabulary != 0 ? spec.vocabulary : options.vocabulary,
          .positions = count("longest_sequence"),
          .epsilon = number("rms_norm_epsilon"),
          .initializer_range = number("initializer_range"),
          .rope = {.theta = number("rope_theta"),
                   .factor = number("rope_factor"),
                   .low_frequency = number("rope_low_frequency"),
                   .high_frequency = number("rope_high_frequency"),
                   .original_length = count("rope_original_length")},
          .tied_head = given.at("tied_head").get<bool>(),
          .dropout = options.dropout};
}

Result<std::unique_ptr<train::Model>> make_llama(const batch::ModelSpec& spec, const ModelOptions& options) {
  const Sizes sizes = sizes_of(spec, options);
  SATURN_CHECK(sizes.vocabulary > 0, "a model's vocabulary is settled before it is made");
  SATURN_CHECK(sizes.heads % sizes.kv_heads == 0, "the reader has checked that heads share keys evenly");
  auto model = std::make_unique<train::Model>();
  model->family = spec.family;
  model->config = config_of(sizes);
  model->base_prefix = "model.";
  model->ignored_suffixes = {".rotary_emb.inv_freq"};
  if (sizes.tied_head) model->ignored_suffixes.push_back("lm_head.weight");

  auto embedding = std::make_unique<Embedding>(sizes);
  const ParameterPtr token_table = embedding->token_table();
  model->layers.push_back(std::move(embedding));
  const auto rotary = std::make_shared<Rotary>(sizes);
  for (std::int64_t i = 0; i < sizes.layers; ++i)
    model->layers.push_back(std::make_unique<Block>(sizes, i, rotary));
  end_with(std::make_unique<LanguageHead>(sizes, token_table), *model);
  return model;
}

}  // namespace

train::ModelEntry llama() {
  return {.family = "llama", .make = &make_llama};
}

}  // namespace saturn::models

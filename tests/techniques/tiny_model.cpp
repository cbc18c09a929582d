// The tiny model, in plain ATen.

#include "tests/techniques/tiny_model.h"

#include <ATen/ATen.h>

#include <cmath>

#include "saturn/base/random.h"

namespace saturn::testing {
namespace {

using train::Initial;
using train::ParameterPtr;
using train::StepContext;

/// Zeroes a share of the elements by a counter over the rows of the global batch, and scales up the rest.
at::Tensor dropout(const at::Tensor& x, double probability, std::uint64_t place, const StepContext& context) {
  if (!context.training || probability == 0.0) return x;
  at::Tensor mask = at::empty(x.sizes(), at::kFloat);
  float* values = mask.mutable_data_ptr<float>();
  const std::int64_t per_row = x.numel() / x.size(0);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    Random random(mix_key(context.seed, static_cast<std::uint64_t>(context.step), place,
                          static_cast<std::uint64_t>(context.first_row + i / per_row),
                          static_cast<std::uint64_t>(i % per_row)));
    values[i] = random.uniform() < probability ? 0.0f : static_cast<float>(1.0 / (1.0 - probability));
  }
  return x * mask.to(x.scalar_type());
}

class Embedding final : public train::Layer {
 public:
  explicit Embedding(const TinySizes& sizes)
      : Layer("embedding"),
        dropout_(sizes.dropout),
        table_(declare({.name = "wte.weight",
                        .shape = {sizes.vocabulary, sizes.width},
                        .initial = {Initial::Kind::normal, 0.1}})) {}
  at::Tensor forward(const at::Tensor& tokens_BT, const StepContext& context) override {
    return dropout(at::embedding(table_->value, tokens_BT), dropout_, 1, context);
  }
  const ParameterPtr& table() const { return table_; }

 private:
  double dropout_;
  ParameterPtr table_;
};

class Block final : public train::Layer {
 public:
  Block(const TinySizes& sizes, std::int64_t index)
      : Layer("h." + std::to_string(index)),
        dropout_(sizes.dropout),
        place_(static_cast<std::uint64_t>(index) + 2) {
    const double scale = 1.0 / std::sqrt(static_cast<double>(sizes.width));
    // Not in the order of use: an order of buckets that is taken from the first backward differs from this
    // one.
    down_ = declare({name() + ".down.weight",
                     {2 * sizes.width, sizes.width},
                     {Initial::Kind::normal, scale},
                     true,
                     {},
                     {}});
    norm_ = declare({name() + ".norm.weight", {sizes.width}, {Initial::Kind::ones}, false, {}, {}});
    up_ = declare({name() + ".up.weight",
                   {sizes.width, 2 * sizes.width},
                   {Initial::Kind::normal, scale},
                   true,
                   {},
                   {}});
    bias_ = declare({name() + ".up.bias", {2 * sizes.width}, {Initial::Kind::zeros}, false, {}, {}});
  }
  at::Tensor forward(const at::Tensor& x_BTC, const StepContext& context) override {
    const at::Tensor counts = at::arange(1, x_BTC.size(1) + 1, x_BTC.options()).view({1, -1, 1});
    const at::Tensor past_BTC = x_BTC.cumsum(1).to(x_BTC.scalar_type()) / counts;
    const at::Tensor normed = at::layer_norm(x_BTC + past_BTC, {x_BTC.size(2)}, norm_->value, {});
    const at::Tensor hidden = at::tanh(at::matmul(normed, up_->value) + bias_->value);
    return x_BTC + dropout(at::matmul(hidden, down_->value), dropout_, place_, context);
  }

 private:
  double dropout_;
  std::uint64_t place_;
  ParameterPtr norm_, up_, bias_, down_;
};

class TinyHead final : public train::Head {
 public:
  explicit TinyHead(ParameterPtr table) : Head("head"), table_(share(std::move(table))) {}
  at::Tensor forward(const at::Tensor& x_BTC, const StepContext&) override {
    return at::matmul(x_BTC, table_->value.t());
  }
  at::Tensor loss(const at::Tensor& x_BTC, const at::Tensor& targets_BT,
                  const StepContext& context) override {
    const at::Tensor logits = forward(x_BTC, context).to(at::kFloat);
    return at::cross_entropy_loss(logits.flatten(0, 1), targets_BT.flatten(), {}, at::Reduction::Sum) *
           context.loss_weight;
  }

 private:
  ParameterPtr table_;
};

}  // namespace

std::unique_ptr<train::Model> make_tiny_model(const TinySizes& sizes) {
  auto model = std::make_unique<train::Model>();
  model->family = "tiny";
  auto embedding = std::make_unique<Embedding>(sizes);
  const ParameterPtr table = embedding->table();
  model->layers.push_back(std::move(embedding));
  for (std::int64_t i = 0; i < sizes.num_blocks; ++i)
    model->layers.push_back(std::make_unique<Block>(sizes, i));
  auto head = std::make_unique<TinyHead>(table);
  model->head = head.get();
  model->layers.push_back(std::move(head));
  return model;
}

}  // namespace saturn::testing

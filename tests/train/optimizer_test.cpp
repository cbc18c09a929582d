// AdamW, SGD and Lion against their formulae in double precision, clipping folded in, and the norm it clips
// by.

#include "saturn/train/optimizer.h"

#include <cmath>
#include <vector>

#include "tests/support/torch_doctest.h"

namespace saturn::train {
namespace {

/// AdamW on one element, as published (Loshchilov and Hutter), in double precision.
struct Reference {
  double weight, first = 0.0, second = 0.0;
  void step(const batch::Optimizer& s, double gradient, std::int64_t t, double lr, bool decays) {
    weight -= lr * (decays ? s.weight_decay : 0.0) * weight;
    first = s.beta1 * first + (1 - s.beta1) * gradient;
    second = s.beta2 * second + (1 - s.beta2) * gradient * gradient;
    const double corrected = first / (1 - std::pow(s.beta1, static_cast<double>(t)));
    const double root = std::sqrt(second / (1 - std::pow(s.beta2, static_cast<double>(t)))) + s.eps;
    weight -= lr * corrected / root;
  }
};

}  // namespace

TEST_SUITE("train") {
  TEST_CASE("train/optimizer: AdamW follows its formula with and without decay and clipping") {
    const batch::Optimizer settings{
        .lr = 1e-2, .weight_decay = 0.3, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-8};
    // 37 elements: whole vectors and a tail.
    const at::Tensor decayed = at::linspace(-1.0, 1.0, 37), kept = at::linspace(0.5, 2.0, 5);
    std::vector<Reference> want;
    for (const at::Tensor& tensor : {decayed, kept})
      for (std::int64_t i = 0; i < tensor.numel(); ++i) want.push_back({tensor[i].item<double>()});
    Optimizer optimizer(settings, {{decayed, true}, {kept, false}});
    for (std::int64_t step = 0; step < 8; ++step) {
      const at::Tensor a = at::sin(at::arange(37, at::kFloat) * 0.7 + static_cast<double>(step));
      const at::Tensor b = at::cos(at::arange(5, at::kFloat) - static_cast<double>(step)) * 3.0;
      const double scale = step % 2 == 0 ? 1.0 : 0.25;
      const double lr = 1e-2 * static_cast<double>(step + 1);
      for (std::int64_t i = 0; i < 42; ++i) {
        const double gradient = (i < 37 ? a[i] : b[i - 37]).item<double>() * scale;
        want[static_cast<std::size_t>(i)].step(settings, gradient, step + 1, lr, i < 37);
      }
      optimizer.step({a, b}, step, lr, scale);
    }
    for (std::int64_t i = 0; i < 42; ++i) {
      CAPTURE(i);
      const double got = (i < 37 ? decayed[i] : kept[i - 37]).item<double>();
      CHECK(std::abs(got - want[static_cast<std::size_t>(i)].weight) < 2e-6);
    }
    REQUIRE(optimizer.state().size() == 2);
    CHECK(optimizer.state()[0].role == "exp_avg");
    CHECK(optimizer.state()[1].tensors[0][3].item<double>() == doctest::Approx(want[3].second).epsilon(1e-5));
  }

  TEST_CASE("train/optimizer: SGD and Lion follow their formulae with and without decay and clipping") {
    struct Row {
      std::string kind;
      double momentum;
      std::vector<std::string> roles;
    };
    const std::vector<Row> rows = {
        {"sgd", 0.0, {}}, {"sgd", 0.9, {"momentum_buffer"}}, {"lion", 0.0, {"exp_avg"}}};
    for (const Row& row : rows) {
      CAPTURE(row.kind);
      CAPTURE(row.momentum);
      const batch::Optimizer settings{.kind = row.kind,
                                      .lr = 1e-2,
                                      .weight_decay = 0.3,
                                      .beta1 = 0.8,
                                      .beta2 = 0.95,
                                      .momentum = row.momentum};
      CHECK(Optimizer::roles(settings) == row.roles);
      const at::Tensor decayed = at::linspace(-1.0, 1.0, 37), kept = at::linspace(0.5, 2.0, 5);
      std::vector<double> weights, moments(42, 0.0);
      for (const at::Tensor& tensor : {decayed, kept})
        for (std::int64_t i = 0; i < tensor.numel(); ++i) weights.push_back(tensor[i].item<double>());
      Optimizer optimizer(settings, {{decayed, true}, {kept, false}});
      for (std::int64_t step = 0; step < 8; ++step) {
        const at::Tensor a = at::sin(at::arange(37, at::kFloat) * 0.7 + static_cast<double>(step));
        const at::Tensor b = at::cos(at::arange(5, at::kFloat) - static_cast<double>(step)) * 3.0;
        const double scale = step % 2 == 0 ? 1.0 : 0.25;
        const double lr = 1e-2 * static_cast<double>(step + 1);
        for (std::size_t i = 0; i < 42; ++i) {
          const auto at = static_cast<std::int64_t>(i);
          const double gradient = (i < 37 ? a[at] : b[at - 37]).item<double>() * scale;
          const double decay = i < 37 ? settings.weight_decay : 0.0;
          double& weight = weights[i];
          double& moment = moments[i];
          if (row.kind == "sgd") {
            moment = row.momentum * moment + gradient + decay * weight;
            weight -= lr * moment;
          } else {
            const double direction = settings.beta1 * moment + (1 - settings.beta1) * gradient;
            weight -= lr * decay * weight;
            weight -= lr * (direction > 0 ? 1.0 : direction < 0 ? -1.0 : 0.0);
            moment = settings.beta2 * moment + (1 - settings.beta2) * gradient;
          }
        }
        optimizer.step({a, b}, step, lr, scale);
      }
      for (std::int64_t i = 0; i < 42; ++i) {
        CAPTURE(i);
        const double got = (i < 37 ? decayed[i] : kept[i - 37]).item<double>();
        CHECK(std::abs(got - weights[static_cast<std::size_t>(i)]) < 2e-6);
      }
    }
  }

  TEST_CASE("train/optimizer: the global norm is that of all tensors together") {
    const double norm = global_norm({at::full({3, 2}, 2.0), at::full({1}, 5.0), at::zeros({4})});
    CHECK(norm == doctest::Approx(7.0));
    CHECK(std::isnan(global_norm({at::full({1}, NAN), at::ones({2})})));
    CHECK(clip_scale(7.0, 3.5) == doctest::Approx(0.5));
    CHECK(clip_scale(7.0, 0.0) == 1.0);
    CHECK(clip_scale(2.0, 3.5) == 1.0);
  }
}

}  // namespace saturn::train

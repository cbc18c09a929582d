// GELU in its tanh form: 0.5 x (1 + tanh(u)) is x * sigmoid(2u), so one exponential gives value and slope.

#include "train/ops/gelu.h"

#include <ATen/Parallel.h>
#include <ATen/ops/add.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gelu.h>
#include <ATen/ops/gelu_backward.h>
#include <ATen/ops/ones_like.h>

#include "train/ops/vector_math.h"

namespace saturn::train::ops {
namespace {

constexpr float kTwoSqrt2OverPi = 1.5957691216057308f;
constexpr float kCubic = 0.044715f;

/// sigmoid(2u), where 2u is bounded so that the exponential stays finite.
template <int L>
SATURN_INLINE Floats<L> gate(Floats<L> x) {
  const Floats<L> minus_2u = x * (x * x * kCubic + 1.0f) * -kTwoSqrt2OverPi;
  return 1.0f / (exp_of<L>(minus_2u < 80.0f ? minus_2u : Floats<L>{} + 80.0f) + 1.0f);
}

template <int L>
SATURN_INLINE Floats<L> slope(Floats<L> x, Floats<L> s) {
  return s + x * s * (1.0f - s) * (x * x * (3.0f * kCubic) + 1.0f) * kTwoSqrt2OverPi;
}

struct WithSlope {
  template <int L>
  SATURN_INLINE static void run(float* x, const float* bias, float* y, std::int64_t width) {
    std::int64_t i = 0;
    for (; i + L <= width; i += L) {
      const Floats<L> v = load<L>(x + i) + load<L>(bias + i);
      const Floats<L> s = gate<L>(v);
      store<L>(y + i, v * s);
      store<L>(x + i, slope<L>(v, s));
    }
    if (const std::int64_t rest = width - i; rest > 0) {
      const Floats<L> v = load_some<L>(x + i, rest) + load_some<L>(bias + i, rest);
      const Floats<L> s = gate<L>(v);
      store_some<L>(y + i, v * s, rest);
      store_some<L>(x + i, slope<L>(v, s), rest);
    }
  }
};

struct WithoutSlope {
  template <int L>
  SATURN_INLINE static void run(const float* x, const float* bias, float* y, std::int64_t width) {
    std::int64_t i = 0;
    for (; i + L <= width; i += L) {
      const Floats<L> v = load<L>(x + i) + load<L>(bias + i);
      store<L>(y + i, v * gate<L>(v));
    }
    if (const std::int64_t rest = width - i; rest > 0) {
      const Floats<L> v = load_some<L>(x + i, rest) + load_some<L>(bias + i, rest);
      store_some<L>(y + i, v * gate<L>(v), rest);
    }
  }
};

}  // namespace

at::Tensor biased_gelu(at::Tensor& x, const at::Tensor& bias, bool keep_slope) {
  if (!x.is_cpu() || x.scalar_type() != at::kFloat || bias.scalar_type() != at::kFloat) {
    const at::Tensor sum = at::add(x, bias);
    if (keep_slope) x = at::gelu_backward(at::ones_like(sum), sum, "tanh");
    return at::gelu(sum, "tanh");
  }
  TORCH_CHECK(x.is_contiguous() && bias.is_contiguous() && bias.numel() == x.size(-1), "biased_gelu: shapes");
  at::Tensor y = at::empty_like(x);
  const std::int64_t width = x.size(-1);
  float* const x_data = x.mutable_data_ptr<float>();
  float* const y_data = y.mutable_data_ptr<float>();
  const float* const bias_data = bias.const_data_ptr<float>();
  at::parallel_for(0, x.numel() / width, 1 + 8192 / width, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      float* const from = x_data + row * width;
      float* const to = y_data + row * width;
      if (keep_slope) {
        run_kernel<WithSlope>(from, bias_data, to, width);
      } else {
        run_kernel<WithoutSlope>(static_cast<const float*>(from), bias_data, to, width);
      }
    }
  });
  return y;
}

}  // namespace saturn::train::ops

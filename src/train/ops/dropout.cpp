// Dropout whose mask is a pure function of its place: the same on every device, rank and split of the batch.

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bitwise_and.h>
#include <ATen/ops/bitwise_right_shift.h>
#include <ATen/ops/bitwise_xor.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <c10/util/BFloat16.h>
#include <torch/csrc/autograd/custom_function.h>

#include "saturn/base/random.h"
#include "saturn/train/ops.h"

namespace saturn::train::ops {
namespace {

// Element e of a row takes half e % 2 of the hash of (row's key + e / 2), and is dropped where that half is
// below a threshold of 2^32.
constexpr std::int64_t kBlock = 8192;  // elements that a thread takes at once; even

std::uint64_t threshold_of(double probability) {
  return static_cast<std::uint64_t>(probability * 4294967296.0);
}

std::uint64_t row_key(const DropoutSite& site, std::int64_t row) {
  return mix_key(site.key, static_cast<std::uint64_t>(site.first_row + row));
}

/// Elements [begin, end) of what lies at `from`, whose first is element `first` of its row.
template <class Scalar>
void mask_block(const Scalar* from, Scalar* to, std::uint64_t key, std::int64_t first, std::int64_t begin,
                std::int64_t end, std::uint64_t threshold, float scale) {
  std::int64_t i = begin;
  if ((first + begin) % 2 != 0 && begin < end) {  // begins with the second of a pair
    const std::uint64_t hash = mix64(key + static_cast<std::uint64_t>(first + begin) / 2);
    to[i] = static_cast<Scalar>(static_cast<float>(from[i]) * ((hash >> 32) < threshold ? 0.0f : scale));
    ++i;
  }
  for (; i < end; i += 2) {
    const std::uint64_t hash = mix64(key + static_cast<std::uint64_t>(first + i) / 2);
    to[i] =
        static_cast<Scalar>(static_cast<float>(from[i]) * ((hash & 0xffffffffU) < threshold ? 0.0f : scale));
    if (i + 1 < end) {
      to[i + 1] =
          static_cast<Scalar>(static_cast<float>(from[i + 1]) * ((hash >> 32) < threshold ? 0.0f : scale));
    }
  }
}

template <class Scalar>
void mask_on_cpu(const at::Tensor& x, at::Tensor& y, const DropoutSite& site, float scale) {
  const std::int64_t num_rows = x.size(0);
  const std::int64_t row_size = x.numel() / num_rows;
  const std::int64_t blocks_per_row = (row_size + kBlock - 1) / kBlock;
  const Scalar* const from = x.const_data_ptr<Scalar>();
  Scalar* const to = y.mutable_data_ptr<Scalar>();
  at::parallel_for(0, num_rows * blocks_per_row, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t row = block / blocks_per_row;
      const std::int64_t of_row = block % blocks_per_row * kBlock;
      mask_block(from + row * row_size, to + row * row_size, row_key(site, row), site.first_element, of_row,
                 std::min(of_row + kBlock, row_size), threshold_of(site.probability), scale);
    }
  });
}

/// mix64 on int64 tensors: multiplication wraps, and a mask makes the arithmetic shift a logical one.
at::Tensor mix64_of(at::Tensor x) {
  const auto signed_of = [](std::uint64_t word) { return static_cast<std::int64_t>(word); };
  const auto shift_right = [](const at::Tensor& v, int bits) {
    return at::bitwise_and(at::bitwise_right_shift(v, bits),
                           static_cast<std::int64_t>(~std::uint64_t{0} >> bits));
  };
  x = x + signed_of(0x9e3779b97f4a7c15ULL);
  x = at::bitwise_xor(x, shift_right(x, 30)) * signed_of(0xbf58476d1ce4e5b9ULL);
  x = at::bitwise_xor(x, shift_right(x, 27)) * signed_of(0x94d049bb133111ebULL);
  return at::bitwise_xor(x, shift_right(x, 31));
}

at::Tensor mask_by_operators(const at::Tensor& x, const DropoutSite& site, float scale) {
  const std::int64_t num_rows = x.size(0);
  const std::int64_t row_size = x.numel() / num_rows;
  std::vector<std::int64_t> keys;
  for (std::int64_t row = 0; row < num_rows; ++row)
    keys.push_back(static_cast<std::int64_t>(row_key(site, row)));
  const at::TensorOptions options = x.options().dtype(at::kLong);
  const std::int64_t first_pair = site.first_element / 2;
  const std::int64_t past = site.first_element % 2;  // elements of the first pair that lie before the tensor
  const at::Tensor pairs = at::arange(first_pair, first_pair + (past + row_size + 1) / 2, options);
  const at::Tensor key_column = at::tensor(keys, at::kLong).to(x.device()).unsqueeze(1);
  const at::Tensor hashes = mix64_of(key_column + pairs);
  const at::Tensor low = at::bitwise_and(hashes, 0xffffffffLL);
  const at::Tensor high = at::bitwise_and(at::bitwise_right_shift(hashes, 32), 0xffffffffLL);
  const at::Tensor halves = at::stack({low, high}, 2).view({num_rows, -1}).narrow(1, past, row_size);
  const at::Tensor kept =
      halves.ge(static_cast<std::int64_t>(threshold_of(site.probability))).view(x.sizes());
  return at::where(kept, x.to(at::kFloat) * scale, at::zeros({}, x.options().dtype(at::kFloat)))
      .to(x.scalar_type());
}

at::Tensor masked(const at::Tensor& x, const DropoutSite& site) {
  const float scale = static_cast<float>(1.0 / (1.0 - site.probability));
  if (x.numel() == 0) return x;
  if (!x.is_cpu() || (x.scalar_type() != at::kFloat && x.scalar_type() != at::kBFloat16)) {
    return mask_by_operators(x.contiguous(), site, scale);
  }
  const at::Tensor from = x.contiguous();
  at::Tensor y = at::empty_like(from);
  if (x.scalar_type() == at::kFloat) {
    mask_on_cpu<float>(from, y, site, scale);
  } else {
    mask_on_cpu<c10::BFloat16>(from, y, site, scale);
  }
  return y;
}

/// The mask is drawn again in the backward pass instead of being kept.
class Dropout : public torch::autograd::Function<Dropout> {
 public:
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& x,
                            const DropoutSite& site) {
    context->saved_data["probability"] = site.probability;
    context->saved_data["key"] = static_cast<std::int64_t>(site.key);
    context->saved_data["first_row"] = site.first_row;
    context->saved_data["first_element"] = site.first_element;
    return masked(x, site);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const DropoutSite site{context->saved_data["probability"].toDouble(),
                           static_cast<std::uint64_t>(context->saved_data["key"].toInt()),
                           context->saved_data["first_row"].toInt(),
                           context->saved_data["first_element"].toInt()};
    return {masked(gradients[0], site), at::Tensor()};
  }
};

}  // namespace

std::uint64_t dropout_key(std::uint64_t seed, std::int64_t step, std::string_view place) {
  return mix_text(mix_key(seed, static_cast<std::uint64_t>(step)), place);
}

at::Tensor dropout(const at::Tensor& x, const DropoutSite& site) {
  if (site.probability <= 0.0) return x;
  return Dropout::apply(x, site);
}

}  // namespace saturn::train::ops

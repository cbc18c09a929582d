// Causal attention on CPU threads. A head's queries, keys and values are first copied next to each other
// (keys and values also transposed), padded with zeros to whole vectors; then a few queries at a time meet
// all keys before them.
//
// Shapes: T tokens, D width of a head; R queries of a tile. Padded: T to 2 vectors, D to 1.
// Source of the gradient: Dao et al. 2022, FlashAttention, section B.4; the scores of a tile are kept as a
// whole.

#include "train/ops/attention_kernel.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <algorithm>
#include <cmath>

#include "train/ops/vector_math.h"

namespace saturn::train::ops {
namespace {

struct Sizes {
  std::int64_t rows = 0;
  std::int64_t tokens = 0;
  std::int64_t heads = 0;
  std::int64_t width = 0;  // of a head
  float scale = 1.0f;

  // Padded for the widest vectors, so that scratch is the same whatever the lanes.
  std::int64_t padded_tokens() const { return (tokens + 31) / 32 * 32; }
  std::int64_t padded_width() const { return (width + 15) / 16 * 16; }
};

template <int L>
constexpr std::int64_t kTile = L == 16 ? 8 : 4;  // queries at once: as many as the registers hold
constexpr std::int64_t kLargestTile = 8;

/// `count` floats, without a call for each short row.
template <int L>
SATURN_INLINE void copy(const float* from, float* to, std::int64_t count) {
  std::int64_t i = 0;
  for (; i + L <= count; i += L) store<L>(to + i, load<L>(from + i));
  for (; i < count; ++i) to[i] = from[i];
}

template <int L>
SATURN_INLINE float dot(const float* a, const float* b, std::int64_t count) {
  Floats<L> sums{};
  std::int64_t i = 0;
  for (; i + L <= count; i += L) sums += load<L>(a + i) * load<L>(b + i);
  float sum = sum_of_lanes<L>(sums);
  for (; i < count; ++i) sum += a[i] * b[i];
  return sum;
}

/// [T, D] from rows that lie `stride` apart into padded rows.
template <int L>
SATURN_INLINE void copy_rows(const float* from, std::int64_t stride, float* to, const Sizes& sizes) {
  const std::int64_t padded = sizes.padded_width();
  for (std::int64_t t = 0; t < sizes.tokens; ++t) {
    copy<L>(from + t * stride, to + t * padded, sizes.width);
    for (std::int64_t d = sizes.width; d < padded; ++d) to[t * padded + d] = 0.0f;
  }
}

/// [T, D] from rows that lie `stride` apart into [D, padded T], 16 columns at a time: a cache line of each
/// row.
SATURN_INLINE void copy_transposed(const float* from, std::int64_t stride, float* to, const Sizes& sizes) {
  constexpr std::int64_t kLine = 16;
  const std::int64_t padded = sizes.padded_tokens();
  for (std::int64_t begin = 0; begin < sizes.width; begin += kLine) {
    const std::int64_t end = std::min(begin + kLine, sizes.width);
    for (std::int64_t t = 0; t < sizes.tokens; ++t) {
      for (std::int64_t d = begin; d < end; ++d) to[d * padded + t] = from[t * stride + d];
    }
  }
  for (std::int64_t d = 0; d < sizes.width; ++d) {
    for (std::int64_t t = sizes.tokens; t < padded; ++t) to[d * padded + t] = 0.0f;
  }
}

/// products[r][j] = rows[r] . columns[:, j] for the keys j < count (a multiple of 2 L) and R rows.
template <int L, int R>
SATURN_INLINE void multiply(const float* rows, std::int64_t row_stride, const float* columns,
                            std::int64_t column_stride, std::int64_t width, std::int64_t count,
                            float* products) {
  for (std::int64_t j = 0; j < count; j += 2 * L) {
    Floats<L> sums[R][2] = {};
    for (std::int64_t d = 0; d < width; ++d) {
      const Floats<L> column_0 = load<L>(columns + d * column_stride + j);
      const Floats<L> column_1 = load<L>(columns + d * column_stride + j + L);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        sums[r][0] += rows[r * row_stride + d] * column_0;
        sums[r][1] += rows[r * row_stride + d] * column_1;
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      store<L>(products + r * column_stride + j, sums[r][0]);
      store<L>(products + r * column_stride + j + L, sums[r][1]);
    }
  }
}

/// out[r] = sum over j < count of weights[r][j] * values[j], for R rows of padded width.
template <int L, int R>
SATURN_INLINE void mix(const float* weights, std::int64_t weight_stride, const float* values,
                       std::int64_t count, std::int64_t padded_width, float* out) {
  for (std::int64_t d = 0; d < padded_width; d += L) {
    Floats<L> sums[R] = {};
    for (std::int64_t j = 0; j < count; ++j) {
      const Floats<L> value = load<L>(values + j * padded_width + d);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sums[r] += weights[r * weight_stride + j] * value;
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) store<L>(out + r * padded_width + d, sums[r]);
  }
}

/// sums[j] += sum over R rows of weights[r][j] * rows[r], for j < count.
template <int L, int R>
SATURN_INLINE void scatter(const float* weights, std::int64_t weight_stride, const float* rows,
                           std::int64_t count, std::int64_t padded_width, float* sums) {
  for (std::int64_t d = 0; d < padded_width; d += L) {
    Floats<L> row[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) row[r] = load<L>(rows + r * padded_width + d);
    for (std::int64_t j = 0; j < count; ++j) {
      Floats<L> sum = load<L>(sums + j * padded_width + d);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum += weights[r * weight_stride + j] * row[r];
      store<L>(sums + j * padded_width + d, sum);
    }
  }
}

/// Keys that a tile of `tile` queries from `first` on may see, up to whole pairs of vectors.
template <int L>
SATURN_INLINE std::int64_t visible(std::int64_t first, std::int64_t tile) {
  return (first + tile + 2 * L - 1) / (2 * L) * (2 * L);
}

// ---- forward

struct ForwardScratch {
  explicit ForwardScratch(const Sizes& sizes) {
    const std::int64_t square = sizes.padded_tokens() * sizes.padded_width();
    buffer = at::empty({3 * square + kLargestTile * (sizes.padded_tokens() + 2 * sizes.padded_width())},
                       at::kFloat);
    keys = buffer.mutable_data_ptr<float>();
    values = keys + square;
    queries = values + square;
    scores = queries + square + kLargestTile * sizes.padded_width();  // a last tile reads past the queries
    mixed = scores + kLargestTile * sizes.padded_tokens();
  }
  at::Tensor buffer;
  float* keys;     // [D, padded T]
  float* values;   // [T, padded D]
  float* queries;  // [T, padded D]
  float* scores;   // [R, padded T]
  float* mixed;    // [R, padded D]
};

/// One query's scores become its probabilities; gives log(sum(exp(scores))).
template <int L>
SATURN_INLINE float softmax(float* scores, std::int64_t query, std::int64_t count, float scale) {
  for (std::int64_t j = query + 1; j < count; ++j) scores[j] = -INFINITY;
  Floats<L> largest = Floats<L>{} - INFINITY;
  for (std::int64_t j = 0; j < count; j += L) {
    const Floats<L> v = load<L>(scores + j);
    largest = v > largest ? v : largest;
  }
  const float top = largest_lane<L>(largest);
  Floats<L> sums{};
  for (std::int64_t j = 0; j < count; j += L) {
    const Floats<L> e = exp_of<L>((load<L>(scores + j) - top) * scale);
    store<L>(scores + j, e);
    sums += e;
  }
  const float sum = sum_of_lanes<L>(sums);
  const float factor = 1.0f / sum;
  for (std::int64_t j = 0; j < count; j += L) store<L>(scores + j, load<L>(scores + j) * factor);
  return top * scale + std::log(sum);
}

struct Forward {
  template <int L>
  SATURN_INLINE static void run(const Sizes* sizes_of_all, const float* qkv, float* out, float* log_sums,
                                ForwardScratch* scratch) {
    const Sizes sizes = *sizes_of_all;
    constexpr int R = kTile<L>;
    const std::int64_t stride = 3 * sizes.heads * sizes.width;
    const std::int64_t padded_width = sizes.padded_width();
    const std::int64_t padded_tokens = sizes.padded_tokens();
    copy_rows<L>(qkv, stride, scratch->queries, sizes);
    copy_transposed(qkv + stride / 3, stride, scratch->keys, sizes);
    copy_rows<L>(qkv + 2 * stride / 3, stride, scratch->values, sizes);
    for (std::int64_t first = 0; first < sizes.tokens; first += R) {
      const std::int64_t tile = std::min<std::int64_t>(R, sizes.tokens - first);
      const std::int64_t count = visible<L>(first, tile);
      multiply<L, R>(scratch->queries + first * padded_width, padded_width, scratch->keys, padded_tokens,
                     sizes.width, count, scratch->scores);
      for (std::int64_t r = 0; r < tile; ++r) {
        log_sums[first + r] = softmax<L>(scratch->scores + r * padded_tokens, first + r, count, sizes.scale);
      }
      mix<L, R>(scratch->scores, padded_tokens, scratch->values, first + tile, padded_width, scratch->mixed);
      for (std::int64_t r = 0; r < tile; ++r) {
        copy<L>(scratch->mixed + r * padded_width, out + (first + r) * (stride / 3), sizes.width);
      }
    }
  }
};

// ---- backward

struct BackwardScratch {
  explicit BackwardScratch(const Sizes& sizes) {
    const std::int64_t square = (sizes.padded_tokens() + kLargestTile) * sizes.padded_width();
    const std::int64_t strip = kLargestTile * sizes.padded_tokens();
    buffer = at::empty({8 * square + 2 * strip + kLargestTile * sizes.padded_width()}, at::kFloat);
    float* next = buffer.mutable_data_ptr<float>();
    const auto take = [&](std::int64_t count) { return std::exchange(next, next + count); };
    queries = take(square);
    keys = take(square);
    keys_across = take(square);
    values_across = take(square);
    gradients = take(square);
    key_gradients = take(square);
    value_gradients = take(square);
    query_gradients = take(square);
    probabilities = take(strip);
    slopes = take(strip);
  }
  at::Tensor buffer;
  float* queries;          // [T, padded D]
  float* keys;             // [T, padded D]
  float* keys_across;      // [D, padded T]
  float* values_across;    // [D, padded T]
  float* gradients;        // of the output, [T, padded D]
  float* key_gradients;    // [T, padded D]
  float* value_gradients;  // [T, padded D]
  float* query_gradients;  // [T, padded D]
  float* probabilities;    // [R, padded T]
  float* slopes;           // gradients of the probabilities, then of the scores, [R, padded T]
};

/// Scores and probability gradients of one query become its probabilities and score gradients.
template <int L>
SATURN_INLINE void through_softmax(float* scores, float* slopes, std::int64_t query, std::int64_t count,
                                   float log_sum, float mean_slope, float scale) {
  for (std::int64_t j = query + 1; j < count; ++j) scores[j] = -INFINITY;
  for (std::int64_t j = 0; j < count; j += L) {
    const Floats<L> p = exp_of<L>(load<L>(scores + j) * scale - log_sum);
    store<L>(scores + j, p);
    store<L>(slopes + j, p * (load<L>(slopes + j) - mean_slope) * scale);
  }
}

struct Backward {
  template <int L>
  SATURN_INLINE static void run(const Sizes* sizes_of_all, const float* gradient, const float* qkv,
                                const float* out, const float* log_sums, float* qkv_gradient,
                                BackwardScratch* scratch) {
    const Sizes sizes = *sizes_of_all;
    constexpr int R = kTile<L>;
    const std::int64_t width = sizes.heads * sizes.width;
    const std::int64_t stride = 3 * width;
    const std::int64_t padded_width = sizes.padded_width();
    const std::int64_t padded_tokens = sizes.padded_tokens();
    copy_rows<L>(qkv, stride, scratch->queries, sizes);
    copy_rows<L>(qkv + width, stride, scratch->keys, sizes);
    copy_transposed(qkv + width, stride, scratch->keys_across, sizes);
    copy_transposed(qkv + 2 * width, stride, scratch->values_across, sizes);
    copy_rows<L>(gradient, width, scratch->gradients, sizes);
    // A last tile reads past the end; what is there must add nothing.
    std::fill_n(scratch->queries + sizes.tokens * padded_width, R * padded_width, 0.0f);
    std::fill_n(scratch->gradients + sizes.tokens * padded_width, R * padded_width, 0.0f);
    std::fill_n(scratch->key_gradients, sizes.tokens * padded_width, 0.0f);
    std::fill_n(scratch->value_gradients, sizes.tokens * padded_width, 0.0f);
    for (std::int64_t first = 0; first < sizes.tokens; first += R) {
      const std::int64_t tile = std::min<std::int64_t>(R, sizes.tokens - first);
      const std::int64_t count = visible<L>(first, tile);
      const float* const queries = scratch->queries + first * padded_width;
      const float* const gradients = scratch->gradients + first * padded_width;
      multiply<L, R>(queries, padded_width, scratch->keys_across, padded_tokens, sizes.width, count,
                     scratch->probabilities);
      multiply<L, R>(gradients, padded_width, scratch->values_across, padded_tokens, sizes.width, count,
                     scratch->slopes);
      for (std::int64_t r = 0; r < tile; ++r) {
        const std::int64_t query = first + r;
        const float mean_slope = dot<L>(gradients + r * padded_width, out + query * width, sizes.width);
        through_softmax<L>(scratch->probabilities + r * padded_tokens, scratch->slopes + r * padded_tokens,
                           query, count, log_sums[query], mean_slope, sizes.scale);
      }
      std::fill(scratch->probabilities + tile * padded_tokens, scratch->probabilities + R * padded_tokens,
                0.0f);
      std::fill(scratch->slopes + tile * padded_tokens, scratch->slopes + R * padded_tokens, 0.0f);
      const std::int64_t seen = first + tile;
      mix<L, R>(scratch->slopes, padded_tokens, scratch->keys, seen, padded_width,
                scratch->query_gradients + first * padded_width);
      scatter<L, R>(scratch->slopes, padded_tokens, queries, seen, padded_width, scratch->key_gradients);
      scatter<L, R>(scratch->probabilities, padded_tokens, gradients, seen, padded_width,
                    scratch->value_gradients);
    }
    for (std::int64_t t = 0; t < sizes.tokens; ++t) {
      copy<L>(scratch->query_gradients + t * padded_width, qkv_gradient + t * stride, sizes.width);
      copy<L>(scratch->key_gradients + t * padded_width, qkv_gradient + t * stride + width, sizes.width);
      copy<L>(scratch->value_gradients + t * padded_width, qkv_gradient + t * stride + 2 * width,
              sizes.width);
    }
  }
};

Sizes sizes_of(const at::Tensor& qkv, std::int64_t num_heads, double scale) {
  TORCH_CHECK(qkv.is_contiguous() && qkv.dim() == 3 && qkv.size(2) % (3 * num_heads) == 0,
              "attention: shapes");
  return {.rows = qkv.size(0),
          .tokens = qkv.size(1),
          .heads = num_heads,
          .width = qkv.size(2) / 3 / num_heads,
          .scale = static_cast<float>(scale)};
}

}  // namespace

std::pair<at::Tensor, at::Tensor> attention_forward(const at::Tensor& qkv, std::int64_t num_heads,
                                                    double scale) {
  const Sizes sizes = sizes_of(qkv, num_heads, scale);
  at::Tensor out = at::empty({sizes.rows, sizes.tokens, sizes.heads * sizes.width}, qkv.options());
  at::Tensor log_sums = at::empty({sizes.rows, sizes.heads, sizes.tokens}, qkv.options());
  const float* const qkv_data = qkv.const_data_ptr<float>();
  float* const out_data = out.mutable_data_ptr<float>();
  float* const log_sums_data = log_sums.mutable_data_ptr<float>();
  at::parallel_for(0, sizes.rows * sizes.heads, 1, [&](std::int64_t begin, std::int64_t end) {
    ForwardScratch scratch(sizes);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = i / sizes.heads * sizes.tokens * sizes.heads * sizes.width;
      const std::int64_t head = i % sizes.heads * sizes.width;
      run_kernel<Forward>(&sizes, qkv_data + 3 * at + head, out_data + at + head,
                          log_sums_data + i * sizes.tokens, &scratch);
    }
  });
  return {out, log_sums};
}

at::Tensor attention_backward(const at::Tensor& gradient, const at::Tensor& qkv, const at::Tensor& out,
                              const at::Tensor& log_sums, std::int64_t num_heads, double scale) {
  const Sizes sizes = sizes_of(qkv, num_heads, scale);
  TORCH_CHECK(gradient.is_contiguous() && out.is_contiguous(), "attention: layouts");
  at::Tensor qkv_gradient = at::empty_like(qkv);
  const float* const gradient_data = gradient.const_data_ptr<float>();
  const float* const qkv_data = qkv.const_data_ptr<float>();
  const float* const out_data = out.const_data_ptr<float>();
  const float* const log_sums_data = log_sums.const_data_ptr<float>();
  float* const qkv_gradient_data = qkv_gradient.mutable_data_ptr<float>();
  at::parallel_for(0, sizes.rows * sizes.heads, 1, [&](std::int64_t begin, std::int64_t end) {
    BackwardScratch scratch(sizes);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t at = i / sizes.heads * sizes.tokens * sizes.heads * sizes.width;
      const std::int64_t head = i % sizes.heads * sizes.width;
      run_kernel<Backward>(&sizes, gradient_data + at + head, qkv_data + 3 * at + head, out_data + at + head,
                           log_sums_data + i * sizes.tokens, qkv_gradient_data + 3 * at + head, &scratch);
    }
  });
  return qkv_gradient;
}

}  // namespace saturn::train::ops

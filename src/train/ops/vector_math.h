// Loops over floats, several at a time, through the compilers' vector types: one source, compiled for the
// instruction sets of the day and chosen when it runs.
//
// A kernel is a struct with `template <int L> SATURN_INLINE static void run(...)`, L the lanes of a vector;
// `run_kernel<Kernel>(...)` runs it with as many as this machine has.

#pragma once

#include <cstdint>
#include <cstring>

#define SATURN_INLINE inline __attribute__((always_inline))

namespace saturn::train::ops {

template <int L>
struct VectorTypes {
  typedef float Floats __attribute__((vector_size(L * sizeof(float))));
  typedef std::int32_t Ints __attribute__((vector_size(L * sizeof(float))));
};
template <int L>
using Floats = typename VectorTypes<L>::Floats;

template <int L>
SATURN_INLINE Floats<L> load(const float* from) {
  Floats<L> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}
template <int L>
SATURN_INLINE void store(float* to, Floats<L> v) {
  std::memcpy(to, &v, sizeof v);
}

/// The first `count` < L floats, the other lanes `fill`.
template <int L>
SATURN_INLINE Floats<L> load_some(const float* from, std::int64_t count, float fill = 0.0f) {
  Floats<L> v = Floats<L>{} + fill;
  std::memcpy(&v, from, static_cast<std::size_t>(count) * sizeof(float));
  return v;
}
template <int L>
SATURN_INLINE void store_some(float* to, Floats<L> v, std::int64_t count) {
  std::memcpy(to, &v, static_cast<std::size_t>(count) * sizeof(float));
}

template <int L>
SATURN_INLINE float largest_lane(Floats<L> v) {
  float largest = v[0];
  for (int i = 1; i < L; ++i) largest = v[i] > largest ? v[i] : largest;
  return largest;
}
template <int L>
SATURN_INLINE float sum_of_lanes(Floats<L> v) {
  float sum = 0.0f;
  for (int i = 0; i < L; ++i) sum += v[i];
  return sum;
}

/// e^x to about 2 units in the last place, 0 below -87.3, for x <= 88; NaN stays NaN.
template <int L>
SATURN_INLINE Floats<L> exp_of(Floats<L> x) {
  using Ints = typename VectorTypes<L>::Ints;
  constexpr float kLog2E = 1.44269504088896341f;
  constexpr float kLn2High = 0.693359375f;  // 9 significant bits: n * kLn2High is exact
  constexpr float kLn2Low = -2.12194440e-4f;
  constexpr float kRoundToInteger = 12582912.0f;  // 1.5 * 2^23: the sum's low bits are the integer
  const Floats<L> shifted = x * kLog2E + kRoundToInteger;
  const Floats<L> n = shifted - kRoundToInteger;
  const Floats<L> r = (x - n * kLn2High) - n * kLn2Low;
  Floats<L> p = r * 1.9875691500e-4f + 1.3981999507e-3f;  // minimax polynomial of Cephes' expf
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r) * r + r + 1.0f;
  const Ints scaled = reinterpret_cast<Ints>(p) + (reinterpret_cast<Ints>(shifted) << 23);
  return x < -87.3f ? Floats<L>{} : reinterpret_cast<Floats<L>>(scaled);
}

#if defined(__x86_64__)
template <class Kernel, class... Arguments>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))) void run_16_lanes(
    Arguments... arguments) {
  Kernel::template run<16>(arguments...);
}
template <class Kernel, class... Arguments>
__attribute__((target("avx2,fma"))) void run_8_lanes(Arguments... arguments) {
  Kernel::template run<8>(arguments...);
}

/// 16, 8 or 4: the lanes of the widest vectors this machine has. SATURN_VECTOR_LANES may lower it.
int num_lanes();
#endif

template <class Kernel, class... Arguments>
void run_kernel(Arguments... arguments) {
#if defined(__x86_64__)
  switch (num_lanes()) {
    case 16:
      return run_16_lanes<Kernel>(arguments...);
    case 8:
      return run_8_lanes<Kernel>(arguments...);
  }
#endif
  Kernel::template run<4>(arguments...);
}

}  // namespace saturn::train::ops

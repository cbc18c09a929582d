// Random numbers that are the same on every machine and a pure function of their key.

#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace saturn {

/// SplitMix64 finaliser: a bijection on 64 bits that passes as random on counters.
constexpr std::uint64_t mix64(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

/// Hash of an ordered key, such as (seed, epoch, index).
template <class... Words>
constexpr std::uint64_t mix_key(std::uint64_t first, Words... rest) {
  std::uint64_t h = mix64(first);
  ((h = mix64(h ^ (static_cast<std::uint64_t>(rest) + 0x632be59bd9b4e019ULL))), ...);
  return h;
}

/// Hash of a text that goes on from `h`, letter by letter.
constexpr std::uint64_t mix_text(std::uint64_t h, std::string_view text) {
  for (const char letter : text) h = mix_key(h, static_cast<unsigned char>(letter));
  return h;
}

/// A sequential generator over mix64; its state is one counter.
class Random {
 public:
  explicit constexpr Random(std::uint64_t seed) : state_(mix64(seed)) {}

  constexpr std::uint64_t next() { return mix64(state_++); }

  /// Uniform in [0, bound), unbiased enough for bound < 2^32 (Lemire's multiply-shift).
  constexpr std::uint64_t below(std::uint64_t bound) {
    return static_cast<std::uint64_t>((static_cast<unsigned __int128>(next()) * bound) >> 64);
  }

  /// Uniform in [0, 1) with 53 random bits.
  constexpr double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

  template <class T>
  void shuffle(std::vector<T>& values) {
    for (std::size_t i = values.size(); i > 1; --i) std::swap(values[i - 1], values[below(i)]);
  }

 private:
  std::uint64_t state_;
};

}  // namespace saturn

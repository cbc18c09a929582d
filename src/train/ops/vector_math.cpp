// Which vectors this machine has.

#include "train/ops/vector_math.h"

#include <algorithm>
#include <cstdlib>

namespace saturn::train::ops {

#if defined(__x86_64__)
int num_lanes() {
  static const int lanes = [] {
    const bool has_16 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    const bool has_8 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int widest = has_16 ? 16 : has_8 ? 8 : 4;
    const char* lowered = std::getenv("SATURN_VECTOR_LANES");
    return lowered == nullptr ? widest : std::min(widest, std::atoi(lowered));
  }();
  return lanes;
}
#endif

}  // namespace saturn::train::ops

// Builds for CPU slots only.

#include "saturn/base/check.h"
#include "saturn/train/gpu.h"

namespace saturn::train::gpu {
namespace {

[[noreturn]] void no_gpu() {
  check_failed(__FILE__, __LINE__, "is_built()", "a build without GPUs has no device on one");
}

}  // namespace

bool is_built() {
  return false;
}

c10::Device take(std::int64_t /*limit_bytes*/) {
  no_gpu();
}

void synchronize(c10::Device /*device*/) {
  no_gpu();
}

MemoryUse memory(c10::Device /*device*/) {
  no_gpu();
}

std::int64_t allocated_bytes(c10::Device /*device*/) {
  no_gpu();
}

void use_nccl(c10d::ProcessGroup& /*group*/, const c10::intrusive_ptr<c10d::Store>& /*store*/,
              const NcclRank& /*rank*/) {
  no_gpu();
}

}  // namespace saturn::train::gpu

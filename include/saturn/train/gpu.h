// The door to GPUs: what LibTorch's device-independent interface leaves out. One of two sources stands behind
// it, gpu_cuda.cpp in builds for GPUs and gpu_none.cpp in all others; everything else compiles once for both.

#pragma once

#include <c10/core/Device.h>
#include <c10/util/intrusive_ptr.h>

#include <cstdint>

#include "saturn/train/memory.h"

namespace c10d {
class ProcessGroup;
class Store;
}  // namespace c10d

namespace saturn::train::gpu {

/// Whether this build trains on GPUs. Where it does not, nothing else here may be called.
bool is_built();

/// Takes the one GPU that this process is shown, and no more than `limit_bytes` of its memory (0 = all).
/// Throws c10::Error where there is none.
c10::Device take(std::int64_t limit_bytes);

/// Waits for all that was launched on the device.
void synchronize(c10::Device device);

/// What the caching allocator has taken of the device, against this process's share of it.
MemoryUse memory(c10::Device device);

/// Of tensors alone, without what the caching allocator keeps for the next ones.
std::int64_t allocated_bytes(c10::Device device);

struct NcclRank {
  int rank = 0;
  int num_ranks = 1;
  double timeout_s = 0.0;
};

/// Makes NCCL the group's one backend; its ranks meet over `store`. Nothing is sent yet.
void use_nccl(c10d::ProcessGroup& group, const c10::intrusive_ptr<c10d::Store>& store, const NcclRank& rank);

}  // namespace saturn::train::gpu

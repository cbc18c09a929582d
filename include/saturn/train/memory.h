// The memory of a rank: counted, bounded on CPU slots, and kept by the process once it has it.

#pragma once

#include <c10/core/Device.h>

#include <cstdint>

namespace saturn::train {

/// Makes the C library keep freed memory instead of giving it back to the system: a step allocates what the
/// step before it freed, without a page fault. Call before the first tensor.
void keep_freed_memory();

/// Counts every tensor on the CPU from here on. An allocation that would pass `limit_bytes` (0 = none) throws
/// c10::OutOfMemoryError, as a GPU's allocator does. Call before the first tensor, at most once a process.
void count_cpu_memory(std::int64_t limit_bytes);

struct MemoryUse {
  std::int64_t now_bytes = 0;
  std::int64_t peak_bytes = 0;
  std::int64_t limit_bytes = 0;
  std::int64_t refused_bytes = 0;  ///< in use and asked for together at the largest refusal; 0 = none refused
};

/// Of tensors on the CPU since `count_cpu_memory`.
MemoryUse cpu_memory();

/// Of tensors on `device`; on a GPU what LibTorch has taken of it, against this process's share.
MemoryUse device_memory(c10::Device device);

/// Adds to the bytes of slow tiers that are mapped from files (train/slow_tier.h).
void count_slow_memory(std::int64_t change_bytes);

/// Largest resident size of this process so far, without slow tiers: their pages are a cache of their files,
/// which the system takes back where it needs the memory.
std::int64_t host_memory_peak_bytes();

}  // namespace saturn::train

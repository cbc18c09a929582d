// A counting allocator for CPU tensors, and the C library's settings that keep freed memory.

#include "saturn/train/memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <malloc.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>

#include "saturn/base/units.h"
#include "saturn/train/gpu.h"

namespace saturn::train {
namespace {

constexpr std::size_t kAlignment = 64;  // as c10's own CPU allocator
std::atomic<std::int64_t> now_bytes{0};
std::atomic<std::int64_t> peak_bytes{0};
std::atomic<std::int64_t> refused_bytes{0};

void raise_to(std::atomic<std::int64_t>& most, std::int64_t value) {
  std::int64_t known = most.load(std::memory_order_relaxed);
  while (value > known && !most.compare_exchange_weak(known, value, std::memory_order_relaxed)) {
  }
}
std::int64_t limit_bytes = 0;  // written once, before the first tensor
std::atomic<std::int64_t> slow_bytes{0};
std::atomic<std::int64_t> slow_peak_bytes{0};

/// Lies in the kAlignment bytes before the data.
struct Header {
  std::size_t size;
};

void release(void* data) {
  if (data == nullptr) return;
  auto* block = static_cast<char*>(data) - kAlignment;
  Header header;
  std::memcpy(&header, block, sizeof header);
  now_bytes.fetch_sub(static_cast<std::int64_t>(header.size), std::memory_order_relaxed);
  std::free(block);
}

class CountingAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t size) override {
    void* data = size == 0 ? nullptr : take(size);
    return {data, data, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* dest, const void* src, std::size_t count) const override {
    default_copy_data(dest, src, count);
  }

 private:
  static void* take(std::size_t size) {
    const auto wanted = static_cast<std::int64_t>(size);
    const std::int64_t used = now_bytes.fetch_add(wanted, std::memory_order_relaxed) + wanted;
    void* block = nullptr;
    const bool fits = limit_bytes == 0 || used <= limit_bytes;
    if (!fits || size > static_cast<std::size_t>(std::numeric_limits<std::int64_t>::max()) - kAlignment ||
        ::posix_memalign(&block, kAlignment, size + kAlignment) != 0) {
      now_bytes.fetch_sub(wanted, std::memory_order_relaxed);
      raise_to(refused_bytes, used);
      const std::string in_use = format_bytes(static_cast<double>(used - wanted));
      const std::string more = format_bytes(static_cast<double>(wanted));
      const std::string all =
          fits ? "the machine has no more" : "the limit is " + format_bytes(static_cast<double>(limit_bytes));
      TORCH_CHECK_WITH(OutOfMemoryError, false, in_use, " in use and ", more, " more asked for; ", all);
    }
    raise_to(peak_bytes, used);
    const Header header{size};
    std::memcpy(block, &header, sizeof header);
    return static_cast<char*>(block) + kAlignment;
  }
};

/// Memory of this process that is no file's.
std::int64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    std::int64_t kib = 0;
    if (word == "RssAnon:" && status >> kib) return kib * 1024;
  }
  return 0;
}

}  // namespace

void keep_freed_memory() {
  ::mallopt(M_MMAP_MAX, 0);
  ::mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  ::mallopt(M_TOP_PAD, 64 << 20);
}

void count_cpu_memory(std::int64_t limit) {
  static CountingAllocator allocator;
  limit_bytes = limit;
  c10::SetCPUAllocator(&allocator, /*priority=*/1);
}

MemoryUse cpu_memory() {
  return {.now_bytes = now_bytes.load(std::memory_order_relaxed),
          .peak_bytes = peak_bytes.load(std::memory_order_relaxed),
          .limit_bytes = limit_bytes,
          .refused_bytes = refused_bytes.load(std::memory_order_relaxed)};
}

MemoryUse device_memory(c10::Device device) {
  return device.is_cuda() ? gpu::memory(device) : cpu_memory();
}

void count_slow_memory(std::int64_t change_bytes) {
  const std::int64_t now = slow_bytes.fetch_add(change_bytes) + change_bytes;
  std::int64_t peak = slow_peak_bytes.load();
  while (now > peak && !slow_peak_bytes.compare_exchange_weak(peak, now)) {
  }
}

std::int64_t host_memory_peak_bytes() {
  struct rusage usage {};
  ::getrusage(RUSAGE_SELF, &usage);
  const std::int64_t largest = static_cast<std::int64_t>(usage.ru_maxrss) * 1024;
  if (slow_peak_bytes.load() == 0) return largest;
  // The system knows the largest size with mapped pages only, and not how many of them were in memory then:
  // without all of them it is a lower bound, as is the size that cannot be taken back now.
  return std::max(largest - slow_peak_bytes.load(), anonymous_bytes());
}

}  // namespace saturn::train

// The counting allocator, in a test process that it bounds to 1 GiB.

#include "saturn/train/memory.h"

#include <c10/util/Exception.h>

#include <string>

#include "tests/support/torch_doctest.h"

namespace saturn::train {

TEST_SUITE("train") {
  TEST_CASE("train/memory: tensors are counted and a limit is kept as a device would keep it") {
    constexpr std::int64_t kGiB = std::int64_t{1} << 30;
    keep_freed_memory();
    count_cpu_memory(kGiB);
    CHECK(cpu_memory().limit_bytes == kGiB);
    const std::int64_t before = cpu_memory().now_bytes;
    {
      const at::Tensor one = at::empty({1 << 20}, at::kFloat);
      CHECK(cpu_memory().now_bytes - before == 4 << 20);
      const at::Tensor two = at::empty({3, 1 << 20}, at::kByte);
      CHECK(cpu_memory().now_bytes - before == (4 << 20) + (3 << 20));
      CHECK(reinterpret_cast<std::uintptr_t>(one.data_ptr()) % 64 == 0);
    }
    CHECK(cpu_memory().now_bytes == before);
    CHECK(cpu_memory().peak_bytes >= before + (7 << 20));
    CHECK(cpu_memory().peak_bytes < before + (8 << 20));

    const at::Tensor most = at::empty({900 << 20}, at::kByte);
    try {
      (void)at::empty({200 << 20}, at::kByte);
      FAIL("the limit was passed");
    } catch (const c10::OutOfMemoryError& error) {
      const std::string message = error.what_without_backtrace();
      CAPTURE(message);
      CHECK(message.find("200.0 MiB more asked for; the limit is 1.0 GiB") != std::string::npos);
    }
    // What was refused is not counted, and what fits is still given.
    CHECK(cpu_memory().now_bytes == before + (std::int64_t{900} << 20));
    CHECK_NOTHROW((void)at::empty({100 << 20}, at::kByte));
    CHECK(host_memory_peak_bytes() > 10 << 20);
  }
}

}  // namespace saturn::train

// GPUs through LibTorch's CUDA half and NCCL.

#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAFunctions.h>

#include <algorithm>
#include <chrono>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include "saturn/train/gpu.h"

namespace saturn::train::gpu {
namespace {

namespace allocator = c10::cuda::CUDACachingAllocator;

constexpr auto kAll = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);

std::int64_t total_bytes(c10::DeviceIndex index) {
  return static_cast<std::int64_t>(allocator::get()->getMemoryInfo(index).second);
}

}  // namespace

bool is_built() {
  return true;
}

c10::Device take(std::int64_t limit_bytes) {
  const c10::Device device(c10::kCUDA, 0);
  c10::cuda::set_device(device.index());
  if (limit_bytes > 0) {
    const double share = static_cast<double>(limit_bytes) / static_cast<double>(total_bytes(device.index()));
    allocator::setMemoryFraction(std::min(1.0, share), device.index());
  }
  return device;
}

void synchronize(c10::Device device) {
  const c10::DeviceIndex before = c10::cuda::current_device();
  c10::cuda::set_device(device.index());
  c10::cuda::device_synchronize();
  c10::cuda::set_device(before);
}

MemoryUse memory(c10::Device device) {
  const auto stats = allocator::getDeviceStats(device.index());
  const double share = allocator::get()->getMemoryFraction(device.index());
  return {.now_bytes = stats.reserved_bytes[kAll].current,
          .peak_bytes = stats.reserved_bytes[kAll].peak,
          .limit_bytes = static_cast<std::int64_t>(share * static_cast<double>(total_bytes(device.index())))};
}

std::int64_t allocated_bytes(c10::Device device) {
  return allocator::getDeviceStats(device.index()).allocated_bytes[kAll].current;
}

void use_nccl(c10d::ProcessGroup& group, const c10::intrusive_ptr<c10d::Store>& store, const NcclRank& rank) {
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::milliseconds(static_cast<std::int64_t>(rank.timeout_s * 1e3));
  group.setBackend(
      c10::kCUDA, c10d::ProcessGroup::BackendType::NCCL,
      c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank.rank, rank.num_ranks, std::move(options)));
  group.setDefaultBackend(c10d::ProcessGroup::BackendType::NCCL);
}

}  // namespace saturn::train::gpu

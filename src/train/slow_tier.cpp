// The slow tier of a GPU: the host's memory.

#include "slow_tier.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include "saturn/base/check.h"
#include "saturn/base/log.h"
#include "saturn/base/units.h"

namespace saturn::train {
namespace {

// Pinned memory cannot be taken back by the system, so the host keeps the rest.
constexpr double kMostOfHostPinned = 0.6;

double host_memory_bytes() {
  return static_cast<double>(::sysconf(_SC_PHYS_PAGES)) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

class HostTier final : public SlowTier {
 public:
  explicit HostTier(std::int64_t num_bytes) : SlowTier(num_bytes) {
    const double most = kMostOfHostPinned * host_memory_bytes();
    const bool pinned = static_cast<double>(num_bytes) <= most;
    if (!pinned) {
      log_warning("offloading keeps " + format_bytes(static_cast<double>(num_bytes)) +
                  " in host memory, more than the " + format_bytes(most) +
                  " that may be pinned: it is not pinned, and copies are slower");
    }
    memory_ = at::empty({num_bytes}, at::TensorOptions(at::kByte).pinned_memory(pinned));
    memory_.zero_();
    base_ = static_cast<char*>(memory_.data_ptr());
  }

 private:
  at::Tensor memory_;
};

}  // namespace

Result<std::unique_ptr<SlowTier>> SlowTier::make(c10::Device device, const std::string& directory,
                                                 std::int64_t num_bytes) {
  if (device.is_cpu()) return map_slow_tier(directory, num_bytes);
  return std::unique_ptr<SlowTier>(std::make_unique<HostTier>(num_bytes));
}

at::Tensor SlowTier::tensor(std::int64_t offset, at::IntArrayRef shape, at::ScalarType type) const {
  const std::int64_t bytes =
      c10::multiply_integers(shape) * static_cast<std::int64_t>(c10::elementSize(type));
  SATURN_CHECK(offset >= 0 && bytes <= num_bytes_ - offset, "a tensor lies within its tier");
  return at::from_blob(base_ + offset, shape, at::TensorOptions(type));
}

void SlowTier::will_read(const at::Tensor&) {}
void SlowTier::written(const at::Tensor&) {}
Result<void> SlowTier::check() const {
  return {};
}

}  // namespace saturn::train

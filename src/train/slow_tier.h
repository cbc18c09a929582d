// Memory that is larger and slower than a device's: where offloading keeps weights, gradients and the
// optimiser's state.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <memory>
#include <string>

#include "saturn/base/result.h"

namespace saturn::train {

/// A piece of zeros, handed out in tensors on the CPU. Not a part of the device's memory, nor counted to a
/// slot's limit. Threads may use it at once.
class SlowTier {
 public:
  /// For GPUs pinned memory of the host, as long as that leaves the host enough; ordinary memory beyond. For
  /// CPU slots a file in `directory`, mapped: it has no name, so nothing is left behind however the process
  /// ends, and its blocks are reserved at once.
  ///
  /// Errors: Kind::disk_full where the file system has less free than `num_bytes`, Kind::machine.
  static Result<std::unique_ptr<SlowTier>> make(c10::Device device, const std::string& directory,
                                                std::int64_t num_bytes);
  virtual ~SlowTier() = default;
  SlowTier(const SlowTier&) = delete;
  SlowTier& operator=(const SlowTier&) = delete;

  std::int64_t num_bytes() const { return num_bytes_; }

  /// The bytes from `offset` on as a tensor; valid as long as the tier is.
  at::Tensor tensor(std::int64_t offset, at::IntArrayRef shape, at::ScalarType type) const;

  /// `part`, a tensor of this tier, is read soon.
  virtual void will_read(const at::Tensor& part);

  /// `part` has been written: it may go to where it is kept in the end. Blocks where too much waits for that.
  virtual void written(const at::Tensor& part);

  /// Whether the tier still holds what was written. Cheap.
  ///
  /// Errors: Kind::machine, Kind::disk_full.
  virtual Result<void> check() const;

 protected:
  explicit SlowTier(std::int64_t num_bytes) : num_bytes_(num_bytes) {}
  char* base_ = nullptr;

 private:
  std::int64_t num_bytes_;
};

/// A tier in a mapped file of `directory`. At most about `most_dirty_bytes` wait in memory to be written to
/// the disk (0: a sixteenth of the machine's).
Result<std::unique_ptr<SlowTier>> map_slow_tier(const std::string& directory, std::int64_t num_bytes,
                                                std::int64_t most_dirty_bytes = 0);

}  // namespace saturn::train

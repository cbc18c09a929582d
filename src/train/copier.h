// Copies between a device and the slow tier that go on beside the computing, in both directions at once.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Event.h>

#include <future>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "background_thread.h"

namespace saturn::train {

/// Copies that were asked for together and may still be under way.
class Copy {
 public:
  /// Done as far as the host is concerned: bytes that went to the slow tier are there. Throws what a copy
  /// threw.
  const std::shared_future<void>& done() const { return done_; }

 private:
  friend class Copier;
  std::shared_future<void> done_;
  std::optional<c10::Event> begun_, ended_;  ///< on a GPU, where copies to it only were enqueued at `done`
};
using CopyPtr = std::shared_ptr<Copy>;

struct CopyPair {
  at::Tensor to;
  at::Tensor from;
};

/// A thread for each direction; on a GPU also a stream each, and events both ways.
class Copier {
 public:
  explicit Copier(c10::Device device);

  /// To the device, after `after` is done. Memory that the device's work so far still uses may be in `pairs`.
  CopyPtr fetch(std::vector<CopyPair> pairs, std::vector<std::shared_future<void>> after);

  /// To the slow tier, once the device's work so far is done. `then` runs after the last copy.
  CopyPtr write_back(std::vector<CopyPair> pairs, std::function<void()> then);

  /// The device's work from here on sees what `copy` brought.
  void wait_on_device(const CopyPtr& copy);
  /// The host waits for `done`.
  void wait_on_host(const std::shared_future<void>& done);

  /// Seconds that copies took, and that the training waited for them and for what they had to wait for.
  /// Asks for the device to be synchronised.
  struct Times {
    double copy_s = 0.0;
    double waited_s = 0.0;
  };
  Times times();

 private:
  struct Waited {
    std::shared_ptr<c10::Event> ready;  ///< when the device had nothing else to do
    CopyPtr copy;
  };

  CopyPtr submit(BackgroundThread& thread, const std::optional<c10::Stream>& stream,
                 std::vector<CopyPair> pairs, std::vector<std::shared_future<void>> after,
                 std::function<void()> then, bool to_device);
  std::shared_ptr<c10::Event> mark();  ///< of the device's work so far

  c10::Device device_;
  std::optional<c10::Stream> fetch_stream_, write_stream_;  ///< of a GPU
  std::mutex mutex_;                                        ///< of `copy_s_`
  double copy_s_ = 0.0;
  double waited_s_ = 0.0;
  std::vector<CopyPtr> timed_;
  std::vector<Waited> waits_;
  BackgroundThread fetching_{1}, writing_{1};  ///< last: their tasks use the others
};

}  // namespace saturn::train

// Batches of a job in order, read ahead of the step that needs them.

#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

#include "saturn/base/result.h"
#include "saturn/data/dataset.h"
#include "saturn/data/micro_batch.h"
#include "saturn/data/order.h"

namespace saturn::data {

/// The micro-batches of a rank for a global batch of so many rows (Technique::micro_batches_of).
using ShareOf = std::function<std::vector<RowRange>(std::int64_t num_rows)>;

/// This rank's part of the training batch of `step`.
Result<MicroBatches> read_step(const Dataset& dataset, const SampleOrder& order, const ShareOf& share,
                               std::int64_t step);

/// Number of global batches that the validation samples make, and this rank's part of one of them.
std::int64_t num_validation_batches(const Dataset& dataset, std::int64_t batch_size);
Result<MicroBatches> read_validation(const Dataset& dataset, std::int64_t batch_size, const ShareOf& share,
                                     std::int64_t batch);

/// Reads the steps from `first_step` on in a thread of its own, at most `depth` ahead.
class Loader {
 public:
  Loader(const Dataset& dataset, SampleOrder order, ShareOf share, std::int64_t first_step, int depth = 2);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The next step's batch; waits until it is there. What reading threw (out of memory) is thrown here.
  Result<MicroBatches> next();

 private:
  struct Slot {
    Result<MicroBatches> batches;
    std::exception_ptr thrown;
  };

  void run();

  const Dataset& dataset_;
  SampleOrder order_;
  ShareOf share_;
  std::int64_t next_step_;
  std::size_t depth_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<Slot> ready_;
  bool stopping_ = false;

  std::thread thread_;
};

}  // namespace saturn::data

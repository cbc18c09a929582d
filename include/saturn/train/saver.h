// Saves checkpoints while training goes on: the training waits for a copy of its state, a thread writes it.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "saturn/train/checkpoint.h"

namespace saturn::train {

struct SaveRequest {
  std::string directory;
  Progress progress;
  Json written_by = Json::object();
  int keep = 0;  ///< how many stay with this one (checkpoint::prune); 0 = all
};

/// How a save in the background ended.
struct SaveReport {
  std::string directory;
  std::int64_t step = 0;
  double pause_s = 0.0;  ///< that the training waited
  double save_s = 0.0;   ///< until it was on disk
  Diagnostics faults;    ///< empty where it is on disk
};

/// The state's copy lies in memory of its own, outside the limit of the rank's slots, and is used again by
/// the next save. It is made only where the host has twice its size to spare; else, and for state in slow
/// memory, the training waits until everything is written, piece by piece and without a copy.
///
/// `begin`, `save` and the destructor are called by all ranks alike. A save that fails leaves the checkpoints
/// before it as they are.
class Saver {
 public:
  Saver(Technique& technique, Communicator& communicator);
  ~Saver();  ///< waits
  Saver(const Saver&) = delete;
  Saver& operator=(const Saver&) = delete;

  /// Starts a save, after waiting for the one before: the distance between checkpoints is a promise, so none is
  /// left out. What becomes of it is in `take_reports`, of rank 0 alone.
  ///
  /// Errors: those known before anything is written, on all ranks.
  Result<void> begin(const SaveRequest& request);

  /// Waits for the save in progress, then saves. Errors: on all ranks where on one.
  Result<void> save(const SaveRequest& request);

  void wait();
  std::vector<SaveReport> take_reports();

 private:
  class Work;
  std::unique_ptr<Work> work_;
};

}  // namespace saturn::train

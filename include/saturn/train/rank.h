// One rank's life: from the assignment to the last message.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "saturn/worker/messages.h"

namespace saturn::train {

/// The controller as a rank sees it: a worker::RankChannel, or a script in tests.
class Controller {
 public:
  virtual ~Controller() = default;
  virtual void send(const worker::FromRank& message) = 0;
  virtual void set_progress(std::int64_t step, std::string doing) = 0;
  virtual std::vector<worker::ToRank> take_requests() = 0;
};

/// Does what `assign` says and reports it: steps, metrics and checkpoints, then Finished; or one Error.
/// Nothing is thrown. Returns the exit code: 0, or 1 after an Error, when threads and connections of the
/// failed group may still be there and the process should end by _exit.
///
/// Files, by rank 0, in `assign.job_directory`: metrics.jsonl, checkpoints/step-*/ (each rank its shard), and
/// after the job's last step model/. A trial writes to scratch/ there and removes it. `verify` leaves two checkpoints.
///
/// Times in Finished: start_s (assignment to the beginning of the first step); of a trial also save_s and
/// load_s (one checkpoint), save_pause_s (that training waits for a save in the background), evaluate_s (the
/// whole validation set, scaled up from a part where it is long) and export_s (writing the final weights).
/// Metrics in Finished: train_loss (of the last step), validation_loss and unigram_loss after the job's last
/// step.
int run_rank(const worker::Assign& assign, Controller& controller);

}  // namespace saturn::train

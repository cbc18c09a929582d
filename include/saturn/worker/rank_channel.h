// A rank's end of the stream: takes the assignment, sends messages, beats, and ends with its controller.

#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/base/result.h"
#include "saturn/worker/messages.h"
#include "saturn/worker/stream.h"

namespace saturn::worker {

/// Exit code of a rank whose controller went away.
inline constexpr int kControllerGoneExit = 75;

/// One thread reads and beats; any thread may send. When the stream ends, the rank's process group is killed:
/// a rank never outlives its controller, whatever its other threads do.
class RankChannel {
 public:
  struct Options {
    double heartbeat_interval_s = 1.0;
  };

  /// Takes over `fd` (the argument of `saturn worker --fd N`) and says `ready` (standby).
  static Result<std::unique_ptr<RankChannel>> open(int fd, Options options);
  static Result<std::unique_ptr<RankChannel>> open(int fd) { return open(fd, Options{}); }
  ~RankChannel();
  RankChannel(const RankChannel&) = delete;
  RankChannel& operator=(const RankChannel&) = delete;

  /// Waits for the assignment and applies what is not the training library's: log file, cores of every
  /// thread, visible GPUs, OMP_NUM_THREADS for children. Then says `ready` (assigned) and begins to beat.
  ///
  /// Errors: a log that cannot be opened (already reported to the controller as an `error`).
  Result<Assign> wait_for_assign();

  /// Sends, blocking while the controller does not read. Never fails: without a controller the rank ends.
  void send(const FromRank& message);

  /// What the next heartbeats say.
  void set_progress(std::int64_t step, std::string doing);

  /// The requests that came since the last call, in order; never blocks.
  std::vector<ToRank> take_requests();

 private:
  RankChannel(FileDescriptor fd, Options options);
  void run();                       // the thread: reads and beats
  void take_bytes();                // one read, with descriptors that came along
  void place(const Json& message);  // a whole message into assign_ or requests_
  void nudge();
  [[noreturn]] void misunderstood(const Diagnostics& faults);
  [[noreturn]] void end_rank();  // with whatever it started

  FileDescriptor fd_;
  FileDescriptor nudge_;  // an eventfd: the thread looks at its state again
  Options options_;

  std::mutex send_mutex_;

  std::mutex mutex_;  // guards what follows
  std::condition_variable arrived_;
  std::unique_ptr<Assign> assign_;
  std::vector<ToRank> requests_;
  FileDescriptor passed_;
  bool beating_ = false;
  bool stopping_ = false;
  Heartbeat progress_;

  FrameReader reader_;  // the thread's alone
  std::thread thread_;
};

}  // namespace saturn::worker

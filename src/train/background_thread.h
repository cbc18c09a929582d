// A thread that does what it is given, one task after the other, beside the training.

#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <thread>

namespace saturn::train {

/// Tasks run in the order of `submit`. One that waits for another must be submitted after it, on whichever
/// thread, so that nothing waits in a circle.
class BackgroundThread {
 public:
  /// `compute_threads` of LibTorch for operators that tasks call; 0: as many as the thread that trains.
  explicit BackgroundThread(int compute_threads);
  /// After all that was submitted has been done.
  ~BackgroundThread();
  BackgroundThread(const BackgroundThread&) = delete;
  BackgroundThread& operator=(const BackgroundThread&) = delete;

  /// What `task` throws is thrown again by the future's `get`. What it holds is let go before that returns.
  std::shared_future<void> submit(std::function<void()> task);

 private:
  struct Task {
    std::function<void()> run;
    std::promise<void> done;
  };

  void work(int compute_threads);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  bool ending_ = false;
  std::thread thread_;  ///< last: it uses the others
};

}  // namespace saturn::train

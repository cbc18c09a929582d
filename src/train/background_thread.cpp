// The loop of a background thread, and how many threads LibTorch's operators take in it.

#include "background_thread.h"

#include <ATen/Parallel.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include <utility>

namespace saturn::train {

BackgroundThread::BackgroundThread(int compute_threads)
    : thread_([this, compute_threads] { work(compute_threads); }) {}

BackgroundThread::~BackgroundThread() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

std::shared_future<void> BackgroundThread::submit(std::function<void()> task) {
  Task added{std::move(task), {}};
  std::shared_future<void> done = added.done.get_future().share();
  {
    const std::lock_guard lock(mutex_);
    tasks_.push_back(std::move(added));
  }
  changed_.notify_one();
  return done;
}

void BackgroundThread::work(int compute_threads) {
#ifdef _OPENMP
  // LibTorch gives a new thread the number that was set for all; it is changed for this thread only.
  if (compute_threads > 0 && at::get_num_threads() > compute_threads) ::omp_set_num_threads(compute_threads);
#else
  (void)compute_threads;
#endif
  while (true) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return ending_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      task = std::move(tasks_.front());
      tasks_.pop_front();
    }
    try {
      task.run();
      task.run = nullptr;
      task.done.set_value();
    } catch (...) {
      task.run = nullptr;
      task.done.set_exception(std::current_exception());
    }
  }
}

}  // namespace saturn::train

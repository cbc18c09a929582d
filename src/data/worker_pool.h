// Threads that share out independent pieces of work.

#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace saturn::data {

class WorkerPool {
 public:
  /// So many threads in all, the caller's one of them.
  explicit WorkerPool(int num_threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  /// work(i) for every i below `count`, in any order; returns when all are done. What a piece throws is
  /// thrown here, once all have ended. One caller at a time; further ones wait.
  void for_each(std::int64_t count, const std::function<void(std::int64_t)>& work);

 private:
  void run();
  void take_part(std::unique_lock<std::mutex>& lock);

  std::mutex callers_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable begun_, ended_;
  const std::function<void(std::int64_t)>* work_ = nullptr;
  std::int64_t next_ = 0, count_ = 0, num_done_ = 0;
  std::exception_ptr thrown_;
  bool stopping_ = false;

  std::vector<std::thread> threads_;
};

}  // namespace saturn::data

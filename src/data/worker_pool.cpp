// Pieces are taken one by one under a lock: each is large, such as an image.

#include "data/worker_pool.h"

#include <algorithm>
#include <utility>

namespace saturn::data {

WorkerPool::WorkerPool(int num_threads) {
  for (int i = 1; i < num_threads; ++i) threads_.emplace_back([this] { run(); });
}

WorkerPool::~WorkerPool() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  begun_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::for_each(std::int64_t count, const std::function<void(std::int64_t)>& work) {
  std::lock_guard one_caller(callers_);
  std::unique_lock lock(mutex_);
  work_ = &work;
  next_ = num_done_ = 0;
  count_ = count;
  thrown_ = nullptr;
  begun_.notify_all();
  take_part(lock);
  ended_.wait(lock, [this] { return num_done_ == count_; });
  work_ = nullptr;
  next_ = count_ = 0;
  if (thrown_) std::rethrow_exception(std::exchange(thrown_, nullptr));
}

void WorkerPool::take_part(std::unique_lock<std::mutex>& lock) {
  while (next_ < count_) {
    const std::int64_t mine = next_++;
    const auto& work = *work_;
    lock.unlock();
    std::exception_ptr thrown;
    try {
      work(mine);
    } catch (...) {
      thrown = std::current_exception();
    }
    lock.lock();
    if (thrown) thrown_ = thrown;
    if (++num_done_ == count_) ended_.notify_all();
  }
}

void WorkerPool::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    begun_.wait(lock, [this] { return stopping_ || next_ < count_; });
    if (stopping_) return;
    take_part(lock);
  }
}

}  // namespace saturn::data

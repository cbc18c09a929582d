// Exchanges on the CPU by messages between pairs, in a thread; elsewhere by the group's own collectives.

#include "train/shard_exchange.h"

#include <ATen/ATen.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>

#include "saturn/base/check.h"

namespace saturn::train {
namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

at::Tensor shard_of(const at::Tensor& flat, int shard, int num_shards) {
  const std::int64_t elements = flat.numel() / num_shards;
  return flat.narrow(0, shard * elements, elements);
}

class ByMessages final : public ShardExchange {
 public:
  explicit ByMessages(Communicator& communicator)
      : rank_(communicator.rank()),
        num_ranks_(communicator.num_ranks()),
        group_(communicator.group()->getBackend(c10::kCPU)),
        thread_([this] { run(); }) {}

  ~ByMessages() override {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  std::shared_ptr<Pending> all_gather(const at::Tensor& flat) override {
    return ask([this, flat](int tag) {
      std::vector<c10::intrusive_ptr<c10d::Work>> works;
      for (int distance = 1; distance < num_ranks_; ++distance) {
        const int from = (rank_ - distance + num_ranks_) % num_ranks_;
        works.push_back(receive(shard_of(flat, from, num_ranks_), from, tag));
      }
      for (int distance = 1; distance < num_ranks_; ++distance)
        works.push_back(send(shard_of(flat, rank_, num_ranks_), (rank_ + distance) % num_ranks_, tag));
      for (const auto& work : works) work->wait();
    });
  }

  // In as many rounds as there are peers; the order of the sum is a function of the rank.
  std::shared_ptr<Pending> reduce_scatter(const at::Tensor& flat, const at::Tensor& shard,
                                          bool add) override {
    return ask([this, flat, shard, add](int tag) {
      take(shard, shard_of(flat, rank_, num_ranks_), add);
      const at::Tensor arrived = at::empty_like(shard);
      for (int distance = 1; distance < num_ranks_; ++distance) {
        const int from = (rank_ - distance + num_ranks_) % num_ranks_;
        const int to = (rank_ + distance) % num_ranks_;
        const auto receiving = receive(arrived, from, tag);
        const auto sending = send(shard_of(flat, to, num_ranks_), to, tag);
        receiving->wait();
        take(shard, arrived, /*add=*/true);
        sending->wait();
      }
    });
  }

  CommunicationTimes times() const override {
    const std::lock_guard lock(mutex_);
    return times_;
  }

 private:
  struct Exchange final : Pending {
    explicit Exchange(ByMessages& exchange) : owner(exchange) {}
    void wait() override { owner.wait_for(*this); }

    ByMessages& owner;
    std::function<void()> body;
    bool done = false;
    std::exception_ptr fault;
  };

  c10::intrusive_ptr<c10d::Work> send(at::Tensor tensor, int to, int tag) {
    std::vector<at::Tensor> tensors = {std::move(tensor)};
    return group_->send(tensors, to, tag);
  }
  c10::intrusive_ptr<c10d::Work> receive(at::Tensor tensor, int from, int tag) {
    std::vector<at::Tensor> tensors = {std::move(tensor)};
    return group_->recv(tensors, from, tag);
  }

  /// A loop of its own, not an operator: this thread must not bring OpenMP threads of its own.
  static void take(const at::Tensor& into, const at::Tensor& from, bool add) {
    float* target = into.mutable_data_ptr<float>();
    const float* source = from.const_data_ptr<float>();
    const std::int64_t count = into.numel();
    if (add)
      for (std::int64_t i = 0; i < count; ++i) target[i] += source[i];
    else
      for (std::int64_t i = 0; i < count; ++i) target[i] = source[i];
  }

  std::shared_ptr<Pending> ask(std::function<void(int tag)> body) {
    auto exchange = std::make_shared<Exchange>(*this);
    next_tag_ = (next_tag_ + 1) % kNumTags;
    exchange->body = [body = std::move(body), tag = kFirstTag + next_tag_] { body(tag); };
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(exchange);
    }
    changed_.notify_all();
    return exchange;
  }

  void wait_for(Exchange& exchange) {
    std::unique_lock lock(mutex_);
    const double start_s = now_s();
    changed_.wait(lock, [&] { return exchange.done; });
    times_.exposed_s += now_s() - start_s;
    if (exchange.fault) std::rethrow_exception(exchange.fault);
  }

  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return ending_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const std::shared_ptr<Exchange> exchange = queue_.front();
      queue_.pop_front();
      std::exception_ptr fault = fault_;
      lock.unlock();
      const double start_s = now_s();
      if (!fault) {
        try {
          exchange->body();
        } catch (...) {
          fault = std::current_exception();
        }
      }
      exchange->body = nullptr;  // lets go of the buffers
      const double end_s = now_s();
      lock.lock();
      fault_ = fault;  // what comes after a broken exchange would wait for peers that are gone
      exchange->fault = fault;
      exchange->done = true;
      times_.all_s += end_s - start_s;
      changed_.notify_all();
    }
  }

  // Messages that others send through the same group have tags below.
  static constexpr int kFirstTag = 1 << 20;
  static constexpr int kNumTags = 1 << 20;

  const int rank_;
  const int num_ranks_;
  const c10::intrusive_ptr<c10d::Backend> group_;
  int next_tag_ = 0;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Exchange>> queue_;
  CommunicationTimes times_;
  std::exception_ptr fault_;
  bool ending_ = false;
  std::thread thread_;  ///< last: it uses the rest
};

class ByCollectives final : public ShardExchange {
 public:
  explicit ByCollectives(Communicator& communicator)
      : rank_(communicator.rank()), num_ranks_(communicator.num_ranks()), group_(communicator.group()) {}

  std::shared_ptr<Pending> all_gather(const at::Tensor& flat) override {
    at::Tensor whole = flat;
    at::Tensor mine = shard_of(flat, rank_, num_ranks_);
    return std::make_shared<Collective>(*this, group_->_allgather_base(whole, mine), nullptr);
  }

  std::shared_ptr<Pending> reduce_scatter(const at::Tensor& flat, const at::Tensor& shard,
                                          bool add) override {
    at::Tensor whole = flat;
    at::Tensor sum = add ? at::empty_like(shard) : shard;
    std::function<void()> after;
    if (add) after = [shard, sum] { shard.add_(sum); };
    return std::make_shared<Collective>(*this, group_->_reduce_scatter_base(sum, whole), std::move(after));
  }

  CommunicationTimes times() const override { return times_; }

 private:
  struct Collective final : Pending {
    Collective(ByCollectives& exchange, c10::intrusive_ptr<c10d::Work> asked, std::function<void()> then)
        : owner(exchange), work(std::move(asked)), after(std::move(then)), start_s(now_s()) {}
    void wait() override {
      const double wait_s = now_s();
      work->wait();
      if (after) after();
      const double end_s = now_s();
      owner.times_.exposed_s += end_s - wait_s;
      owner.times_.all_s += end_s - start_s;
      after = nullptr;
    }

    ByCollectives& owner;
    c10::intrusive_ptr<c10d::Work> work;
    std::function<void()> after;
    double start_s;
  };

  const int rank_;
  const int num_ranks_;
  const c10::intrusive_ptr<c10d::ProcessGroup> group_;
  CommunicationTimes times_;
};

}  // namespace

std::unique_ptr<ShardExchange> ShardExchange::make(Communicator& communicator, c10::Device device) {
  SATURN_CHECK(communicator.num_ranks() > 1, "one rank has nothing to exchange");
  if (device.is_cpu()) return std::make_unique<ByMessages>(communicator);
  return std::make_unique<ByCollectives>(communicator);
}

}  // namespace saturn::train

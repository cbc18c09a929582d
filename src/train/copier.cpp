// The copying threads, and the streams and events where the device is a GPU.

#include "copier.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <utility>

namespace saturn::train {
namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

c10::Event timed_event(c10::Device device) {
  return c10::Event(device.type(), c10::EventFlag::BACKEND_DEFAULT);
}

c10::Stream current_stream(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

void copy_now(const CopyPair& pair) {
  if (pair.to.is_cpu() && pair.from.is_cpu() && pair.to.scalar_type() == pair.from.scalar_type() &&
      pair.to.is_contiguous() && pair.from.is_contiguous()) {
    std::memcpy(pair.to.mutable_data_ptr(), pair.from.const_data_ptr(), pair.to.nbytes());
  } else {
    pair.to.copy_(pair.from, /*non_blocking=*/true);
  }
}

}  // namespace

Copier::Copier(c10::Device device) : device_(device) {
  if (device.is_cpu()) return;
  const c10::impl::VirtualGuardImpl streams(device.type());
  fetch_stream_ = streams.getStreamFromGlobalPool(device);
  write_stream_ = streams.getStreamFromGlobalPool(device);
}

std::shared_ptr<c10::Event> Copier::mark() {
  if (device_.is_cpu()) return nullptr;
  auto event = std::make_shared<c10::Event>(timed_event(device_));
  event->record(current_stream(device_));
  return event;
}

CopyPtr Copier::submit(BackgroundThread& thread, const std::optional<c10::Stream>& stream,
                       std::vector<CopyPair> pairs, std::vector<std::shared_future<void>> after,
                       std::function<void()> then, bool to_device) {
  auto copy = std::make_shared<Copy>();
  copy->done_ =
      thread.submit([this, copy = copy.get(), stream, device_work = mark(), pairs = std::move(pairs),
                     after = std::move(after), then = std::move(then), to_device] {
        const at::NoGradGuard no_grad;
        for (const std::shared_future<void>& before : after) before.get();
        if (!stream) {
          const double start_s = now_s();
          for (const CopyPair& pair : pairs) copy_now(pair);
          if (then) then();
          const std::lock_guard lock(mutex_);
          copy_s_ += now_s() - start_s;
          return;
        }
        const c10::StreamGuard guard(*stream);
        device_work->block(*stream);
        copy->begun_.emplace(timed_event(device_));
        copy->ended_.emplace(timed_event(device_));
        copy->begun_->record(*stream);
        for (const CopyPair& pair : pairs) copy_now(pair);
        copy->ended_->record(*stream);
        if (!to_device) copy->ended_->synchronize();
        if (then) then();
      });
  if (stream) timed_.push_back(copy);
  return copy;
}

CopyPtr Copier::fetch(std::vector<CopyPair> pairs, std::vector<std::shared_future<void>> after) {
  return submit(fetching_, fetch_stream_, std::move(pairs), std::move(after), {}, /*to_device=*/true);
}

CopyPtr Copier::write_back(std::vector<CopyPair> pairs, std::function<void()> then) {
  return submit(writing_, write_stream_, std::move(pairs), {}, std::move(then), /*to_device=*/false);
}

void Copier::wait_on_host(const std::shared_future<void>& done) {
  const double start_s = now_s();
  done.get();
  waited_s_ += now_s() - start_s;
}

void Copier::wait_on_device(const CopyPtr& copy) {
  wait_on_host(copy->done_);
  if (device_.is_cpu()) return;
  waits_.push_back({mark(), copy});
  copy->ended_->block(current_stream(device_));
}

Copier::Times Copier::times() {
  const std::lock_guard lock(mutex_);
  const auto seconds = [](const c10::Event& from, const c10::Event& to) {
    return std::max(0.0, from.elapsedTime(to) / 1e3);
  };
  for (const Waited& wait : waits_) waited_s_ += seconds(*wait.ready, *wait.copy->ended_);
  for (const CopyPtr& copy : timed_) {
    copy->done_.wait();
    copy_s_ += seconds(*copy->begun_, *copy->ended_);
  }
  waits_.clear();
  timed_.clear();
  return {copy_s_, waited_s_};
}

}  // namespace saturn::train

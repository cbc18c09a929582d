// Messages over c10d: NCCL's coalesced calls, or Gloo's from host memory.

#include "saturn/train/point_to_point.h"

#include <ATen/ATen.h>

#include <chrono>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/Work.hpp>

#include "saturn/base/check.h"

namespace saturn::train {

struct PostedMessage::OnItsWay {
  Message message;
  at::Tensor on_host;  ///< where the group sends from host memory and the tensor is not there
  std::chrono::milliseconds timeout{0};
  bool nccl = false;
  c10::intrusive_ptr<c10d::Work> work;
};

void PostedMessage::wait() {
  if (!on_its_way_) return;
  const std::shared_ptr<OnItsWay> one = std::move(on_its_way_);
  if (one->nccl) {
    one->work->wait();  // makes the current stream wait; the group's own watchdog bounds it
    return;
  }
  one->work->wait(one->timeout);
  if (!one->message.send && one->on_host.defined()) one->message.tensor.copy_(one->on_host);
}

std::vector<PostedMessage> post(Communicator& group, std::vector<Message> messages) {
  std::vector<PostedMessage> posted(messages.size());
  if (messages.empty()) return posted;
  c10d::ProcessGroup& process_group = *group.group();
  const bool nccl = group.uses_nccl();
  const std::chrono::milliseconds timeout(static_cast<std::int64_t>(group.timeout_s() * 1e3));
  if (nccl) process_group.startCoalescing(c10::kCUDA);
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const auto one = std::make_shared<PostedMessage::OnItsWay>();
    posted[i].on_its_way_ = one;
    one->message = std::move(messages[i]);
    one->timeout = timeout;
    one->nccl = nccl;
    const Message& message = one->message;
    SATURN_CHECK(message.tensor.is_contiguous(), "messages are contiguous");
    if (!nccl && !message.tensor.is_cpu())
      one->on_host = message.send
                         ? message.tensor.cpu()
                         : at::empty(message.tensor.sizes(), message.tensor.options().device(at::kCPU));
    std::vector<at::Tensor> tensors = {one->on_host.defined() ? one->on_host : message.tensor};
    one->work = message.send ? process_group.send(tensors, message.peer, message.tag)
                             : process_group.recv(tensors, message.peer, message.tag);
  }
  if (nccl) {
    const c10::intrusive_ptr<c10d::Work> all = process_group.endCoalescing(c10::kCUDA);
    for (PostedMessage& one : posted) one.on_its_way_->work = all;
  }
  return posted;
}

}  // namespace saturn::train

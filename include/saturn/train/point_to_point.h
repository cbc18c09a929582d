// Tensors from one rank of a group to another.

#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <vector>

#include "saturn/train/communicator.h"

namespace saturn::train {

/// One tensor on its way. Contiguous; neither changed nor (where received) read before `wait`.
struct Message {
  bool send = false;
  int peer = 0;  ///< rank of the group
  int tag = 0;   ///< messages of one direction between two ranks that are under way at once differ in it
  at::Tensor tensor;
};

/// A message that was posted. To be waited for before it is let go.
class PostedMessage {
 public:
  /// Returns when the tensor is sent, or there. Within the group's timeout: what is thrown otherwise, and
  /// when the peer dies, is c10::Error.
  void wait();
  bool is_posted() const { return on_its_way_ != nullptr; }

 private:
  friend std::vector<PostedMessage> post(Communicator& group, std::vector<Message> messages);

  struct OnItsWay;
  std::shared_ptr<OnItsWay> on_its_way_;
};

/// Starts all of `messages` together: no order among them can make two ranks wait for each other. Peers post
/// theirs in the same sequence of calls (NCCL requires it; with Gloo a receive may be posted early).
std::vector<PostedMessage> post(Communicator& group, std::vector<Message> messages);

}  // namespace saturn::train

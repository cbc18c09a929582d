// All-gather and reduce-scatter of flat buffers behind the back of the computation.

#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "saturn/train/communicator.h"
#include "saturn/train/placement.h"

namespace saturn::train {

/// Exchanges run one after the other in the order in which they are asked for, the same on every rank, while
/// the caller computes. Buffers must stay and not be touched until `wait`.
class ShardExchange {
 public:
  /// One exchange under way. `wait` throws what went wrong in it; on a GPU it orders the current stream
  /// behind it.
  class Pending {
   public:
    virtual ~Pending() = default;
    virtual void wait() = 0;
  };

  /// Among several ranks. On the CPU messages go straight between the buffers, in a thread of their own:
  /// Gloo's own reduce-scatter is an all-reduce of a copy, and its all-gather goes through a second buffer.
  static std::unique_ptr<ShardExchange> make(Communicator& communicator, c10::Device device);
  virtual ~ShardExchange() = default;

  /// `flat` is as many shards as there are ranks; this rank's is filled in, the others arrive.
  virtual std::shared_ptr<Pending> all_gather(const at::Tensor& flat) = 0;

  /// `shard` becomes the sum of its part of every rank's `flat`, in fp32; with `add`, on top of what it
  /// holds.
  virtual std::shared_ptr<Pending> reduce_scatter(const at::Tensor& flat, const at::Tensor& shard,
                                                  bool add) = 0;

  /// Until now; `exposed_s` is the part of it for which `wait` had to wait. Of exchanges waited for.
  virtual CommunicationTimes times() const = 0;
};

}  // namespace saturn::train

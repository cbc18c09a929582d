// The other ranks of a job: connect, a few collectives, and an end that cannot hang.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/intrusive_ptr.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "saturn/base/result.h"

namespace c10d {
class ProcessGroup;
class Store;
}  // namespace c10d

namespace saturn::train {

/// Where and how the ranks of one attempt meet.
struct Meeting {
  std::string host = "127.0.0.1";
  int port = 0;
  int listen_fd = -1;  ///< rank 0: the listening socket that the controller bound; taken over
  std::string key;     ///< secret prefix of every key of this attempt
  int rank = 0;
  int num_ranks = 1;
  double timeout_s = 300.0;
  bool nccl = false;  ///< NCCL between GPUs (CUDA builds); otherwise Gloo over loopback
};

/// The ranks of one job. Every call is a collective: all ranks make the same calls in the same order, and
/// each ends within the timeout. A peer's death, or the timeout, is thrown as c10::Error by LibTorch and
/// becomes an `error` message where a rank's life is wrapped (train/rank.h).
class Communicator {
 public:
  /// A group of one rank needs no meeting and does nothing in its collectives.
  static Result<std::unique_ptr<Communicator>> connect(Meeting meeting);
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  int rank() const { return rank_; }
  int num_ranks() const { return num_ranks_; }
  bool uses_nccl() const { return nccl_; }  ///< otherwise Gloo, which reads and writes host memory

  void sum(at::Tensor& tensor);        ///< in place, over all ranks
  void broadcast(at::Tensor& tensor);  ///< from rank 0
  void barrier();
  void set_timeout(double timeout_s);  ///< of the collectives from here on, those of sub-groups too
  double timeout_s() const { return *timeout_s_; }

  /// A group of some ranks of this one, numbered as they come in `ranks`; this rank is among them. Called by
  /// all of `ranks` alike and under one `name`, which no other sub-group of any of them has. A rank in
  /// several sub-groups makes them in the same order as its peers do.
  ///
  /// A sub-group obeys `set_timeout` of this group, ends with its `shutdown`, and must be gone by then. It
  /// has no sub-groups of its own.
  Result<std::unique_ptr<Communicator>> subgroup(const std::string& name, const std::vector<int>& ranks);

  /// A note for a rank that will take it, under a key that no other note has. Not collectives, and allowed from
  /// one thread beside the one that makes them; in a group of one there is no one to talk to.
  void post(const std::string& key, const std::string& note);
  std::string take(const std::string& key);  ///< waits for it, at most the timeout of the meeting

  /// For techniques that need more (reducers, point-to-point); null in a group of one.
  const c10::intrusive_ptr<c10d::ProcessGroup>& group() const { return group_; }

  /// Ends the group and its sub-groups on a good path; must be called before the process exits.
  void shutdown();

 private:
  Communicator(int rank, int num_ranks);

  int rank_;
  int num_ranks_;
  bool nccl_ = false;
  c10::intrusive_ptr<c10d::ProcessGroup> group_;
  std::shared_ptr<double> timeout_s_;  ///< one for a group and its sub-groups
  /// Of a group that was connected, not of a sub-group: how its sub-groups meet, and their connections.
  Meeting meeting_;
  c10::intrusive_ptr<c10d::Store> store_;
  std::vector<c10::intrusive_ptr<c10d::ProcessGroup>> subgroups_;
  c10::intrusive_ptr<c10d::Store> notes_;  ///< a connection of its own to the attempt's store
};

}  // namespace saturn::train

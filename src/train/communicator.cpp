// c10d behind a small door: a TCP store under the attempt's key, and Gloo (or NCCL) over it.

#include "saturn/train/communicator.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroup.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "saturn/base/check.h"
#include "saturn/base/log.h"
#include "saturn/train/gpu.h"

namespace saturn::train {
namespace {

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1e3));
}

c10::intrusive_ptr<c10d::Store> meet(const Meeting& meeting) {
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(meeting.port);
  options.isServer = meeting.rank == 0;
  options.numWorkers = static_cast<std::size_t>(meeting.num_ranks);
  options.waitWorkers = false;  // the group's own connections wait for everyone
  options.timeout = milliseconds(meeting.timeout_s);
  if (meeting.rank == 0 && meeting.listen_fd >= 0) options.masterListenFd = meeting.listen_fd;
  auto store = c10::make_intrusive<c10d::TCPStore>(meeting.host, options);
  return c10::make_intrusive<c10d::PrefixStore>(meeting.key, std::move(store));
}

void use_gloo(c10d::ProcessGroup& group, const c10::intrusive_ptr<c10d::Store>& store,
              const Meeting& meeting) {
  auto options = c10d::ProcessGroupGloo::Options::create(milliseconds(meeting.timeout_s));
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(meeting.host));
  auto gloo =
      c10::make_intrusive<c10d::ProcessGroupGloo>(store, meeting.rank, meeting.num_ranks, std::move(options));
  group.setBackend(c10::kCPU, c10d::ProcessGroup::BackendType::GLOO, gloo);
  // Ranks that share a GPU go through the host too.
  group.setBackend(c10::kCUDA, c10d::ProcessGroup::BackendType::GLOO, gloo);
  group.setDefaultBackend(c10d::ProcessGroup::BackendType::GLOO);
}

c10::intrusive_ptr<c10d::ProcessGroup> make_group(const c10::intrusive_ptr<c10d::Store>& store,
                                                  const Meeting& meeting) {
  auto group = c10::make_intrusive<c10d::ProcessGroup>(store, meeting.rank, meeting.num_ranks);
  if (meeting.nccl) {
    gpu::use_nccl(*group, store,
                  {.rank = meeting.rank, .num_ranks = meeting.num_ranks, .timeout_s = meeting.timeout_s});
  } else {
    use_gloo(*group, store, meeting);
  }
  return group;
}

/// NCCL takes nothing that lies on the host.
at::Tensor on_device_of(c10d::ProcessGroup& group, const at::Tensor& tensor) {
  if (tensor.is_cpu() && group.getBackendType() == c10d::ProcessGroup::BackendType::NCCL)
    return tensor.to(c10::Device(c10::kCUDA, 0));
  return tensor;
}

/// c10d keeps a record of the last collectives of all groups of a process, whose maps threads that use
/// several groups at once corrupt. Nobody reads it here; TORCH_FR_BUFFER_SIZE still turns it on.
void record_no_flights() {
  static const int done = ::setenv("TORCH_FR_BUFFER_SIZE", "0", /*overwrite=*/0);
  SATURN_CHECK(done == 0, "a short variable fits into the environment");
}

}  // namespace

Communicator::Communicator(int rank, int num_ranks)
    : rank_(rank), num_ranks_(num_ranks), timeout_s_(std::make_shared<double>(0.0)) {}

Communicator::~Communicator() {
  // A group that is still up here belongs to a rank that failed: its threads may wait for peers that are
  // gone, so it is left to the end of the process (which is _exit).
  if (store_) {
    for (auto& group : subgroups_) (void)group.release();
    if (group_) (void)group_.release();
  }
}

Result<std::unique_ptr<Communicator>> Communicator::connect(Meeting meeting) {
  record_no_flights();
  SATURN_CHECK(meeting.rank >= 0 && meeting.rank < meeting.num_ranks, "a rank is below the number of ranks");
  auto communicator = std::unique_ptr<Communicator>(new Communicator(meeting.rank, meeting.num_ranks));
  if (meeting.num_ranks == 1) {
    if (meeting.listen_fd >= 0) ::close(meeting.listen_fd);
    return communicator;
  }
  if (meeting.nccl && !gpu::is_built())
    return Diagnostic{.kind = Kind::machine,
                      .what = "NCCL was asked for and this build has none",
                      .expected = "a build with SATURN_CUDA",
                      .fix = "cmake --preset cuda && cmake --build --preset cuda"};
  communicator->store_ = meet(meeting);
  communicator->group_ = make_group(communicator->store_, meeting);
  communicator->notes_ = communicator->store_->clone();
  communicator->nccl_ = meeting.nccl;
  *communicator->timeout_s_ = meeting.timeout_s;
  communicator->meeting_ = std::move(meeting);
  return communicator;
}

Result<std::unique_ptr<Communicator>> Communicator::subgroup(const std::string& name,
                                                             const std::vector<int>& ranks) {
  const auto place = std::find(ranks.begin(), ranks.end(), rank_);
  SATURN_CHECK(place != ranks.end(), "a rank makes the sub-groups that it is in");
  auto communicator = std::unique_ptr<Communicator>(
      new Communicator(static_cast<int>(place - ranks.begin()), static_cast<int>(ranks.size())));
  if (ranks.size() == 1) return communicator;
  SATURN_CHECK(store_, "sub-groups are made of a group that was connected");
  Meeting meeting = meeting_;
  meeting.rank = communicator->rank_;
  meeting.num_ranks = communicator->num_ranks_;
  meeting.timeout_s = *timeout_s_;
  subgroups_.push_back(make_group(c10::make_intrusive<c10d::PrefixStore>(name, store_), meeting));
  communicator->group_ = subgroups_.back();
  communicator->nccl_ = nccl_;
  communicator->timeout_s_ = timeout_s_;
  return communicator;
}

void Communicator::post(const std::string& key, const std::string& note) {
  SATURN_CHECK(notes_, "notes are posted in a group that was connected");
  notes_->set(key, std::vector<std::uint8_t>(note.begin(), note.end()));
}

std::string Communicator::take(const std::string& key) {
  SATURN_CHECK(notes_, "notes are taken in a group that was connected");
  const std::vector<std::uint8_t> note = notes_->get(key);
  notes_->deleteKey(key);
  return {note.begin(), note.end()};
}

void Communicator::sum(at::Tensor& tensor) {
  if (!group_) return;
  std::vector<at::Tensor> tensors = {on_device_of(*group_, tensor)};
  group_->allreduce(tensors)->wait();
  if (!tensors.front().is_same(tensor)) tensor.copy_(tensors.front());
}

void Communicator::broadcast(at::Tensor& tensor) {
  if (!group_) return;
  std::vector<at::Tensor> tensors = {on_device_of(*group_, tensor)};
  group_->broadcast(tensors)->wait();
  if (!tensors.front().is_same(tensor)) tensor.copy_(tensors.front());
}

void Communicator::barrier() {
  if (!group_) return;
  // Not the group's own barrier(): that keeps its tensor in a static variable, which threads that meet at the
  // same time, in this group or another, release twice.
  group_->getDefaultBackend()->barrier()->wait();
}

void Communicator::set_timeout(double timeout_s) {
  *timeout_s_ = timeout_s;
  if (group_) group_->setTimeout(milliseconds(timeout_s));
  for (const auto& group : subgroups_) group->setTimeout(milliseconds(timeout_s));
}

void Communicator::shutdown() {
  if (!group_) return;
  barrier();  // no rank takes its connections away while another still waits on them
  if (meeting_.nccl) {
    for (const auto& group : subgroups_) group->shutdown();
    group_->shutdown();
  }
  subgroups_.clear();
  group_.reset();  // Gloo ends its threads and connections in its destructor
}

}  // namespace saturn::train

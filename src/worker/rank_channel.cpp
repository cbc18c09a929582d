// One thread that reads and beats; the rest of the rank only locks and sends.

#include "saturn/worker/rank_channel.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <set>

#include "saturn/base/log.h"
#include "worker/processes.h"

namespace saturn::worker {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Threads that a library has started already are moved too, so that none computes on another job's cores.
void pin_all_threads(const std::vector<int>& cores) {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int core : cores) {
    if (core < CPU_SETSIZE) CPU_SET(static_cast<unsigned>(core), &set);
  }
  std::error_code error;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task", error)) {
    const pid_t thread = static_cast<pid_t>(std::atoi(task.path().filename().c_str()));
    if (::sched_setaffinity(thread, sizeof set, &set) != 0 && errno != ESRCH) {
      log_warning("cannot pin to the assigned cores (" + std::string(std::strerror(errno)) +
                  "); going on unpinned");
      return;
    }
  }
}

// The GPUs this rank owns, by serial number: numbers depend on the order that CUDA is told to use.
std::string visible_gpus(const Assign& assign) {
  std::string visible;
  std::set<std::string> seen;
  for (const devices::Device& device : assign.devices) {
    if (device.kind != "gpu" || !seen.insert(device.gpu_uuid).second) continue;
    visible += (visible.empty() ? "" : ",") + device.gpu_uuid;
  }
  return visible;
}

Result<void> redirect_output(const std::string& log_path) {
  if (log_path.empty()) return {};
  SATURN_TRY(const FileDescriptor log, open_log(log_path));
  std::fflush(stdout);
  std::fflush(stderr);
  for (const int fd : {STDOUT_FILENO, STDERR_FILENO}) {
    if (::dup2(log.get(), fd) < 0) return system_fault(log_path, "redirect the output", errno);
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<RankChannel>> RankChannel::open(int fd, Options options) {
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0) {
    return Diagnostic{
        .what = "descriptor " + std::to_string(fd) + " is not a connected socket: " + std::strerror(errno),
        .expected = "the stream that a controller hands to its workers; people do not start them"};
  }
  FileDescriptor stream(fd);
  // What the job starts must not hold the stream open: its end is how death is noticed.
  if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) return system_fault("", "set up the stream", errno);
  std::unique_ptr<RankChannel> channel(new RankChannel(std::move(stream), options));
  channel->nudge_.reset(::eventfd(0, EFD_CLOEXEC));
  if (!channel->nudge_.valid()) return system_fault("", "make an eventfd", errno);

  // The thread takes no signals: they are the main thread's.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  channel->thread_ = std::thread([self = channel.get()] { self->run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);

  channel->send(Ready{.pid = ::getpid(), .phase = "standby"});
  return channel;
}

RankChannel::RankChannel(FileDescriptor fd, Options options) : fd_(std::move(fd)), options_(options) {}

RankChannel::~RankChannel() {
  if (!thread_.joinable()) return;
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  nudge();
  thread_.join();
}

void RankChannel::nudge() {
  const std::uint64_t one = 1;
  SATURN_CHECK(::write(nudge_.get(), &one, sizeof one) == sizeof one, "an eventfd takes a small count");
}

Result<Assign> RankChannel::wait_for_assign() {
  Assign assign;
  {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [this] { return assign_ != nullptr; });
    assign = *assign_;
    if (assign.rendezvous.port != 0 && assign.rank == 0) assign.rendezvous.listen_fd = passed_.release();
    progress_ = {.step = assign.from_step, .doing = "starting"};
  }
  if (Result<void> redirected = redirect_output(assign.log_path); !redirected.ok()) {
    const Diagnostic& fault = redirected.faults().front();
    const bool full = fault.kind == Kind::disk_full;
    send(Error{.error_class = full ? ErrorClass::disk_full : ErrorClass::bad_configuration,
               .message = fault.where + ": " + fault.what});
    return std::move(redirected).faults();
  }
  if (!assign.cores.empty()) pin_all_threads(assign.cores);
  ::setenv("CUDA_VISIBLE_DEVICES", visible_gpus(assign).c_str(), 1);
  ::setenv("OMP_NUM_THREADS", std::to_string(assign.threads).c_str(), 1);
  send(Ready{.pid = ::getpid(), .phase = "assigned"});
  {
    std::lock_guard lock(mutex_);
    beating_ = true;
  }
  nudge();
  return assign;
}

void RankChannel::send(const FromRank& message) {
  const std::string frame = frame_of(to_json(message));
  std::lock_guard lock(send_mutex_);
  for (std::size_t written = 0; written < frame.size();) {
    const ssize_t n = ::send(fd_.get(), frame.data() + written, frame.size() - written, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) end_rank();
    written += static_cast<std::size_t>(n);
  }
}

void RankChannel::set_progress(std::int64_t step, std::string doing) {
  std::lock_guard lock(mutex_);
  progress_ = {.step = step, .doing = std::move(doing)};
}

std::vector<ToRank> RankChannel::take_requests() {
  std::lock_guard lock(mutex_);
  return std::exchange(requests_, {});
}

void RankChannel::run() {
  const auto interval = std::chrono::duration_cast<SteadyClock::duration>(
      std::chrono::duration<double>(options_.heartbeat_interval_s));
  SteadyClock::time_point next_beat = SteadyClock::now() + interval;
  while (true) {
    bool beating = false;
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
      beating = beating_;
    }
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(next_beat - SteadyClock::now()).count();
    std::array<pollfd, 2> watched = {{{fd_.get(), POLLIN, 0}, {nudge_.get(), POLLIN, 0}}};
    ::poll(watched.data(), watched.size(), beating ? static_cast<int>(std::max<std::int64_t>(left, 0)) : -1);
    if ((watched[1].revents & POLLIN) != 0) {
      std::uint64_t count = 0;
      SATURN_CHECK(::read(nudge_.get(), &count, sizeof count) == sizeof count,
                   "a readable eventfd gives its count");
    }
    if (watched[0].revents != 0) take_bytes();
    if (beating && SteadyClock::now() >= next_beat) {
      next_beat = SteadyClock::now() + interval;
      std::unique_lock lock(mutex_);
      const Heartbeat beat = progress_;
      lock.unlock();
      send(beat);
    }
  }
}

void RankChannel::take_bytes() {
  std::array<char, 1 << 16> bytes;
  iovec piece{.iov_base = bytes.data(), .iov_len = bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const ssize_t n = ::recvmsg(fd_.get(), &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0) end_rank();
  const cmsghdr* passed = CMSG_FIRSTHDR(&header);
  if (passed != nullptr && passed->cmsg_level == SOL_SOCKET && passed->cmsg_type == SCM_RIGHTS) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(passed), sizeof fd);
    std::lock_guard lock(mutex_);
    passed_.reset(fd);
  }
  reader_.feed(std::string_view(bytes.data(), static_cast<std::size_t>(n)));
  Json message;
  FrameReader::Next next;
  while ((next = reader_.next(message)) == FrameReader::Next::message) place(message);
  if (next == FrameReader::Next::fault) misunderstood(reader_.faults());
}

void RankChannel::place(const Json& message) {
  Result<ToRank> read = to_rank_from_json(message);
  if (!read.ok()) misunderstood(read.faults());
  std::lock_guard lock(mutex_);
  if (auto* assign = std::get_if<Assign>(&*read)) {
    if (assign_ != nullptr) misunderstood({{.where = "message", .what = "a second assignment arrived"}});
    assign_ = std::make_unique<Assign>(std::move(*assign));
    arrived_.notify_all();
  } else {
    requests_.push_back(*std::move(read));
  }
}

// A controller of another version, or none of ours: its log tells, and the rank ends.
void RankChannel::misunderstood(const Diagnostics& faults) {
  std::fputs(to_text(faults).c_str(), stderr);
  end_rank();
}

void RankChannel::end_rank() {
  std::fflush(stderr);
  if (::getpgrp() == ::getpid()) ::kill(0, SIGKILL);
  ::_exit(kControllerGoneExit);
}

}  // namespace saturn::worker

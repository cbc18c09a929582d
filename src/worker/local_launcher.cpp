// The controller's children: a single-threaded poll loop over their streams and their deaths.

#include "saturn/worker/local_launcher.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>
#include <utility>

#include "saturn/base/log.h"
#include "saturn/worker/stream.h"
#include "worker/processes.h"

namespace saturn::worker {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kWithoutPidfdS =
    0.02;  // how often deaths are looked for where the kernel does not tell them
constexpr double kOomSampleS = 1.0;
// What ranks say is gathered this long: one that takes a thousand steps a second does not wake the controller
// as often. Deaths are not waited for.
constexpr double kGatherS = 0.05;
constexpr int kMaxStandbyFailures = 2;

constexpr std::int64_t kStandbyHeadroom = 8;       // of one standby's memory, free before it starts
constexpr std::int64_t kLeastStandbyHeadroom = 4;  // free while any is kept

struct Worker {
  std::string mark;  // in its environment, and in that of whatever it starts
  pid_t pid = 0;
  std::uint64_t start_ticks = 0;
  FileDescriptor pidfd;
  std::unique_ptr<Stream> stream;  // null once it has ended
  std::string attempt;             // empty: a standby
  int rank = 0;
  bool ready = false;
  bool discarded = false;  // its launch failed as a whole, or it is no longer needed: no event
  bool asked = false;
  bool killed = false;  // by us
  double kill_at_s = kNever;
  std::string trouble;  // why the launcher ended it

  void kill_now() {
    killed = true;
    kill_at_s = kNever;
    ::kill(-pid, SIGKILL);
  }
};

// Killed descendants of a dead rank, which become our children once whoever started them is gone: waited for
// by process id or, negative, by process group, for as long as that takes.
struct Orphan {
  pid_t id = 0;
  double until_s = 0;
};
constexpr double kOrphanS = 2.0;

struct Listener {
  FileDescriptor socket;
  std::string host;
  int port = 0;
};

template <class Address>
Result<Listener> listen_at(Address address, const char* host) {
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  Listener listener{.socket = FileDescriptor(::socket(generic->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0)),
                    .host = host};
  socklen_t length = sizeof address;
  if (!listener.socket.valid() || ::bind(listener.socket.get(), generic, length) != 0 ||
      ::listen(listener.socket.get(), SOMAXCONN) != 0 ||
      ::getsockname(listener.socket.get(), generic, &length) != 0) {
    return system_fault(host, "listen on the loopback interface", errno);
  }
  if constexpr (std::is_same_v<Address, sockaddr_in>) {
    listener.port = ntohs(address.sin_port);
  } else {
    listener.port = ntohs(address.sin6_port);
  }
  return listener;
}

// Bound by the controller and handed over, so that no other program can take the port in between.
Result<Listener> listen_on_loopback() {
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto listener = listen_at(v4, "127.0.0.1");
  if (listener.ok()) return listener;
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_addr = in6addr_loopback;
  auto other = listen_at(v6, "::1");
  return other.ok() ? std::move(other) : std::move(listener);
}

class LocalLauncher final : public Launcher {
 public:
  LocalLauncher(LocalLauncherOptions options, const Clock& clock)
      : options_(std::move(options)), clock_(clock) {}
  ~LocalLauncher() override;
  Result<void> start();

  Result<std::vector<RankProcess>> launch(LaunchRequest request) override;
  void send(const std::string& attempt, int rank, const ToRank& message) override;
  void send_all(const std::string& attempt, const ToRank& message) override;
  std::vector<WorkerEvent> poll(double timeout_s) override;
  void set_wake_fds(std::vector<int> fds) override { wake_fds_ = std::move(fds); }
  void stop(const std::string& attempt, double grace_s) override;
  void set_num_standby(int count) override;
  int num_living() const override;

 private:
  Result<Worker*> start_worker(const Assign* first);
  Result<Worker*> worker_for(const Assign& assign);
  void hand_over(Worker& worker, const std::string& attempt, const Assign& assign, int listen_fd);
  void deliver(Worker& worker, const ToRank& message, int pass_fd = -1);

  double wait_s(double deadline_s) const;
  enum class For { all, all_but_messages };
  bool wait(double seconds, For what);
  void keep_house();
  void keep_standby();
  void end_surplus_standby(int wanted);
  std::int64_t available_memory_bytes() const;
  void read_from(Worker& worker, std::vector<WorkerEvent>& events);
  void take(Worker& worker, const Json& message, std::vector<WorkerEvent>& events);
  void give_up_on(Worker& worker, std::string trouble);
  bool has_exited(const Worker& worker, siginfo_t& how) const;
  void bury(Worker& worker, const siginfo_t& how, std::vector<WorkerEvent>& events);
  void bury_the_dead(std::vector<WorkerEvent>& events);
  void end_descendants(const std::string& mark);
  void reap_orphans();

  LocalLauncherOptions options_;
  const Clock& clock_;
  std::string mark_;
  std::unique_ptr<Guardian> guardian_;
  pid_t owner_ = ::getpid();
  int was_subreaper_ = 0;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<Orphan> orphans_;
  std::vector<int> wake_fds_;
  int next_serial_ = 1;
  int num_standby_ = 0;
  int num_standby_failures_ = 0;
  double next_standby_s_ = 0;
  double memory_seen_s_ = -kNever;
  double oom_sampled_s_ = -kNever;
  double heard_s_ = -kNever;  ///< when `poll` last returned anything
  std::uint64_t oom_kills_ = 0;
};

Result<void> LocalLauncher::start() {
  mark_ = "SATURN_WORKER=" + random_key(8) + ".";
  // Descendants of a dead rank become our children instead of init's, so that they can be ended and reaped.
  ::prctl(PR_GET_CHILD_SUBREAPER, &was_subreaper_);
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  SATURN_TRY(guardian_, Guardian::start(mark_));
  return {};
}

LocalLauncher::~LocalLauncher() {
  if (::getpid() != owner_) return;  // a fork of the controller ends what it started, not what is ours
  for (const auto& worker : workers_) ::kill(-worker->pid, SIGKILL);
  for (const auto& worker : workers_) {
    while (::waitpid(worker->pid, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  if (guardian_ != nullptr) end_descendants(mark_);
  reap_orphans();
  ::prctl(PR_SET_CHILD_SUBREAPER, was_subreaper_);
}

// ---- Starting

Result<Worker*> LocalLauncher::start_worker(const Assign* first) {
  SATURN_TRY(SocketPair pair, make_socket_pair());
  const std::string& log_path = first != nullptr ? first->log_path : options_.standby_log_path;
  FileDescriptor log;
  if (!log_path.empty()) {
    SATURN_TRY(log, open_log(log_path));
  }
  auto worker = std::make_unique<Worker>();
  worker->mark = mark_ + std::to_string(next_serial_++) + ".";
  Spawn request{.executable = options_.executable,
                .arguments = {"saturn"},
                .environment = options_.environment,
                .control_fd = pair.rank.get(),
                .stdout_fd = log.get(),
                .stderr_fd = log.get()};
  request.arguments.insert(request.arguments.end(), options_.arguments.begin(), options_.arguments.end());
  request.arguments.insert(request.arguments.end(), {"--fd", std::to_string(kControlFd)});
  request.environment.push_back(worker->mark);
  if (first != nullptr) {
    request.cores = first->cores;
    request.environment.push_back("OMP_NUM_THREADS=" + std::to_string(first->threads));
  }
  SATURN_TRY(worker->pid, spawn(request));
  worker->start_ticks = start_ticks_of(worker->pid);
  worker->pidfd = open_pidfd(worker->pid);
  worker->stream = std::make_unique<Stream>(std::move(pair.controller));
  workers_.push_back(std::move(worker));
  return workers_.back().get();
}

// The standby that is furthest, else a new process.
Result<Worker*> LocalLauncher::worker_for(const Assign& assign) {
  Worker* best = nullptr;
  for (const auto& worker : workers_) {
    if (!worker->attempt.empty() || worker->discarded || worker->stream == nullptr) continue;
    if (best == nullptr || (worker->ready && !best->ready)) best = worker.get();
  }
  if (best != nullptr) return best;
  return start_worker(&assign);
}

Result<std::vector<RankProcess>> LocalLauncher::launch(LaunchRequest request) {
  SATURN_CHECK(!request.ranks.empty() && !request.attempt.empty(),
               "an attempt has a name and at least one rank");
  for (const auto& worker : workers_) {
    SATURN_CHECK(worker->attempt != request.attempt, "an attempt's name is not used again while it lives");
  }
  next_standby_s_ = clock_.now_s() + options_.standby_delay_s;

  Listener listener;
  if (request.ranks.size() > 1) {
    SATURN_TRY(listener, listen_on_loopback());
  }
  const std::string key = request.ranks.size() > 1 ? random_key(16) : "";
  std::vector<Worker*> group;
  std::vector<RankProcess> processes;
  for (std::size_t rank = 0; rank < request.ranks.size(); ++rank) {
    Assign& assign = request.ranks[rank];
    assign.rank = static_cast<int>(rank);
    assign.num_ranks = static_cast<int>(request.ranks.size());
    assign.rendezvous.host = listener.host;
    assign.rendezvous.port = listener.port;
    assign.rendezvous.key = key;
    const std::size_t num_before = workers_.size();
    Result<Worker*> worker = worker_for(assign);
    if (!worker.ok()) {
      for (Worker* started : group) {
        started->discarded = true;
        started->attempt.clear();
        give_up_on(*started, "the launch of another rank failed");
      }
      return std::move(worker).faults();
    }
    (*worker)->attempt = request.attempt;  // so that the next rank does not take it too
    group.push_back(*worker);
    processes.push_back({.rank = assign.rank,
                         .pid = (*worker)->pid,
                         .start_ticks = (*worker)->start_ticks,
                         .was_standby = workers_.size() == num_before});
  }
  for (std::size_t rank = 0; rank < group.size(); ++rank) {
    hand_over(*group[rank], request.attempt, request.ranks[rank], rank == 0 ? listener.socket.get() : -1);
  }
  return processes;
}

void LocalLauncher::hand_over(Worker& worker, const std::string& attempt, const Assign& assign,
                              int listen_fd) {
  worker.attempt = attempt;
  worker.rank = assign.rank;
  deliver(worker, assign, listen_fd);
}

// ---- Talking

void LocalLauncher::deliver(Worker& worker, const ToRank& message, int pass_fd) {
  if (worker.stream == nullptr) return;
  // Where the other end is gone, poll will see the death.
  worker.stream->send(to_json(message), pass_fd);
  if (worker.stream->is_stuck()) give_up_on(worker, "it does not read its messages");
}

void LocalLauncher::send(const std::string& attempt, int rank, const ToRank& message) {
  for (const auto& worker : workers_) {
    if (worker->attempt == attempt && worker->rank == rank) deliver(*worker, message);
  }
}

void LocalLauncher::send_all(const std::string& attempt, const ToRank& message) {
  for (const auto& worker : workers_) {
    if (worker->attempt == attempt) deliver(*worker, message);
  }
}

void LocalLauncher::read_from(Worker& worker, std::vector<WorkerEvent>& events) {
  if (worker.stream == nullptr) return;
  std::vector<Json> messages;
  const Stream::State state = worker.stream->receive(messages);
  for (const Json& message : messages) take(worker, message, events);
  if (state == Stream::State::open) return;
  if (state == Stream::State::fault)
    give_up_on(worker, "its stream makes no sense: " + worker.stream->faults().front().what);
  worker.stream.reset();
  // A process that has closed its stream is on its way out; one that does not get there is helped.
  if (!worker.killed) worker.kill_at_s = std::min(worker.kill_at_s, clock_.now_s() + options_.exit_grace_s);
}

void LocalLauncher::take(Worker& worker, const Json& json, std::vector<WorkerEvent>& events) {
  Result<FromRank> message = from_rank_from_json(json);
  if (!message.ok()) {
    const Diagnostic& fault = message.faults().front();
    return give_up_on(worker, "its message makes no sense: " + fault.where + ": " + fault.what);
  }
  if (const auto* ready = std::get_if<Ready>(&*message)) {
    if (ready->protocol != kProtocolVersion) {
      return give_up_on(worker, "it speaks protocol " + std::to_string(ready->protocol) + ", not " +
                                    std::to_string(kProtocolVersion));
    }
    worker.ready = true;
    num_standby_failures_ = 0;
    if (ready->phase == "standby") return;  // the launcher's own business
  }
  if (const auto* error = std::get_if<Error>(&*message); error != nullptr && worker.attempt.empty()) {
    worker.trouble = error->message;
  }
  if (worker.attempt.empty() || worker.discarded) return;
  events.push_back({.attempt = worker.attempt,
                    .rank = worker.rank,
                    .time_s = clock_.now_s(),
                    .what = *std::move(message)});
}

// ---- Ending

void LocalLauncher::give_up_on(Worker& worker, std::string trouble) {
  if (worker.trouble.empty()) worker.trouble = std::move(trouble);
  worker.kill_now();
}

void LocalLauncher::stop(const std::string& attempt, double grace_s) {
  for (const auto& worker : workers_) {
    if (worker->attempt != attempt) continue;
    worker->asked = true;
    if (grace_s <= 0) {
      worker->kill_now();
    } else if (!worker->killed) {
      ::kill(-worker->pid, SIGTERM);
      worker->kill_at_s = std::min(worker->kill_at_s, clock_.now_s() + grace_s);
    }
  }
}

// Looks without reaping: as long as the leader is not reaped, its process group's number is nobody else's.
bool LocalLauncher::has_exited(const Worker& worker, siginfo_t& how) const {
  how.si_pid = 0;
  return ::waitid(P_PID, static_cast<id_t>(worker.pid), &how, WEXITED | WNOHANG | WNOWAIT) == 0 &&
         how.si_pid == worker.pid;
}

void LocalLauncher::bury(Worker& worker, const siginfo_t& how, std::vector<WorkerEvent>& events) {
  // 1. What it said last.
  std::size_t num_before = 0;
  do {
    num_before = events.size();
    read_from(worker, events);
  } while (worker.stream != nullptr && events.size() > num_before);
  // 2. What it started, out of its group and in it.
  end_descendants(worker.mark);
  ::kill(-worker.pid, SIGKILL);
  orphans_.push_back({-worker.pid, clock_.now_s() + kOrphanS});
  // 3. Itself.
  ::waitpid(worker.pid, nullptr, 0);
  if (worker.discarded) return;
  Ended ended{.asked = worker.asked};
  if (how.si_code == CLD_EXITED) {
    ended.exit_code = how.si_status;
    ended.reason = "exit code " + std::to_string(how.si_status);
  } else {
    ended.signal = how.si_status;
    const char* name = ::strsignal(how.si_status);
    ended.reason = "signal " + std::to_string(how.si_status) + " (" + (name == nullptr ? "?" : name) + ")";
    ended.out_of_host_memory = how.si_status == SIGKILL && !worker.killed && num_oom_kills() > oom_kills_;
  }
  if (ended.out_of_host_memory) ended.reason += ", killed by the kernel for want of memory";
  if (!worker.trouble.empty()) ended.reason += ": " + worker.trouble;
  if (worker.attempt.empty()) {
    log_debug("standby worker ended: " + ended.reason);
    if (!worker.ready && ++num_standby_failures_ >= kMaxStandbyFailures) {
      log_warning("standby workers end before they are ready (" + ended.reason +
                  "); jobs start without them");
      num_standby_ = 0;
    }
    return;
  }
  events.push_back({.attempt = worker.attempt, .rank = worker.rank, .time_s = clock_.now_s(), .what = ended});
}

// What is killed may have started another meanwhile: a pass that finds nobody new is the last, and nobody of
// ours that executes a program just then, who has no mark to be found by.
void LocalLauncher::end_descendants(const std::string& mark) {
  constexpr int kMaxWaits = 1000;  // half a second: a program may have been given no environment at all
  std::set<pid_t> ended;
  for (int waits = 0; waits < kMaxWaits;) {
    const std::size_t num_before = ended.size();
    std::vector<pid_t> unsettled;
    for (const pid_t pid : end_marked(mark, &unsettled)) ended.insert(pid);
    if (ended.size() > num_before) continue;
    if (std::none_of(unsettled.begin(), unsettled.end(), &is_descendant)) break;
    ++waits;
    ::usleep(500);
  }
  for (const pid_t pid : ended) orphans_.push_back({pid, clock_.now_s() + kOrphanS});
}

void LocalLauncher::bury_the_dead(std::vector<WorkerEvent>& events) {
  bool any = false;
  for (auto& worker : workers_) {
    siginfo_t how{};
    if (!has_exited(*worker, how)) continue;
    bury(*worker, how, events);
    worker.reset();
    any = true;
  }
  if (!any) return;
  std::erase(workers_, nullptr);
  next_standby_s_ = std::max(next_standby_s_, clock_.now_s() + options_.standby_delay_s);
}

void LocalLauncher::reap_orphans() {
  const double now_s = clock_.now_s();
  std::erase_if(orphans_, [now_s](const Orphan& orphan) {
    while (::waitpid(orphan.id, nullptr, WNOHANG) > 0) {
    }
    return now_s > orphan.until_s;
  });
}

int LocalLauncher::num_living() const {
  return static_cast<int>(std::count_if(workers_.begin(), workers_.end(), [](const auto& worker) {
    return !worker->attempt.empty() && !worker->discarded;
  }));
}

// ---- Standby workers

void LocalLauncher::set_num_standby(int count) {
  num_standby_ = std::max(count, 0);
  end_surplus_standby(num_standby_);
}

void LocalLauncher::end_surplus_standby(int wanted) {
  int surplus = -wanted;
  for (const auto& worker : workers_) surplus += worker->attempt.empty() && !worker->discarded ? 1 : 0;
  for (auto worker = workers_.rbegin(); worker != workers_.rend() && surplus > 0; ++worker) {
    if (!(*worker)->attempt.empty() || (*worker)->discarded) continue;
    (*worker)->discarded = true;
    give_up_on(**worker, "it is not needed any more");
    --surplus;
  }
}

std::int64_t LocalLauncher::available_memory_bytes() const {
  return options_.available_memory_bytes ? options_.available_memory_bytes()
                                         : devices::available_memory_bytes();
}

// One at a time, and not while a job has just begun or ended: loading the library costs a core for a moment.
// Jobs come first where memory is short.
void LocalLauncher::keep_standby() {
  int have = 0;
  for (const auto& worker : workers_) {
    if (!worker->attempt.empty() || worker->discarded) continue;
    if (!worker->ready) return;
    ++have;
  }
  const double now_s = clock_.now_s();
  if (have > 0 && now_s >= memory_seen_s_ + options_.memory_look_s) {
    memory_seen_s_ = now_s;
    if (available_memory_bytes() < kLeastStandbyHeadroom * options_.standby_memory_bytes) {
      log_debug("memory is short: standby workers end");
      return end_surplus_standby(0);
    }
  }
  if (have >= num_standby_ || now_s < next_standby_s_) return;
  if (available_memory_bytes() < kStandbyHeadroom * options_.standby_memory_bytes) {
    next_standby_s_ = now_s + options_.memory_look_s;
    return;
  }
  if (const auto started = start_worker(nullptr); !started.ok()) {
    log_warning("no standby worker: " + started.faults().front().what);
    num_standby_ = 0;
  }
}

// ---- Waiting

void LocalLauncher::keep_house() {
  const double now_s = clock_.now_s();
  for (const auto& worker : workers_) {
    if (worker->kill_at_s <= now_s) worker->kill_now();
  }
  keep_standby();
  reap_orphans();
  if (now_s >= oom_sampled_s_ + kOomSampleS) {
    oom_sampled_s_ = now_s;
    oom_kills_ = num_oom_kills();
  }
}

// Seconds until the launcher itself has something to do, or the deadline.
double LocalLauncher::wait_s(double deadline_s) const {
  double until_s = deadline_s;
  int num_standby = 0;
  bool loading = false;
  for (const auto& worker : workers_) {
    until_s = std::min(until_s, worker->kill_at_s);
    if (!worker->attempt.empty() || worker->discarded) continue;
    ++num_standby;
    loading |= !worker->ready;
  }
  const double now_s = clock_.now_s();
  if (num_standby < num_standby_ && !loading) until_s = std::min(until_s, next_standby_s_);
  const bool blind =
      std::any_of(workers_.begin(), workers_.end(), [](const auto& w) { return !w->pidfd.valid(); });
  if (blind) until_s = std::min(until_s, now_s + kWithoutPidfdS);
  return std::max(until_s - now_s, 0.0);
}

// False where a signal came or a wake descriptor is readable.
bool LocalLauncher::wait(double seconds, For what) {
  std::vector<pollfd> watched;
  for (const int fd : wake_fds_) watched.push_back({fd, POLLIN, 0});
  for (const auto& worker : workers_) {
    if (worker->pidfd.valid()) watched.push_back({worker->pidfd.get(), POLLIN, 0});
    if (worker->stream == nullptr) continue;
    const int reads = what == For::all ? POLLIN : 0;
    const int writes = worker->stream->wants_to_write() ? POLLOUT : 0;
    if ((reads | writes) != 0)
      watched.push_back({worker->stream->fd(), static_cast<short>(reads | writes), 0});
  }
  timespec limit{};
  const bool endless = std::isinf(seconds);
  if (!endless) {
    const double whole = std::floor(std::min(seconds, 1e9));
    limit.tv_sec = static_cast<time_t>(whole);
    limit.tv_nsec = static_cast<long>((std::min(seconds, 1e9) - whole) * 1e9);
  }
  if (::ppoll(watched.data(), watched.size(), endless ? nullptr : &limit, nullptr) < 0) return false;
  return std::none_of(watched.begin(), watched.begin() + static_cast<std::ptrdiff_t>(wake_fds_.size()),
                      [](const pollfd& one) { return one.revents != 0; });
}

std::vector<WorkerEvent> LocalLauncher::poll(double timeout_s) {
  const double deadline_s = timeout_s < 0 ? kNever : clock_.now_s() + timeout_s;
  std::vector<WorkerEvent> events;
  bool undisturbed = true;
  if (const double gather_s = heard_s_ + kGatherS - clock_.now_s(); gather_s > 0)
    undisturbed = wait(std::min(gather_s, wait_s(deadline_s)), For::all_but_messages);
  while (true) {
    keep_house();
    for (const auto& worker : workers_) {
      if (worker->stream != nullptr && worker->stream->wants_to_write()) worker->stream->flush();
      read_from(*worker, events);
    }
    bury_the_dead(events);
    if (!events.empty()) heard_s_ = clock_.now_s();
    if (!events.empty() || !undisturbed || clock_.now_s() >= deadline_s) return events;
    undisturbed = wait(wait_s(deadline_s), For::all);
  }
}

}  // namespace

Result<std::unique_ptr<Launcher>> make_local_launcher(LocalLauncherOptions options, const Clock& clock) {
  auto launcher = std::make_unique<LocalLauncher>(std::move(options), clock);
  SATURN_TRY_VOID(launcher->start());
  return std::unique_ptr<Launcher>(std::move(launcher));
}

}  // namespace saturn::worker

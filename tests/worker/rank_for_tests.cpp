// The rank's side of the protocol without LibTorch: does what the job's "act" says, so that the launcher is
// tested with real processes.
//
//     test_worker_rank [--start-s S] [--fail-start] [--announce] [--protocol N] --fd N

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "saturn/worker/rank_channel.h"

namespace saturn::worker {
namespace {

struct Arguments {
  double start_s = 0;
  bool fail_start = false;
  bool announce = false;
  int protocol = kProtocolVersion;
  int fd = -1;
};

Arguments parse(int argc, char** argv) {
  Arguments arguments;
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--fail-start") {
      arguments.fail_start = true;
    } else if (name == "--announce") {
      arguments.announce = true;
    } else if (i + 1 < argc) {
      const std::string value = argv[++i];
      if (name == "--start-s") arguments.start_s = std::stod(value);
      if (name == "--protocol") arguments.protocol = std::stoi(value);
      if (name == "--fd") arguments.fd = std::stoi(value);
    }
  }
  return arguments;
}

void sleep_s(double seconds) {
  ::usleep(static_cast<useconds_t>(seconds * 1e6));
}

double number_at(const Json& job, const char* key, double fallback) {
  return job.contains(key) ? job[key].get<double>() : fallback;
}

int num_open_descriptors() {
  int count = 0;
  DIR* directory = ::opendir("/proc/self/fd");
  while (const dirent* entry = ::readdir(directory)) count += entry->d_name[0] != '.' ? 1 : 0;
  ::closedir(directory);
  return count - 1;  // the directory itself
}

double number_in(const char* path) {
  const auto text = read_whole(path);
  return text.ok() ? std::atof(text->c_str()) : -1;
}

// What a rank finds itself in.
Metric surroundings(const Assign& assign) {
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof set, &set);
  const char* threads = std::getenv("OMP_NUM_THREADS");
  sigset_t blocked;
  ::sigprocmask(SIG_SETMASK, nullptr, &blocked);
  return {.values = {{"pid", ::getpid()},
                     {"num_cores", CPU_COUNT(&set)},
                     {"omp_num_threads", threads == nullptr ? -1 : std::atof(threads)},
                     {"leads_group", ::getpgrp() == ::getpid() ? 1 : 0},
                     {"num_descriptors", num_open_descriptors()},
                     {"term_blocked", sigismember(&blocked, SIGTERM)},
                     {"oom_score_adj", number_in("/proc/self/oom_score_adj")},
                     {"listen_fd", assign.rendezvous.listen_fd}}};
}

// Rank 0 takes one connection of every peer, and each brings the key.
bool meet(const Assign& assign) {
  const Rendezvous& rendezvous = assign.rendezvous;
  if (assign.rank != 0) {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(rendezvous.port));
    ::inet_pton(AF_INET, rendezvous.host.c_str(), &address.sin_addr);
    if (::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return false;
    const bool sent = ::write(fd, rendezvous.key.data(), rendezvous.key.size()) > 0;
    ::close(fd);
    return sent && rendezvous.listen_fd == -1;
  }
  for (int peer = 1; peer < assign.num_ranks; ++peer) {
    const int fd = ::accept(rendezvous.listen_fd, nullptr, nullptr);
    std::string key(256, '\0');
    const ssize_t n = ::read(fd, key.data(), key.size());
    ::close(fd);
    if (n <= 0 || key.substr(0, static_cast<std::size_t>(n)) != rendezvous.key) return false;
  }
  return true;
}

pid_t start_sleeper(bool escapes) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  if (escapes) ::setsid();
  ::execlp("sleep", "sleep", "1000", nullptr);
  ::_exit(127);
}

int train(RankChannel& channel, const Assign& assign) {
  const double step_s = number_at(assign.job, "step_s", 0.001);
  std::int64_t step = assign.from_step;
  std::int64_t last = assign.mode == Mode::load ? INT64_MAX : assign.to_step;
  while (step < last) {
    sleep_s(step_s);
    ++step;
    channel.set_progress(step, "step");
    channel.send(Step{.step = step, .loss = 1.0 / static_cast<double>(step), .step_time_s = step_s});
    for (const ToRank& request : channel.take_requests()) {
      if (std::holds_alternative<SaveCheckpoint>(request)) {
        channel.send(CheckpointSaved{.step = step, .path = assign.job_directory + "/step"});
      } else if (std::holds_alternative<End>(request)) {
        last = step;
      } else if (const auto* stop = std::get_if<StopAtStep>(&request)) {
        last = std::max(step, stop->step);
      }
    }
  }
  channel.send(Finished{.steps = step, .times = {{"start_s", 0.0}}});
  return 0;
}

int act(RankChannel& channel, const Assign& assign, int fd) {
  const std::string what = assign.job.contains("act") ? assign.job["act"].get<std::string>() : "train";
  if (what == "exit") return static_cast<int>(number_at(assign.job, "code", 0));
  if (what == "signal") return ::raise(static_cast<int>(number_at(assign.job, "signal", SIGKILL)));
  if (what == "print") {
    std::printf("out of rank %d\n", assign.rank);
    std::fflush(stdout);
    std::fprintf(stderr, "err of rank %d\n", assign.rank);
  }
  if (what == "print_key") std::puts(assign.rendezvous.key.c_str());
  if (what == "report") channel.send(surroundings(assign));
  if (what == "meet" && !meet(assign)) return 9;
  if (what == "nonsense") return ::write(fd, "zzzzzzzz", 8) == 8 ? (::pause(), 0) : 1;
  if (what == "close") {
    channel.send(Metric{});
    ::shutdown(fd, SHUT_WR);
    ::pause();
  }
  if (what == "ignore_term") {
    ::signal(SIGTERM, SIG_IGN);
    channel.send(Metric{});
    while (true) ::pause();
  }
  if (what == "freeze") {
    channel.send(Metric{});
    ::kill(::getpid(), SIGSTOP);
  }
  if (what == "idle") ::pause();
  if (what == "flood") {
    for (int i = 0; i < 20000; ++i) channel.send(Heartbeat{.step = i, .doing = "flooding"});
  }
  if (what == "spawn") {
    const pid_t in_group = start_sleeper(/*escapes=*/false);
    const pid_t escaped = start_sleeper(/*escapes=*/true);
    channel.send(Metric{.values = {{"in_group", in_group}, {"escaped", escaped}}});
    if (assign.job.contains("then_exit")) return 0;
    while (true) ::pause();
  }
  return train(channel, assign);
}

int run(const Arguments& arguments) {
  sleep_s(arguments.start_s);
  if (arguments.fail_start) {
    std::fputs("rank: cannot start\n", stderr);
    return 3;
  }
  if (arguments.protocol != kProtocolVersion) {
    const std::string frame = frame_of(to_json(FromRank(Ready{.protocol = arguments.protocol})));
    return ::write(arguments.fd, frame.data(), frame.size()) > 0 ? (::pause(), 0) : 1;
  }
  auto channel = RankChannel::open(arguments.fd, {.heartbeat_interval_s = 0.05});
  if (!channel.ok()) {
    std::fputs(to_text(channel.faults()).c_str(), stderr);
    return 2;
  }
  if (arguments.announce) {
    std::puts("ready");
    std::fflush(stdout);
  }
  const auto assign = (*channel)->wait_for_assign();
  if (!assign.ok()) return 2;
  return act(**channel, *assign, arguments.fd);
}

}  // namespace
}  // namespace saturn::worker

int main(int argc, char** argv) {
  return saturn::worker::run(saturn::worker::parse(argc, argv));
}

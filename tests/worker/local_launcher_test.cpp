#include "saturn/worker/local_launcher.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <set>

#include "saturn/base/files.h"
#include "saturn/base/random.h"
#include "tests/support/temporary_directory.h"
#include "worker/processes.h"

namespace saturn::worker {
namespace {

const SystemClock kClock;

bool exists(int pid) {
  return ::kill(pid, 0) == 0;
}  // a zombie does

struct Stat {
  std::string name;
  char state = 0;  // 0 where there is no such process
  int parent = 0;
};

Stat stat_of(int pid) {
  const auto text = read_whole("/proc/" + std::to_string(pid) + "/stat");
  if (!text.ok()) return {};
  const std::size_t open = text->find('(');
  const std::size_t close = text->rfind(')');
  return {text->substr(open + 1, close - open - 1), (*text)[close + 2], std::atoi(text->c_str() + close + 4)};
}

bool runs(int pid) {
  const char state = stat_of(pid).state;
  return state != 0 && state != 'Z' && state != 'X';
}

std::vector<int> children_of(int parent) {
  std::vector<int> children;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    const int pid = std::atoi(entry.path().filename().c_str());
    if (pid > 1 && stat_of(pid).parent == parent) children.push_back(pid);
  }
  return children;
}

// Only for what never comes: a machine may be slow, or busy with other things.
constexpr double kPatienceS = 60.0;

// Waits until `holds`.
bool eventually(const std::function<bool()>& holds) {
  const double deadline_s = kClock.now_s() + kPatienceS;
  while (!holds()) {
    if (kClock.now_s() > deadline_s) return false;
    ::usleep(2000);
  }
  return true;
}

LocalLauncherOptions test_options(std::vector<std::string> arguments = {}) {
  return {.executable = SATURN_TEST_RANK, .arguments = std::move(arguments), .standby_delay_s = 0.0};
}

std::unique_ptr<Launcher> make(LocalLauncherOptions options) {
  auto launcher = make_local_launcher(std::move(options), kClock);
  REQUIRE(launcher.ok());
  return *std::move(launcher);
}

LaunchRequest request_of(const std::string& attempt, int num_ranks, Json job,
                         Assign common = {.to_step = 3}) {
  LaunchRequest request{.attempt = attempt};
  common.job = std::move(job);
  request.ranks.assign(static_cast<std::size_t>(num_ranks), common);
  return request;
}

// Everything a launcher said while `wanted` was not yet there.
struct Heard {
  std::vector<WorkerEvent> events;

  template <class Message>
  std::vector<Message> all(int rank = -1) const {
    std::vector<Message> found;
    for (const WorkerEvent& event : events) {
      if (rank >= 0 && event.rank != rank) continue;
      if constexpr (std::is_same_v<Message, Ended>) {
        if (const auto* ended = std::get_if<Ended>(&event.what)) found.push_back(*ended);
      } else if (const auto* message = std::get_if<FromRank>(&event.what)) {
        if (const auto* one = std::get_if<Message>(message)) found.push_back(*one);
      }
    }
    return found;
  }
};

Heard listen(Launcher& launcher, const std::function<bool(const Heard&)>& enough) {
  Heard heard;
  const double deadline_s = kClock.now_s() + kPatienceS;
  while (!enough(heard) && kClock.now_s() < deadline_s) {
    for (WorkerEvent& event : launcher.poll(0.5)) heard.events.push_back(std::move(event));
  }
  CHECK_MESSAGE(enough(heard), "what was waited for did not come");
  return heard;
}

template <class Message>
std::function<bool(const Heard&)> has(std::size_t count = 1) {
  return [count](const Heard& heard) { return heard.all<Message>().size() >= count; };
}

Heard until_all_ended(Launcher& launcher) {
  return listen(launcher, [&launcher](const Heard&) { return launcher.num_living() == 0; });
}

// A launcher whose standby workers can be counted: each of them says so in a log of theirs once it is ready.
class WithStandby {
 public:
  explicit WithStandby(LocalLauncherOptions options) {
    options.standby_log_path = directory_.file("standby.txt");
    options.arguments.push_back("--announce");
    launcher_ = make(std::move(options));
  }
  Launcher* operator->() { return launcher_.get(); }
  Launcher& operator*() { return *launcher_; }

  // Waits until `count` standby workers in all have been ready since the beginning.
  void wait_for_standby(std::size_t count) {
    const auto num_ready = [&] {
      const auto log = read_whole(directory_.file("standby.txt"));
      return log.ok() ? static_cast<std::size_t>(std::count(log->begin(), log->end(), '\n')) : 0;
    };
    CHECK(eventually([&] { return launcher_->poll(0.01), num_ready() >= count; }));
    launcher_->poll(0.0);  // what the last one said before it wrote the line
  }

 private:
  testing::TemporaryDirectory directory_;
  std::unique_ptr<Launcher> launcher_;
};

TEST_SUITE("worker") {
  TEST_CASE("worker/local_launcher: a rank takes its assignment and trains and ends") {
    auto launcher = make(test_options());
    const auto processes = launcher->launch(request_of("a#1", 1, {{"name", "a"}}));
    REQUIRE(processes.ok());
    REQUIRE(processes->size() == 1);
    CHECK(processes->front().start_ticks == start_ticks_of(processes->front().pid));
    CHECK_FALSE(processes->front().was_standby);
    CHECK(launcher->num_living() == 1);
    const Heard heard = until_all_ended(*launcher);
    REQUIRE(heard.all<Ready>().size() == 1);
    CHECK(heard.all<Ready>().front().phase == "assigned");
    CHECK(heard.all<Step>().size() == 3);
    CHECK(heard.all<Finished>().size() == 1);
    CHECK(std::holds_alternative<Ended>(heard.events.back().what));
    CHECK(heard.all<Ended>().front().exit_code == 0);
    CHECK_FALSE(heard.all<Ended>().front().asked);
    CHECK_FALSE(exists(processes->front().pid));
  }

  TEST_CASE("worker/local_launcher: requests reach the rank") {
    auto launcher = make(test_options());
    REQUIRE(launcher->launch(request_of("a#1", 1, {{"name", "a"}}, {.to_step = 1'000'000})).ok());
    launcher->send("a#1", 0, SaveCheckpoint{});
    const Heard saved = listen(*launcher, has<CheckpointSaved>());
    CHECK_FALSE(saved.all<Step>().empty());
    const std::int64_t at = saved.all<Step>().back().step;
    launcher->send_all("a#1", StopAtStep{.step = at + 40});
    const Heard stopped = until_all_ended(*launcher);
    REQUIRE(stopped.all<Finished>().size() == 1);
    CHECK(stopped.all<Finished>().front().steps >= at + 40);  // later where it heard of it later
    CHECK(stopped.all<Finished>().front().steps == stopped.all<Step>().back().step);
    CHECK(stopped.all<Ended>().front().exit_code == 0);
    launcher->send_all("a#1", End{});  // nobody is there any more
  }

  TEST_CASE("worker/local_launcher: a rank finds nothing of the controller's but its stream") {
    const FileDescriptor leaked(::open("/dev/null", O_RDONLY));  // without close-on-exec
    sigset_t term;
    sigemptyset(&term);
    sigaddset(&term, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &term, nullptr);
    auto launcher = make(test_options());
    const int core = [] {
      cpu_set_t set;
      CPU_ZERO(&set);
      ::sched_getaffinity(0, sizeof set, &set);
      int first = 0;
      while (!CPU_ISSET(static_cast<unsigned>(first), &set)) ++first;
      return first;
    }();
    REQUIRE(
        launcher
            ->launch(request_of("a#1", 1, {{"act", "report"}}, {.cores = {core}, .threads = 3, .to_step = 1}))
            .ok());
    const Heard heard = until_all_ended(*launcher);
    ::sigprocmask(SIG_UNBLOCK, &term, nullptr);
    REQUIRE(heard.all<Metric>().size() == 1);
    auto values = heard.all<Metric>().front().values;
    CHECK(values["num_cores"] == 1);
    CHECK(values["omp_num_threads"] == 3);
    CHECK(values["leads_group"] == 1);
    CHECK(values["term_blocked"] == 0);
    CHECK(values["num_descriptors"] == 5);  // stdin, stdout, stderr, the stream, the channel's eventfd
    CHECK(values["oom_score_adj"] >= 300);
    CHECK(values["listen_fd"] == -1);
  }

  TEST_CASE("worker/local_launcher: a standby is taken and pinned and given its log") {
    const testing::TemporaryDirectory directory;
    WithStandby launcher(test_options());
    launcher->set_num_standby(1);
    launcher.wait_for_standby(1);
    Assign assign{.cores = {0}, .threads = 2, .log_path = directory.file("log.txt"), .to_step = 1};
    REQUIRE(write_whole(assign.log_path, "before\n").ok());
    LaunchRequest request = request_of("a#1", 2, {{"act", "print"}}, assign);
    request.ranks[1].log_path = directory.file("rank1.txt");
    const auto processes = launcher->launch(request);
    REQUIRE(processes.ok());
    CHECK((*processes)[0].was_standby);
    CHECK_FALSE((*processes)[1].was_standby);
    const Heard heard = until_all_ended(*launcher);
    CHECK(*read_whole(assign.log_path) == "before\nout of rank 0\nerr of rank 0\n");
    // A fresh one has its log from the beginning.
    CHECK(*read_whole(directory.file("rank1.txt")) == "ready\nout of rank 1\nerr of rank 1\n");

    launcher.wait_for_standby(2);
    const auto again = launcher->launch(request_of("b#1", 1, {{"act", "report"}}, assign));
    REQUIRE(again.ok());
    CHECK(again->front().was_standby);
    const Heard report = until_all_ended(*launcher);
    REQUIRE(report.all<Metric>().size() == 1);
    auto values = report.all<Metric>().front().values;
    CHECK(values["num_cores"] == 1);
    CHECK(values["omp_num_threads"] == 2);
  }

  TEST_CASE("worker/local_launcher: fresh and standby ranks meet on the controller's port with its key") {
    for (const int num_standby : {0, 1, 3}) {
      CAPTURE(num_standby);
      WithStandby launcher(test_options());
      launcher->set_num_standby(num_standby);
      launcher.wait_for_standby(static_cast<std::size_t>(num_standby));
      REQUIRE(launcher->launch(request_of("a#1", 3, {{"act", "meet"}}, {.to_step = 1})).ok());
      const Heard heard = until_all_ended(*launcher);
      for (const Ended& ended : heard.all<Ended>()) CHECK(ended.exit_code == 0);
      CHECK(heard.all<Finished>().size() == 3);
    }
  }

  TEST_CASE("worker/local_launcher: every attempt has a secret key of its own") {
    const testing::TemporaryDirectory directory;
    auto launcher = make(test_options());
    std::set<std::string> keys;
    for (int attempt = 1; attempt <= 3; ++attempt) {
      LaunchRequest request =
          request_of("a#" + std::to_string(attempt), 2, {{"act", "print_key"}}, {.to_step = 1});
      for (int rank = 0; rank < 2; ++rank)
        request.ranks[static_cast<std::size_t>(rank)].log_path =
            directory.file(std::to_string(attempt) + "." + std::to_string(rank));
      REQUIRE(launcher->launch(request).ok());
      until_all_ended(*launcher);
      const std::string key = *read_whole(request.ranks[0].log_path);
      CHECK(key == *read_whole(request.ranks[1].log_path));
      CHECK(key.size() == 32 + 1);  // 16 random bytes
      keys.insert(key);
    }
    CHECK(keys.size() == 3);
  }

  TEST_CASE("worker/local_launcher: an end is told with its reason after the last message") {
    struct Row {
      Json job;
      int exit_code;
      int signal;
      std::string reason;
    };
    const std::vector<Row> rows = {
        {{{"act", "exit"}, {"code", 7}}, 7, 0, "exit code 7"},
        {{{"act", "signal"}, {"signal", SIGUSR2}}, -1, SIGUSR2, "signal 12"},
        {{{"act", "signal"}, {"signal", SIGKILL}}, -1, SIGKILL, "signal 9"},
        {{{"act", "nonsense"}}, -1, SIGKILL, "its stream makes no sense"},
    };
    auto launcher = make(test_options());
    for (const Row& row : rows) {
      CAPTURE(row.job.dump());
      REQUIRE(launcher->launch(request_of("a#1", 1, row.job)).ok());
      const Heard heard = until_all_ended(*launcher);
      REQUIRE(heard.all<Ended>().size() == 1);
      const Ended ended = heard.all<Ended>().front();
      CHECK(ended.exit_code == row.exit_code);
      CHECK(ended.signal == row.signal);
      CHECK(ended.reason.find(row.reason) != std::string::npos);
      CHECK_FALSE(ended.out_of_host_memory);
      CHECK(std::holds_alternative<Ended>(heard.events.back().what));
    }
  }

  TEST_CASE("worker/local_launcher: no message of a flood is lost before the end") {
    auto launcher = make(test_options());
    REQUIRE(launcher->launch(request_of("a#1", 1, {{"act", "flood"}}, {.to_step = 1})).ok());
    const Heard heard = until_all_ended(*launcher);
    CHECK(heard.all<Heartbeat>().size() >= 20000);
    CHECK(heard.all<Finished>().size() == 1);
  }

  TEST_CASE("worker/local_launcher: what a rank says without pause is gathered for a moment") {
    auto launcher = make(test_options());
    REQUIRE(launcher->launch(request_of("a#1", 1, {{"act", "flood"}}, {.to_step = 1})).ok());
    const double begun_s = kClock.now_s();
    int num_heard = 0;
    while (launcher->num_living() > 0 && kClock.now_s() - begun_s < kPatienceS)
      num_heard += launcher->poll(0.5).empty() ? 0 : 1;
    CHECK(launcher->num_living() == 0);
    CHECK(num_heard >= 1);
    // The last may be the death, which is told at once.
    CHECK(kClock.now_s() - begun_s >= 0.049 * (num_heard - 2));
  }

  TEST_CASE("worker/local_launcher: every rank beats while it only waits") {
    auto launcher = make(test_options());
    REQUIRE(launcher->launch(request_of("a#1", 2, {{"act", "idle"}})).ok());
    const Heard heard = listen(*launcher, [](const Heard& h) {
      return h.all<Heartbeat>(0).size() > 2 && h.all<Heartbeat>(1).size() > 2;
    });
    CHECK(heard.all<Heartbeat>().front().doing == "starting");
    launcher->stop("a#1", 0);
    until_all_ended(*launcher);
  }

  TEST_CASE("worker/local_launcher: stop ends with TERM and after the grace with KILL") {
    auto launcher = make(test_options());
    REQUIRE(launcher->launch(request_of("polite#1", 1, {{"act", "idle"}})).ok());
    listen(*launcher, has<Ready>());
    launcher->stop("polite#1", 30);
    Ended ended = until_all_ended(*launcher).all<Ended>().front();
    CHECK(ended.signal == SIGTERM);
    CHECK(ended.asked);

    REQUIRE(launcher->launch(request_of("deaf#1", 1, {{"act", "ignore_term"}})).ok());
    listen(*launcher, has<Metric>());
    const double start_s = kClock.now_s();
    launcher->stop("deaf#1", 0.3);
    ended = until_all_ended(*launcher).all<Ended>().front();
    CHECK(ended.signal == SIGKILL);
    CHECK(kClock.now_s() - start_s >= 0.3);
  }

  TEST_CASE("worker/local_launcher: a rank that closes its stream or never reads is ended") {
    LocalLauncherOptions options = test_options();
    options.exit_grace_s = 0.2;
    auto launcher = make(options);
    REQUIRE(launcher->launch(request_of("a#1", 1, {{"act", "close"}})).ok());
    CHECK(until_all_ended(*launcher).all<Ended>().front().signal == SIGKILL);

    REQUIRE(launcher->launch(request_of("b#1", 1, {{"act", "freeze"}})).ok());
    listen(*launcher, has<Metric>());
    Assign large;
    large.job_directory = std::string(std::size_t{20} << 20, 'x');
    for (int i = 0; i < 5; ++i) launcher->send("b#1", 0, large);
    const Ended ended = until_all_ended(*launcher).all<Ended>().front();
    CHECK(ended.signal == SIGKILL);
    CHECK(ended.reason.find("does not read") != std::string::npos);
  }

  TEST_CASE("worker/local_launcher: what a rank started ends with it in its group or out of it") {
    for (const char* then : {"then_exit", "then_wait"}) {
      CAPTURE(then);
      auto launcher = make(test_options());
      REQUIRE(launcher->launch(request_of("a#1", 1, {{"act", "spawn"}, {then, true}})).ok());
      auto pids = listen(*launcher, has<Metric>()).all<Metric>().front().values;
      const int in_group = static_cast<int>(pids["in_group"]);
      const int escaped = static_cast<int>(pids["escaped"]);
      launcher->stop("a#1", 0);
      until_all_ended(*launcher);
      launcher->poll(0.1);
      CHECK(eventually([&] { return launcher->poll(0.01), !exists(in_group) && !exists(escaped); }));
    }
  }

  TEST_CASE("worker/local_launcher: all ranks or none are started") {
    const testing::TemporaryDirectory directory;
    auto launcher = make(test_options());
    LaunchRequest request = request_of("a#1", 2, {{"act", "idle"}});
    request.ranks[1].log_path = directory.file("nowhere/log.txt");
    const auto refused = launcher->launch(request);
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.faults().front().where == directory.file("nowhere/log.txt"));
    CHECK(launcher->num_living() == 0);
    request.ranks[1].log_path.clear();
    REQUIRE(launcher->launch(request).ok());  // the name is free again
    launcher->stop("a#1", 0);
    CHECK(until_all_ended(*launcher).all<Ended>().size() == 2);
  }

  TEST_CASE("worker/local_launcher: a program that cannot be executed is an end and not a fault") {
    const testing::TemporaryDirectory directory;
    auto launcher = make({.executable = "/nowhere/saturn"});
    REQUIRE(launcher->launch(request_of("a#1", 1, {}, {.log_path = directory.file("log.txt")})).ok());
    CHECK(until_all_ended(*launcher).all<Ended>().front().exit_code == 127);
    // Under the thread sanitizer a child's _exit writes out what its parent had not flushed.
    CHECK(read_whole(directory.file("log.txt"))->starts_with("saturn: cannot execute /nowhere/saturn\n"));
  }

  TEST_CASE("worker/local_launcher: a worker of another protocol is refused") {
    auto launcher = make(test_options({"--protocol", "999"}));
    REQUIRE(launcher->launch(request_of("a#1", 1, {})).ok());
    const Ended ended = until_all_ended(*launcher).all<Ended>().front();
    CHECK(ended.signal == SIGKILL);
    CHECK(ended.reason.find("protocol 999") != std::string::npos);
  }

  TEST_CASE("worker/local_launcher: standby workers that cannot start are given up and jobs are not") {
    auto launcher = make(test_options({"--fail-start"}));
    launcher->set_num_standby(2);
    for (int polls = 0; polls < 20; ++polls) launcher->poll(0.01);  // some come and go
    REQUIRE(launcher->launch(request_of("a#1", 1, {})).ok());
    CHECK(until_all_ended(*launcher).all<Ended>().front().exit_code == 3);
  }

  TEST_CASE("worker/local_launcher: standby workers end when they are not wanted and with the launcher") {
    const std::string family = "SATURN_TEST_FAMILY=" + random_key(8);
    const auto count = [&family] { return processes_marked(family).size(); };
    LocalLauncherOptions options = test_options();
    options.environment = {family};
    {
      WithStandby launcher(options);
      launcher->set_num_standby(2);
      launcher.wait_for_standby(2);
      CHECK(count() == 2);
      launcher->set_num_standby(1);
      CHECK(eventually([&] { return launcher->poll(0.01), count() == 1; }));
      REQUIRE(launcher->launch(request_of("a#1", 1, {{"act", "spawn"}})).ok());
      listen(*launcher, has<Metric>());
      CHECK(eventually([&] { return count() >= 3; }));  // what was started executes its program first
    }
    CHECK(eventually([&] { return count() == 0; }));
  }

  TEST_CASE(
      "worker/local_launcher: standby workers wait for free memory and give theirs back when it is short") {
    const std::string family = "SATURN_TEST_FAMILY=" + random_key(8);
    const auto count = [&family] { return processes_marked(family).size(); };
    LocalLauncherOptions options = test_options();
    options.environment = {family};
    options.standby_memory_bytes = 100;
    auto free_bytes = std::make_shared<std::int64_t>(799);
    options.available_memory_bytes = [free_bytes] { return *free_bytes; };
    options.memory_look_s = 0.0;
    WithStandby launcher(options);
    launcher->set_num_standby(2);
    for (int polls = 0; polls < 20; ++polls) launcher->poll(0.01);
    CHECK(count() == 0);
    REQUIRE(launcher->launch(request_of("a#1", 1, {})).ok());  // jobs do not need them
    until_all_ended(*launcher);

    *free_bytes = 800;
    launcher.wait_for_standby(2);
    CHECK(count() == 2);
    *free_bytes = 400;  // not enough for a new one, and enough to keep those that are there
    for (int polls = 0; polls < 20; ++polls) launcher->poll(0.01);
    CHECK(count() == 2);
    *free_bytes = 399;
    CHECK(eventually([&] { return launcher->poll(0.01), count() == 0; }));
  }

  TEST_CASE("worker/local_launcher: poll wakes for a descriptor and for a signal and at its timeout") {
    auto launcher = make(test_options());
    double start_s = kClock.now_s();
    CHECK(launcher->poll(0.05).empty());
    CHECK(kClock.now_s() - start_s >= 0.05);
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const FileDescriptor read_end(ends[0]);
    const FileDescriptor write_end(ends[1]);
    REQUIRE(::write(write_end.get(), "x", 1) == 1);
    launcher->set_wake_fds({read_end.get()});
    start_s = kClock.now_s();
    CHECK(launcher->poll(2.0 * kPatienceS).empty());
    CHECK(kClock.now_s() - start_s < kPatienceS);
  }
}

TEST_SUITE("worker") {
  TEST_CASE("worker/local_launcher: a fork of the controller leaves its ranks alone") {
    auto launcher = make(test_options());
    REQUIRE(launcher->launch(request_of("a#1", 1, {{"act", "idle"}})).ok());
    listen(*launcher, has<Ready>());
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      launcher.reset();
      ::_exit(0);
    }
    REQUIRE(::waitpid(child, nullptr, 0) == child);
    listen(*launcher, has<Heartbeat>(3));
    CHECK(launcher->num_living() == 1);
    launcher->stop("a#1", 0);
    until_all_ended(*launcher);
  }
}

// A controller that launches without end: what the test kills. Never returns.
[[noreturn]] void control_without_end(const std::string& family) {
  LocalLauncherOptions options = test_options({"--start-s", "0.02"});
  options.environment = {family};
  auto launcher = make_local_launcher(options, kClock);
  if (!launcher.ok()) ::_exit(1);
  (*launcher)->set_num_standby(2);
  for (int i = 0;; ++i) {
    const std::string attempt = "job#" + std::to_string(i);
    const char* acts[] = {"idle", "spawn", "ignore_term", "train"};
    const Json job = {{"act", acts[i % 4]}};
    if (!(*launcher)->launch(request_of(attempt, 2, job, {.to_step = 1'000'000})).ok()) ::_exit(1);
    for (int polls = 0; polls < 3; ++polls) (*launcher)->poll(0.02);
    if (i % 3 == 2) (*launcher)->stop("job#" + std::to_string(i - 1), 0.05);
  }
}

TEST_SUITE("worker") {
  TEST_CASE("worker/local_launcher: no process survives a killed controller at whatever time") {
    constexpr int kRounds = 20;
    Random random(2024);
    std::size_t most_at_kill = 0;
    for (int round = 0; round < kRounds; ++round) {
      const std::string family = "SATURN_TEST_FAMILY=" + random_key(8);
      // Early kills hit start-up, between fork and exec too; late ones hit trees of processes.
      const double after_s = 0.4 * random.uniform() * random.uniform();
      CAPTURE(round);
      CAPTURE(after_s);
      const pid_t controller = ::fork();
      REQUIRE(controller >= 0);
      if (controller == 0) control_without_end(family);
      ::usleep(static_cast<useconds_t>(after_s * 1e6));
      if (round % 4 == 3) eventually([&] { return processes_marked(family).size() >= 6; });
      most_at_kill = std::max(most_at_kill, processes_marked(family).size());
      ::kill(controller, SIGKILL);
      REQUIRE(::waitpid(controller, nullptr, 0) == controller);
      // tools/chaos holds it to two seconds.
      CHECK(eventually([&] { return processes_marked(family).empty(); }));
      for (const pid_t left : processes_marked(family)) ::kill(left, SIGKILL);
    }
    CHECK(most_at_kill >= 6);
  }

  TEST_CASE("worker/local_launcher: the guardian is no heir of a killed controller") {
    const std::string family = "SATURN_TEST_FAMILY=" + random_key(8);
    const pid_t controller = ::fork();
    REQUIRE(controller >= 0);
    if (controller == 0) control_without_end(family);
    std::vector<int> children;
    CHECK(eventually([&] {
      children = children_of(controller);
      return std::any_of(children.begin(), children.end(),
                         [](int pid) { return stat_of(pid).name == "saturn-guardian"; });
    }));
    ::kill(controller, SIGKILL);
    REQUIRE(::waitpid(controller, nullptr, 0) == controller);
    CHECK(eventually([&] { return std::none_of(children.begin(), children.end(), &runs); }));
  }
}

}  // namespace
}  // namespace saturn::worker

// The checkpoint writer and the journal, stopped or failed at every single system call that changes a file.

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "saturn/base/clock.h"
#include "saturn/base/files.h"
#include "saturn/checkpoint/shelf.h"
#include "saturn/journal/run_directory.h"
#include "tests/checkpoint/shards.h"
#include "tests/support/system_calls.h"
#include "tests/support/temporary_directory.h"

namespace saturn::testing {
namespace {

namespace fs = std::filesystem;

/// Numbers that a child leaves for its parent.
struct Outcome {
  int acknowledged = 0;  ///< how much of its work it was told is done
  int failed = 0;
  int disk_full = 0;
};

class SharedOutcome {
 public:
  SharedOutcome()
      : page_(static_cast<Outcome*>(
            ::mmap(nullptr, sizeof(Outcome), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {
    *page_ = {};
  }
  ~SharedOutcome() { ::munmap(page_, sizeof(Outcome)); }
  SharedOutcome(const SharedOutcome&) = delete;
  SharedOutcome& operator=(const SharedOutcome&) = delete;
  Outcome* operator->() { return page_; }

 private:
  Outcome* page_;
};

/// While it lives nothing waits for the disk: what a test sets up and looks at needs no power cut to survive.
class WithoutDisk {
 public:
  explicit WithoutDisk(const std::string& under) { arm({.under = under}); }
  ~WithoutDisk() { disarm(); }
};

/// Runs `work` in a child under `fault`; its exit code.
int in_child(const Fault& fault, const std::function<void()>& work) {
  const pid_t pid = ::fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    arm(fault);
    work();
    ::_exit(0);
  }
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

std::string text_of(const std::vector<SystemCall>& calls, std::size_t at) {
  if (at >= calls.size()) return "the end";
  const SystemCall& call = calls[at];
  return call.name + " " + file_name_of(call.path) + (call.to.empty() ? "" : " to " + file_name_of(call.to));
}

/// Where the first call of `name` on a path that ends in `ending` is; the number of calls where there is
/// none.
std::size_t first(const std::vector<SystemCall>& calls, const std::string& name, const std::string& ending,
                  std::size_t from = 0) {
  for (std::size_t i = from; i < calls.size(); ++i)
    if (calls[i].name == name && calls[i].path.ends_with(ending)) return i;
  return calls.size();
}

// ---- A checkpoint beside two that are there

struct Prepared {
  TemporaryDirectory directory;
  std::string shelf = directory.file("job/checkpoints");
  Prepared() {
    const WithoutDisk fast(directory.path());
    for (const std::int64_t step : {10, 20}) REQUIRE(save_made_up(at(step), step).ok());
  }
  std::string at(std::int64_t step) const { return join_path(shelf, checkpoint::name_of_step(step)); }
};

/// A save with its pruning, as rank 0 does it.
void save_and_prune(const Prepared& prepared, std::int64_t step, SharedOutcome& outcome) {
  const Result<void> saved = save_made_up(prepared.at(step), step);
  if (saved.ok()) {
    outcome->acknowledged = 1;
    if (!checkpoint::prune(prepared.shelf, 2).ok()) outcome->failed = 1;
  } else {
    outcome->failed = 1;
    outcome->disk_full = saved.faults().front().kind == Kind::disk_full ? 1 : 0;
    checkpoint::give_up(prepared.at(step));
  }
}

std::vector<SystemCall> calls_of_a_save(std::int64_t step) {
  Prepared prepared;
  SharedOutcome outcome;
  arm({.under = prepared.directory.path()});
  save_and_prune(prepared, step, outcome);
  std::vector<SystemCall> calls = disarm();
  REQUIRE(outcome->acknowledged == 1);
  REQUIRE(outcome->failed == 0);
  return calls;
}

/// What a loader finds, by its rule: the latest that verifies, else the one before.
std::optional<std::int64_t> usable_step(const std::string& shelf) {
  std::optional<std::int64_t> step = checkpoint::latest_in(shelf);
  while (step && !checkpoint::verify(join_path(shelf, checkpoint::name_of_step(*step))).ok())
    step = checkpoint::newest_before(shelf, *step);
  return step;
}

/// The next save works whatever was left behind, and leaves nothing behind itself.
void check_next_save(const Prepared& prepared) {
  const WithoutDisk fast(prepared.directory.path());
  SharedOutcome outcome;
  save_and_prune(prepared, 40, outcome);
  CHECK(outcome->failed == 0);
  CHECK(usable_step(prepared.shelf) == 40);
  CHECK(std::distance(fs::directory_iterator(prepared.shelf), fs::directory_iterator()) == 3);
}

// ---- A journal

constexpr int kNumEvents = 4;

void write_journal(const std::string& root, SharedOutcome& outcome) {
  const SystemClock clock;
  Result<journal::RunDirectory> directory = journal::RunDirectory::open(root, clock);
  if (!directory.ok() || !directory->begin().ok()) {
    outcome->failed = 1;
    return;
  }
  outcome->acknowledged = 1;
  for (int i = 1; i < kNumEvents; ++i) {
    journal::Event ended{.kind = journal::EventKind::run_ended};
    ended.details = {{"outcome", "done"}, {"exit_code", 0}};
    if (!directory->append(ended).ok()) {
      outcome->failed = 1;
      return;
    }
    outcome->acknowledged = i + 1;
  }
}

}  // namespace

TEST_SUITE("checkpoint") {
  TEST_CASE("checkpoint/crash: data reach the disk before names and a name before what depends on it") {
    const std::vector<SystemCall> calls = calls_of_a_save(30);
    const std::size_t published = first(calls, "rename", "step-000030.tmp");
    REQUIRE(published < calls.size());
    for (const char* shard : {"rank-00000.bin", "rank-00001.bin"}) {
      CAPTURE(shard);
      const std::size_t synced = first(calls, "fsync", shard);
      CHECK(synced < published);
      CHECK(first(calls, "write", shard, synced) == calls.size());  // nothing after its fsync
    }
    const std::size_t manifest = static_cast<std::size_t>(
        std::find_if(calls.begin(), calls.end(),
                     [](const SystemCall& call) {
                       return call.name == "rename" && call.to.ends_with("/manifest.json");
                     }) -
        calls.begin());
    CHECK(first(calls, "fsync", "rank-00001.bin") < manifest);
    CHECK(first(calls, "fsync_directory", "step-000030.tmp", manifest) < published);
    const std::size_t parent = first(calls, "fsync_directory", "checkpoints", published);
    CHECK(parent < first(calls, "write", "LATEST.tmp-" + std::to_string(::getpid()), published));
    // The oldest goes when the new one cannot get lost any more, and whole at once.
    const std::size_t away = first(calls, "rename", "step-000010", published);
    REQUIRE(away < calls.size());
    CHECK(parent < away);
    CHECK(away < first(calls, "remove", "rank-00000.bin"));
  }

  TEST_CASE("checkpoint/crash: a valid checkpoint is there whatever call a save ends at") {
    struct Row {
      std::string label;
      std::int64_t step;  ///< that is saved
      FaultKind kind;
      Loses loses;
    };
    for (const Row& row :
         {Row{"killed", 30, FaultKind::stop, Loses::nothing},
          Row{"killed within a write", 30, FaultKind::torn, Loses::nothing},
          Row{"power cut that loses data", 30, FaultKind::stop, Loses::data},
          Row{"power cut that loses names too", 30, FaultKind::stop, Loses::entries},
          Row{"killed while saving the same step again", 20, FaultKind::stop, Loses::nothing},
          Row{"power cut while saving the same step again", 20, FaultKind::stop, Loses::entries}}) {
      CAPTURE(row.label);
      const std::vector<SystemCall> calls = calls_of_a_save(row.step);
      REQUIRE(calls.size() > 20);
      for (std::size_t at = 0; at <= calls.size(); ++at) {
        CAPTURE(text_of(calls, at));
        Prepared prepared;
        SharedOutcome outcome;
        const int code = in_child({.under = prepared.directory.path(),
                                   .kind = row.kind,
                                   .at = static_cast<int>(at),
                                   .loses = row.loses},
                                  [&] { save_and_prune(prepared, row.step, outcome); });
        REQUIRE(code == (at < calls.size() ? kStopped : 0));
        const std::optional<std::int64_t> usable = usable_step(prepared.shelf);
        REQUIRE(usable);
        CHECK(*usable >= 20);
        if (outcome->acknowledged == 1) CHECK(*usable == row.step);
        // No name stands for half a checkpoint.
        for (const std::int64_t step : checkpoint::steps_in(prepared.shelf))
          CHECK(checkpoint::verify(prepared.at(step)).ok());
        check_next_save(prepared);
      }
    }
  }

  TEST_CASE("checkpoint/crash: a disk that fills or fails or writes too little keeps the old checkpoint") {
    const std::vector<SystemCall> calls = calls_of_a_save(30);
    for (const FaultKind kind : {FaultKind::no_space, FaultKind::io_error, FaultKind::short_write}) {
      CAPTURE(static_cast<int>(kind));
      int num_failed = 0;
      for (std::size_t at = 0; at < calls.size(); ++at) {
        CAPTURE(text_of(calls, at));
        Prepared prepared;
        SharedOutcome outcome;
        const int code = in_child(
            {.under = prepared.directory.path(), .kind = kind, .at = static_cast<int>(at), .loses = {}},
            [&] { save_and_prune(prepared, 30, outcome); });
        REQUIRE(code == 0);
        if (kind == FaultKind::short_write) CHECK(outcome->failed == 0);
        if (outcome->acknowledged == 0) {
          ++num_failed;
          CHECK(outcome->failed == 1);
          CHECK(outcome->disk_full == (kind == FaultKind::no_space ? 1 : 0));
        }
        const std::optional<std::int64_t> usable = usable_step(prepared.shelf);
        REQUIRE(usable);
        CHECK(*usable >= (outcome->acknowledged == 1 ? 30 : 20));
        check_next_save(prepared);
      }
      CHECK((num_failed > 5) == (kind != FaultKind::short_write));
    }
  }

  TEST_CASE(
      "checkpoint/crash: the journal is readable and keeps what was acknowledged whatever call it ends at") {
    TemporaryDirectory counted;
    SharedOutcome all;
    arm({.under = counted.path()});
    write_journal(counted.file("run"), all);
    const std::vector<SystemCall> calls = disarm();
    REQUIRE(all->acknowledged == kNumEvents);
    REQUIRE(calls.size() >= 2 * kNumEvents);
    const SystemClock clock;
    struct Row {
      std::string label;
      FaultKind kind;
      Loses loses;
    };
    for (const Row& row : {Row{"killed", FaultKind::stop, Loses::nothing},
                           Row{"killed within a write", FaultKind::torn, Loses::nothing},
                           Row{"power cut that loses data", FaultKind::stop, Loses::data},
                           Row{"power cut that loses names too", FaultKind::torn, Loses::entries},
                           Row{"disk full", FaultKind::no_space, Loses::nothing},
                           Row{"disk failing", FaultKind::io_error, Loses::nothing},
                           Row{"writes too little", FaultKind::short_write, Loses::nothing}}) {
      CAPTURE(row.label);
      for (std::size_t at = 0; at < calls.size(); ++at) {
        CAPTURE(text_of(calls, at));
        TemporaryDirectory directory;
        SharedOutcome outcome;
        const int code = in_child(
            {.under = directory.path(), .kind = row.kind, .at = static_cast<int>(at), .loses = row.loses},
            [&] { write_journal(directory.file("run"), outcome); });
        const bool stops = row.kind == FaultKind::stop || row.kind == FaultKind::torn;
        REQUIRE(code == (stops ? kStopped : 0));
        if (row.kind == FaultKind::short_write) CHECK(outcome->acknowledged == kNumEvents);
        const std::string path = directory.file("run") + "/events.jsonl";
        const auto content = journal::read_journal(path);
        REQUIRE(content.ok());
        const int num_events = static_cast<int>(content->events.size());
        CHECK(num_events >= outcome->acknowledged);
        CHECK(num_events <= outcome->acknowledged + 1);
        // The next controller repairs it and goes on.
        const WithoutDisk fast(directory.path());
        Result<journal::RunDirectory> next = journal::RunDirectory::open(directory.file("run"), clock);
        REQUIRE(next.ok());
        REQUIRE(next->begin().ok());
        const auto whole = journal::read_journal(path);
        REQUIRE(whole.ok());
        CHECK(!whole->torn);
        CHECK(static_cast<int>(whole->events.size()) == num_events + 1);
      }
    }
  }
}

}  // namespace saturn::testing

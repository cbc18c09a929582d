// The run directory: paths, lock, and the journal's bytes.

#include "saturn/journal/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "saturn/base/version.h"

namespace saturn::journal {
namespace {

// `is_locked` holds the lock for an instant: who finds it taken looks again.
constexpr int kLockAttempts = 5;
constexpr useconds_t kLockPauseUs = 20'000;

std::string numbered(const std::string& stem, int number, const std::string& ending) {
  char digits[16];
  std::snprintf(digits, sizeof digits, "%03d", number);
  return stem + "." + digits + ending;
}

int last_number(const std::string& directory, std::string_view stem, std::string_view ending) {
  int last = -1;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.size() < stem.size() + ending.size() + 2) continue;
    if (!name.starts_with(std::string(stem) + ".") || !name.ends_with(ending)) continue;
    const char* const begin = name.data() + stem.size() + 1;
    const char* const end = name.data() + name.size() - ending.size();
    int number = 0;
    const auto [stopped, error] = std::from_chars(begin, end, number);
    if (error == std::errc() && stopped == end) last = std::max(last, number);
  }
  return last;
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "unknown";
}

Diagnostic held(const std::string& root, const std::string& holder) {
  return {.kind = Kind::machine,
          .where = root,
          .what = "another saturn uses this run directory" + (holder.empty() ? "" : ": " + holder),
          .expected = "one controller for each run directory",
          .fix = "wait for it to end, stop it, or choose another directory with --dir"};
}

// A run directory is confined: what lies in it is made by Saturn, never a link to elsewhere.
Result<void> refuse_link(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0 && S_ISLNK(status.st_mode)) {
    return Diagnostic{.kind = Kind::machine,
                      .where = path,
                      .what = "a symbolic link stands where Saturn keeps its own files",
                      .expected = "a directory or a file of this run",
                      .fix = "remove the link"};
  }
  return {};
}

Result<FileDescriptor> take_lock(const RunPaths& paths) {
  const std::string path = paths.lock();
  FileDescriptor lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666));
  if (!lock.valid()) return system_fault(path, "create", errno);
  bool taken = false;
  for (int attempt = 0; attempt < kLockAttempts && !taken; ++attempt) {
    if (attempt > 0) ::usleep(kLockPauseUs);
    taken = ::flock(lock.get(), LOCK_EX | LOCK_NB) == 0;
    if (!taken && errno != EWOULDBLOCK) break;
  }
  if (!taken) {
    if (errno != EWOULDBLOCK) return system_fault(path, "lock", errno);
    const Result<std::string> holder = read_whole(path, 4096);
    std::string line = holder.ok() ? *holder : "";
    line.erase(std::remove(line.begin(), line.end(), '\n'), line.end());
    return held(paths.root(), line);
  }
  // The lock lives as long as this descriptor; what stands inside is for people and for the next message.
  const std::string line = "pid " + std::to_string(::getpid()) + " on " + host_name() + "\n";
  if (::ftruncate(lock.get(), 0) != 0 || ::pwrite(lock.get(), line.data(), line.size(), 0) < 0)
    return system_fault(path, "write", errno);
  return lock;
}

}  // namespace

std::string RunPaths::batch(int number) const {
  return root_ + "/" + numbered("batch", number, ".toml");
}

std::string RunPaths::plan(int number) const {
  return root_ + "/" + numbered("plan", number, ".json");
}

std::string RunPaths::log(const std::string& name, int rank) const {
  return job(name) + (rank == 0 ? "/log.txt" : "/log.rank-" + std::to_string(rank) + ".txt");
}

int RunPaths::last_batch() const {
  return last_number(root_, "batch", ".toml");
}

int RunPaths::last_plan() const {
  return last_number(root_, "plan", ".json");
}

std::string default_run_directory(const std::string& batch_name) {
  return "runs/" + batch_name;
}

Result<JournalContent> read_journal(const std::string& path) {
  JournalContent content;
  if (std::error_code ignored; !std::filesystem::exists(path, ignored)) return content;
  SATURN_TRY(const std::string text, read_whole(path));
  int line_number = 0;
  for (std::size_t begin = 0; begin < text.size();) {
    ++line_number;
    const std::size_t newline = text.find('\n', begin);
    const bool last = newline == std::string::npos || newline + 1 == text.size();
    const std::string_view line =
        std::string_view(text).substr(begin, std::min(newline, text.size()) - begin);
    const std::string where = position(path, line_number, 1);
    if (line_number == 1) SATURN_TRY_VOID(refuse_other_format(line, where));
    // Only the last line can have been cut by a crash: a write either ended or it did not, in order.
    if (newline == std::string::npos || (last && !is_whole(line))) {
      content.torn = true;
      return content;
    }
    Result<Event> event = event_from_line(line, where);
    if (!event.ok()) return std::move(event).faults();
    content.events.push_back(*std::move(event));
    begin = newline + 1;
    content.good_bytes = begin;
  }
  return content;
}

Result<RunState> read_run_state(const RunPaths& paths) {
  SATURN_TRY(const JournalContent content, read_journal(paths.events()));
  if (content.events.empty()) {
    return Diagnostic{.where = paths.root(),
                      .what = "no run has been started here",
                      .expected = "a run directory, such as runs/<batch name>",
                      .fix = "saturn run BATCH"};
  }
  return fold(content.events, paths.events());
}

bool is_locked(const RunPaths& paths) {
  const FileDescriptor lock(::open(paths.lock().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  // A shared lock, so that two readers who look at once do not see each other.
  return lock.valid() && ::flock(lock.get(), LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

Result<RunDirectory> RunDirectory::open(const std::string& root, const Clock& clock) {
  RunDirectory directory(root, clock);
  const RunPaths& paths = directory.paths_;
  SATURN_TRY_VOID(make_directories(root));
  SATURN_TRY(directory.lock_, take_lock(paths));
  for (const std::string& inside : {root + "/jobs", paths.trials(), paths.control(), paths.events()})
    SATURN_TRY_VOID(refuse_link(inside));
  SATURN_TRY_VOID(make_directories(root + "/jobs"));

  SATURN_TRY(const JournalContent content, read_journal(paths.events()));
  SATURN_TRY(directory.state_, fold(content.events, paths.events()));
  directory.events_.reset(
      ::open(paths.events().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666));
  if (!directory.events_.valid()) return system_fault(paths.events(), "open", errno);
  if (content.torn) {
    if (::ftruncate(directory.events_.get(), static_cast<off_t>(content.good_bytes)) != 0)
      return system_fault(paths.events(), "cut the torn last line off", errno);
    directory.repaired_ = true;
  }
  if (::fsync(directory.events_.get()) != 0) return system_fault(paths.events(), "fsync", errno);
  SATURN_TRY_VOID(sync_directory(root));
  directory.size_ = content.good_bytes;
  directory.base_s_ = directory.state_.time_s;
  return directory;
}

Result<Event> RunDirectory::begin() {
  Event started{.kind = EventKind::run_started};
  started.details["format"] = kEventsFormat;
  started.details["saturn"] = version();
  started.details["pid"] = ::getpid();
  started.details["host"] = host_name();
  return append(std::move(started));
}

void RunDirectory::start_clock() {
  SATURN_CHECK(!started_at_s_, "the clock of a run is started once");
  started_at_s_ = clock_->now_s();
}

double RunDirectory::time_s() const {
  return base_s_ + (started_at_s_ ? clock_->now_s() - *started_at_s_ : 0.0);
}

Result<Event> RunDirectory::append(Event event) {
  event.seq = state_.next_seq;
  event.time_s = time_s();
  event.unix_s = clock_->unix_s();
  const std::string line = to_line(event) + "\n";
  std::size_t written = 0;
  int error_number = 0;
  while (written < line.size() && error_number == 0) {
    const ssize_t n = ::write(events_.get(), line.data() + written, line.size() - written);
    if (n >= 0) {
      written += static_cast<std::size_t>(n);
    } else if (errno != EINTR) {
      error_number = errno;
    }
  }
  if (error_number == 0 && ::fdatasync(events_.get()) != 0) error_number = errno;
  if (error_number != 0) {
    // Cutting needs no space; should it fail too, the next controller repairs the torn line.
    if (::ftruncate(events_.get(), static_cast<off_t>(size_)) != 0) {
    }
    return system_fault(paths_.events(), "append", error_number);
  }
  size_ += line.size();
  const Result<void> applied = apply(state_, event, paths_.events());
  SATURN_CHECK(applied.ok(), applied.ok() ? "" : applied.faults().front().what.c_str());
  return event;
}

Result<void> RunDirectory::make_job_directory(const std::string& name) {
  const std::string path = paths_.job(name);
  for (const std::string& inside : {path, path + "/checkpoints", path + "/model", path + "/metrics.jsonl"})
    SATURN_TRY_VOID(refuse_link(inside));
  return make_directories(path);
}

Result<void> RunDirectory::set_aside_job(const std::string& name) {
  const std::string from = paths_.job(name);
  SATURN_TRY_VOID(refuse_link(from));
  if (std::error_code ignored; !std::filesystem::exists(from, ignored)) return {};
  const std::string replaced = paths_.root() + "/replaced";
  SATURN_TRY_VOID(refuse_link(replaced));
  SATURN_TRY_VOID(make_directories(replaced));
  const std::string to = replaced + "/" + numbered(name, last_number(replaced, name, "") + 1, "");
  if (::rename(from.c_str(), to.c_str()) != 0) return system_fault(from, "move to " + to, errno);
  SATURN_TRY_VOID(sync_directory(replaced));
  return sync_directory(paths_.root() + "/jobs");
}

}  // namespace saturn::journal

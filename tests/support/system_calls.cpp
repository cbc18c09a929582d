// The calls themselves go to the kernel directly; what is in between is counting, and a model of what is on
// disk.

#include "tests/support/system_calls.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>

namespace saturn::testing {
namespace {

namespace fs = std::filesystem;

/// A change of a directory that a power cut may undo.
struct Change {
  enum class What { made, renamed, exchanged } what = What::made;
  std::string path, to;
  std::string replaced;  ///< where what `to` was before has been put aside
  bool durable = false;
};

struct Model {
  Fault fault;
  bool armed = false;
  std::vector<SystemCall> calls;
  std::vector<Change> changes;
  std::map<std::uint64_t, std::int64_t> synced;  ///< size at the last fsync of each file written, by inode
  int num_aside = 0;
};

Model& model() {
  static Model one;
  return one;
}
std::recursive_mutex& mutex() {
  static std::recursive_mutex one;
  return one;
}
thread_local bool inside = false;  // our own calls do not count

std::string path_of_fd(int fd) {
  char link[64], path[PATH_MAX];
  std::snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t size = ::readlink(link, path, sizeof path);
  return size > 0 ? std::string(path, static_cast<std::size_t>(size)) : "";
}

std::string absolute_path(int directory, const char* path) {
  if (path[0] == '/') return fs::path(path).lexically_normal().string();
  const std::string base = directory == AT_FDCWD ? fs::current_path().string() : path_of_fd(directory);
  return (fs::path(base) / path).lexically_normal().string();
}

bool is_watched(const std::string& path) {
  const std::string& under = model().fault.under;
  return path.starts_with(under) && (path.size() == under.size() || path[under.size()] == '/');
}

std::uint64_t inode_of(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 ? status.st_ino : 0;
}

// ---- What a power cut leaves

void lose_data() {
  for (const auto& entry : fs::recursive_directory_iterator(model().fault.under)) {
    if (!entry.is_regular_file() || entry.is_symlink()) continue;
    const auto synced = model().synced.find(inode_of(entry.path().string()));
    if (synced != model().synced.end() && static_cast<std::int64_t>(entry.file_size()) > synced->second)
      fs::resize_file(entry.path(), static_cast<std::uintmax_t>(synced->second));
  }
}

void exchange(const std::string& a, const std::string& b) {
  ::syscall(SYS_renameat2, AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
}

/// Undoes, newest first, every change whose directory was not synced since.
void lose_entries() {
  std::vector<const Change*> kept;  // durable renames after the one that is looked at
  const auto now = [&kept](std::string path) {
    for (auto at = kept.rbegin(); at != kept.rend(); ++at) {
      const auto moved = [&](const std::string& from, const std::string& to) {
        if (path != from && !path.starts_with(from + "/")) return false;
        path = to + path.substr(from.size());
        return true;
      };
      if (!moved((*at)->path, (*at)->to) && (*at)->what == Change::What::exchanged)
        moved((*at)->to, (*at)->path);
    }
    return path;
  };
  std::error_code ignored;
  for (auto change = model().changes.rbegin(); change != model().changes.rend(); ++change) {
    if (change->durable) {
      if (change->what != Change::What::made) kept.push_back(&*change);
      continue;
    }
    const std::string path = now(change->path), to = now(change->to);
    switch (change->what) {
      case Change::What::made:
        fs::remove_all(path, ignored);
        break;
      case Change::What::renamed:
        fs::rename(to, path, ignored);
        if (!change->replaced.empty()) fs::rename(change->replaced, to, ignored);
        break;
      case Change::What::exchanged:
        exchange(path, to);
        break;
    }
  }
}

[[noreturn]] void stop() {
  inside = true;
  if (model().fault.loses != Loses::nothing) lose_data();
  if (model().fault.loses == Loses::entries) lose_entries();
  ::_exit(kStopped);
}

// ---- Counting

enum class Deed { proceed, half, fail };

bool is_write(const std::string& name) {
  return name == "write";
}
bool takes_space(const std::string& name) {
  return is_write(name) || name == "create" || name == "mkdir";
}
bool touches_disk(const std::string& name) {
  return is_write(name) || name == "fsync" || name == "fsync_directory";
}

/// Records the call, ends the process where that is asked, and says what to do; `errno` is set for `fail`.
Deed count(const std::string& name, const std::string& path, const std::string& to = "") {
  Model& state = model();
  const int index = static_cast<int>(state.calls.size());
  state.calls.push_back({name, path, to});
  const bool now = index == state.fault.at;
  switch (state.fault.kind) {
    case FaultKind::none:
      return Deed::proceed;
    case FaultKind::stop:
      if (now) stop();
      return Deed::proceed;
    case FaultKind::torn:
      if (now && !is_write(name)) stop();
      return now ? Deed::half : Deed::proceed;
    case FaultKind::no_space:
      if (index < state.fault.at || !takes_space(name)) return Deed::proceed;
      errno = ENOSPC;
      return Deed::fail;
    case FaultKind::io_error:
      if (index < state.fault.at || !touches_disk(name)) return Deed::proceed;
      errno = EIO;
      return Deed::fail;
    case FaultKind::short_write:
      return now && is_write(name) ? Deed::half : Deed::proceed;
  }
  return Deed::proceed;
}

/// Runs `body` with the model locked where the calls of this thread count.
template <class Real, class Body>
auto through(const Real& real, const Body& body) -> decltype(real()) {
  if (inside || !model().armed) return real();
  const std::lock_guard lock(mutex());
  inside = true;
  const auto result = body();
  inside = false;
  return result;
}

long write_through(int fd, const void* data, std::size_t size,
                   long (*real)(int, const void*, std::size_t, off_t), off_t at) {
  const auto all = [&] { return real(fd, data, size, at); };
  return through(all, [&]() -> long {
    const std::string path = path_of_fd(fd);
    if (!is_watched(path)) return all();
    struct stat status {};
    if (::fstat(fd, &status) == 0) model().synced.emplace(status.st_ino, status.st_size);
    const Deed deed = count("write", path);
    if (deed == Deed::fail) return -1;
    if (deed == Deed::proceed) return all();
    const long half = real(fd, data, size > 1 ? size / 2 : size, at);
    if (model().fault.kind == FaultKind::torn) stop();
    return half;
  });
}

int sync_through(int fd, long number) {
  const auto real = [&] { return static_cast<int>(::syscall(number, fd)); };
  return through(real, [&]() -> int {
    const std::string path = path_of_fd(fd);
    if (!is_watched(path)) return real();
    struct stat status {};
    if (::fstat(fd, &status) != 0) return -1;
    const bool directory = S_ISDIR(status.st_mode);
    if (count(directory ? "fsync_directory" : "fsync", path) == Deed::fail) return -1;
    if (!directory) model().synced[status.st_ino] = status.st_size;
    for (Change& change : model().changes)
      if (directory && fs::path(change.to.empty() ? change.path : change.to).parent_path() == path)
        change.durable = true;
    return 0;
  });
}

int open_through(int directory, const char* name, int flags, mode_t mode) {
  const auto real = [&] { return static_cast<int>(::syscall(SYS_openat, directory, name, flags, mode)); };
  return through(real, [&]() -> int {
    if ((flags & (O_CREAT | O_TRUNC)) == 0) return real();
    const std::string path = absolute_path(directory, name);
    if (!is_watched(path)) return real();
    const bool there = inode_of(path) != 0;
    if (count(there ? "open" : "create", path) == Deed::fail) return -1;
    const int fd = real();
    if (fd >= 0 && !there) {
      model().synced[inode_of(path)] = 0;
      model().changes.push_back({.what = Change::What::made, .path = path, .to = {}, .replaced = {}});
    }
    return fd;
  });
}

int rename_through(int from_directory, const char* from, int to_directory, const char* to, unsigned flags) {
  const auto real = [&] {
    return static_cast<int>(::syscall(SYS_renameat2, from_directory, from, to_directory, to, flags));
  };
  return through(real, [&]() -> int {
    const std::string path = absolute_path(from_directory, from), target = absolute_path(to_directory, to);
    if (!is_watched(path)) return real();
    const bool swap = (flags & RENAME_EXCHANGE) != 0;
    if (count(swap ? "exchange" : "rename", path, target) == Deed::fail) return -1;
    Change change{.what = swap ? Change::What::exchanged : Change::What::renamed,
                  .path = path,
                  .to = target,
                  .replaced = {}};
    if (struct stat status{}; !swap && ::lstat(target.c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
      change.replaced = model().fault.under + ".aside-" + std::to_string(model().num_aside++);
      if (::link(target.c_str(), change.replaced.c_str()) != 0) change.replaced.clear();
    }
    const int result = real();
    if (result == 0) model().changes.push_back(std::move(change));
    return result;
  });
}

int simple_through(const char* name, int directory, const char* relative, const std::function<int()>& real) {
  return through(real, [&]() -> int {
    const std::string path = absolute_path(directory, relative);
    if (!is_watched(path)) return real();
    if (count(name, path) == Deed::fail) return -1;
    const int result = real();
    if (result == 0 && std::string_view(name) == "mkdir")
      model().changes.push_back({.what = Change::What::made, .path = path, .to = {}, .replaced = {}});
    return result;
  });
}

long real_write(int fd, const void* data, std::size_t size, off_t) {
  return ::syscall(SYS_write, fd, data, size);
}
long real_pwrite(int fd, const void* data, std::size_t size, off_t at) {
  return ::syscall(SYS_pwrite64, fd, data, size, at);
}

/// A preloaded library is told by the environment.
[[maybe_unused]] const bool preloaded = [] {
  const char* const under = std::getenv("SATURN_FAULT_UNDER");
  const char* const kind = std::getenv("SATURN_FAULT_KIND");
  if (under == nullptr || kind == nullptr) return false;
  const std::map<std::string, FaultKind> kinds = {{"stop", FaultKind::stop},
                                                  {"torn", FaultKind::torn},
                                                  {"no_space", FaultKind::no_space},
                                                  {"io_error", FaultKind::io_error},
                                                  {"short_write", FaultKind::short_write}};
  const auto found = kinds.find(kind);
  if (found == kinds.end()) return false;
  const char* const at = std::getenv("SATURN_FAULT_AT");
  const char* const loses = std::getenv("SATURN_FAULT_LOSES");
  const std::string lost = loses == nullptr ? "" : loses;
  arm({.under = under,
       .kind = found->second,
       .at = at == nullptr ? 0 : std::atoi(at),
       .loses = lost == "data"      ? Loses::data
                : lost == "entries" ? Loses::entries
                                    : Loses::nothing});
  return true;
}();

}  // namespace

void arm(const Fault& fault) {
  const std::lock_guard lock(mutex());
  model() = Model{.fault = fault, .armed = true, .calls = {}, .changes = {}, .synced = {}};
}

std::vector<SystemCall> disarm() {
  const std::lock_guard lock(mutex());
  model().armed = false;
  return std::move(model().calls);
}

int num_calls() {
  const std::lock_guard lock(mutex());
  return static_cast<int>(model().calls.size());
}

}  // namespace saturn::testing

// ---- In place of the C library's

using namespace saturn::testing;

extern "C" {

ssize_t write(int fd, const void* data, std::size_t size) {
  return write_through(fd, data, size, &real_write, 0);
}
ssize_t pwrite(int fd, const void* data, std::size_t size, off_t at) {
  return write_through(fd, data, size, &real_pwrite, at);
}
ssize_t pwrite64(int fd, const void* data, std::size_t size, off64_t at) {
  return write_through(fd, data, size, &real_pwrite, at);
}
int fsync(int fd) {
  return sync_through(fd, SYS_fsync);
}
int fdatasync(int fd) {
  return sync_through(fd, SYS_fdatasync);
}

#define SATURN_OPEN(name, directory_parameter, directory)          \
  int name(directory_parameter const char* path, int flags, ...) { \
    mode_t mode = 0;                                               \
    if ((flags & (O_CREAT | O_TMPFILE)) != 0) {                    \
      va_list rest;                                                \
      va_start(rest, flags);                                       \
      mode = va_arg(rest, mode_t);                                 \
      va_end(rest);                                                \
    }                                                              \
    return open_through(directory, path, flags, mode);             \
  }
#define SATURN_COMMA ,
SATURN_OPEN(open, , AT_FDCWD)
SATURN_OPEN(open64, , AT_FDCWD)
SATURN_OPEN(openat, int at SATURN_COMMA, at)
SATURN_OPEN(openat64, int at SATURN_COMMA, at)

int rename(const char* from, const char* to) noexcept {
  return rename_through(AT_FDCWD, from, AT_FDCWD, to, 0);
}
int renameat2(int from_directory, const char* from, int to_directory, const char* to,
              unsigned flags) noexcept {
  return rename_through(from_directory, from, to_directory, to, flags);
}
int mkdir(const char* path, mode_t mode) noexcept {
  return simple_through("mkdir", AT_FDCWD, path,
                        [=] { return static_cast<int>(::syscall(SYS_mkdirat, AT_FDCWD, path, mode)); });
}
int unlink(const char* path) noexcept {
  return simple_through("remove", AT_FDCWD, path,
                        [=] { return static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, 0)); });
}
int unlinkat(int directory, const char* path, int flags) noexcept {
  return simple_through("remove", directory, path,
                        [=] { return static_cast<int>(::syscall(SYS_unlinkat, directory, path, flags)); });
}
int rmdir(const char* path) noexcept {
  return simple_through("remove", AT_FDCWD, path, [=] {
    return static_cast<int>(::syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR));
  });
}

}  // extern "C"

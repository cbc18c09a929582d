// The slow tier of CPU slots: a mapped file without a name, and how its pages come and go.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/base/units.h"
#include "saturn/train/memory.h"
#include "slow_tier.h"

namespace saturn::train {
namespace {

constexpr std::int64_t kPage = 4096;
constexpr std::int64_t kLeastDirty = std::int64_t{64} << 20;

std::string bytes_text(std::int64_t bytes) {
  return format_bytes(static_cast<double>(bytes));
}

// ---- A page that the disk cannot give
//
// Touching it raises SIGBUS, which no exception can stand for. The rank's log then says why it died.

struct Mapping {
  std::atomic<char*> begin{nullptr};
  std::atomic<char*> end{nullptr};
};
std::array<Mapping, 16> mappings;  // more tiers than a process ever has; one beyond dies without the message

extern "C" void report_lost_page(int, siginfo_t* info, void*) {
  constexpr char kMessage[] =
      "error: a page of the file that offloading keeps its state in cannot be read or written\n"
      "  expected: a disk without errors, and a file that no one cuts short\n"
      "  fix: look for I/O errors in the system's log; the run continues from the last checkpoint\n";
  const char* at = static_cast<const char*>(info->si_addr);
  for (const Mapping& mapping : mappings) {
    if (at < mapping.begin.load() || at >= mapping.end.load()) continue;
    const ssize_t ignored = ::write(STDERR_FILENO, kMessage, sizeof kMessage - 1);
    (void)ignored;
    break;
  }
  std::signal(SIGBUS, SIG_DFL);  // the access is tried again, and ends the process
}

void watch(char* begin, std::int64_t size) {
  static std::once_flag installed;
  std::call_once(installed, [] {
    struct sigaction action {};
    action.sa_sigaction = &report_lost_page;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGBUS, &action, nullptr);
  });
  for (Mapping& mapping : mappings) {
    char* none = nullptr;
    if (!mapping.begin.compare_exchange_strong(none, begin)) continue;
    mapping.end = begin + size;
    return;
  }
}

void unwatch(const char* begin) {
  for (Mapping& mapping : mappings) {
    if (mapping.begin.load() != begin) continue;
    mapping.end = nullptr;
    mapping.begin = nullptr;
  }
}

// ---- The file

struct Range {
  std::int64_t begin = 0;
  std::int64_t size = 0;
};

/// Pages written and not yet on the disk, oldest first, so that they never are more than a share of memory:
/// the system would let them grow until it stops every writer of the machine. Writing begins in the
/// background and is waited for one window later.
class DirtyPages {
 public:
  DirtyPages(int fd, std::int64_t most_bytes) : fd_(fd), most_bytes_(most_bytes) {}

  void add(Range range) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back(range);
    num_waiting_ += range.size;
    while (num_waiting_ > most_bytes_) {
      const Range oldest = waiting_.front();
      waiting_.pop_front();
      num_waiting_ -= oldest.size;
      sync(oldest, SYNC_FILE_RANGE_WRITE);
      started_.push_back(oldest);
      num_started_ += oldest.size;
    }
    while (num_started_ > most_bytes_) {
      const Range oldest = started_.front();
      started_.pop_front();
      num_started_ -= oldest.size;
      sync(oldest, SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    }
  }

  int error() const { return error_.load(); }

 private:
  void sync(Range range, unsigned int flags) {
    // File systems that cannot do it keep the pages themselves.
    if (::sync_file_range(fd_, range.begin, range.size, flags) != 0 && errno != ESPIPE && errno != EINVAL)
      error_ = errno;
  }

  int fd_;
  std::int64_t most_bytes_;
  std::mutex mutex_;
  std::deque<Range> waiting_, started_;
  std::int64_t num_waiting_ = 0;
  std::int64_t num_started_ = 0;
  std::atomic<int> error_{0};
};

class MappedTier final : public SlowTier {
 public:
  MappedTier(FileDescriptor fd, std::string directory, std::int64_t num_bytes, char* data,
             std::int64_t most_dirty_bytes)
      : SlowTier(num_bytes),
        fd_(std::move(fd)),
        directory_(std::move(directory)),
        dirty_(fd_.get(), most_dirty_bytes),
        bounds_dirty_(num_bytes > most_dirty_bytes) {
    base_ = data;
    watch(data, num_bytes);
    count_slow_memory(num_bytes);
  }
  ~MappedTier() override {
    unwatch(base_);
    ::munmap(base_, static_cast<std::size_t>(num_bytes()));
    count_slow_memory(-num_bytes());
  }

  void will_read(const at::Tensor& part) override {
    const Range range = pages_of(part);
    ::madvise(base_ + range.begin, static_cast<std::size_t>(range.size), MADV_WILLNEED);
  }

  void written(const at::Tensor& part) override {
    if (bounds_dirty_) dirty_.add(pages_of(part));
  }

  Result<void> check() const override {
    if (const int error = dirty_.error(); error != 0)
      return system_fault(directory_, "write the file that offloading keeps its state in", error);
    struct stat status {};
    if (::fstat(fd_.get(), &status) != 0) return system_fault(directory_, "look at its offload file", errno);
    if (status.st_size >= num_bytes()) return {};
    return Diagnostic{.kind = Kind::machine,
                      .where = directory_,
                      .what = "the file that offloading keeps its state in has " + bytes_text(status.st_size),
                      .expected = "the " + bytes_text(num_bytes()) + " that were reserved",
                      .fix = "find out what cut it short; the run continues from the last checkpoint"};
  }

 private:
  Range pages_of(const at::Tensor& part) const {
    const std::int64_t begin = static_cast<const char*>(part.const_data_ptr()) - base_;
    const std::int64_t first = begin / kPage * kPage;
    const std::int64_t last = begin + static_cast<std::int64_t>(part.nbytes());
    return {first, std::min((last + kPage - 1) / kPage * kPage, num_bytes()) - first};
  }

  FileDescriptor fd_;
  std::string directory_;
  DirtyPages dirty_;
  bool bounds_dirty_;
};

/// A file that no directory lists.
Result<FileDescriptor> nameless_file(const std::string& directory) {
  FileDescriptor fd(::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (fd.valid()) return fd;
  // Some file systems have no such files: one is made and its name removed.
  std::string path = join_path(directory, "offload.XXXXXX");
  fd.reset(::mkostemp(path.data(), O_CLOEXEC));
  if (!fd.valid()) return system_fault(directory, "create the file for offloaded state", errno);
  if (::unlink(path.c_str()) != 0) return system_fault(path, "remove the name", errno);
  return fd;
}

std::int64_t memory_of_machine() {
  return static_cast<std::int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGESIZE);
}

}  // namespace

Result<std::unique_ptr<SlowTier>> map_slow_tier(const std::string& asked_directory, std::int64_t num_bytes,
                                                std::int64_t most_dirty_bytes) {
  const char* temporary = std::getenv("TMPDIR");
  const std::string directory = !asked_directory.empty() ? asked_directory
                                : temporary != nullptr   ? temporary
                                                         : "/tmp";
  const std::int64_t size = std::max((num_bytes + kPage - 1) / kPage * kPage, kPage);
  SATURN_TRY_VOID(make_directories(directory));
  SATURN_TRY(const std::uint64_t free, free_bytes(directory));
  if (free < static_cast<std::uint64_t>(size)) {
    return Diagnostic{.kind = Kind::disk_full,
                      .where = directory,
                      .what = "offloading keeps " + bytes_text(size) + " in a file here, and " +
                              format_bytes(static_cast<double>(free)) + " are free",
                      .expected = "room for weights, gradients and the optimiser's state",
                      .fix = "free some space, or pass --dir with a directory of a larger file system"};
  }
  SATURN_TRY(FileDescriptor fd, nameless_file(directory));
  // Reserved now: a mapped page that finds no block later would end the process.
  if (const int error = ::posix_fallocate(fd.get(), 0, size); error != 0)
    return system_fault(directory, "reserve " + bytes_text(size) + " for offloaded state", error);
  void* data =
      ::mmap(nullptr, static_cast<std::size_t>(size), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (data == MAP_FAILED) return system_fault(directory, "map the file for offloaded state", errno);
  const std::int64_t most =
      most_dirty_bytes > 0 ? most_dirty_bytes : std::max(kLeastDirty, memory_of_machine() / 16);
  return std::unique_ptr<SlowTier>(
      std::make_unique<MappedTier>(std::move(fd), directory, size, static_cast<char*>(data), most));
}

}  // namespace saturn::train

// Two buffers and a write that is always under way. Past the page cache a save costs the training beside it
// no copy into the kernel, and pushes nothing out of memory that the training reads.

#include "large_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "saturn/base/check.h"

namespace saturn::checkpoint {
namespace {

constexpr std::size_t kPage = 4096;

/// Whether `fd` went past the page cache, and does so no more.
bool return_to_cache(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_DIRECT) != 0 && ::fcntl(fd, F_SETFL, flags & ~O_DIRECT) == 0;
}

Result<void> write_all(int fd, const std::string& path, std::string_view bytes, std::int64_t at) {
  const auto size = static_cast<std::int64_t>(bytes.size());
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    // A file system that wants more than pages, or what is left after a write that was cut short.
    if (n < 0 && errno == EINVAL && return_to_cache(fd)) continue;
    if (n < 0) return system_fault(path, "write", errno);
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  // Where the cache is used nonetheless the disk begins now, so that little is left to wait for at the end.
  (void)::sync_file_range(fd, at, size, SYNC_FILE_RANGE_WRITE);
  return {};
}

}  // namespace

LargeFile::LargeFile(std::string path, FileDescriptor fd, std::size_t buffer_bytes)
    : path_(std::move(path)),
      fd_(std::move(fd)),
      buffer_bytes_(buffer_bytes),
      filling_(static_cast<char*>(std::aligned_alloc(kPage, buffer_bytes))),
      leaving_(static_cast<char*>(std::aligned_alloc(kPage, buffer_bytes))) {}

Result<LargeFile> LargeFile::create(const std::string& path, std::size_t buffer_bytes) {
  SATURN_CHECK(buffer_bytes > 0 && buffer_bytes % kPage == 0, "buffers are made of pages");
  FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666));
  if (!fd.valid()) return system_fault(path, "create", errno);
  // Refused by file systems that know only the cache: then so be it.
  if (const int flags = ::fcntl(fd.get(), F_GETFL); flags >= 0)
    (void)::fcntl(fd.get(), F_SETFL, flags | O_DIRECT);
  LargeFile file(path, std::move(fd), buffer_bytes);
  if (file.filling_ == nullptr || file.leaving_ == nullptr)
    return system_fault(path, "find the memory to write", ENOMEM);
  return file;
}

Result<void> LargeFile::append(std::string_view bytes) {
  while (!bytes.empty()) {
    const std::size_t size = std::min(bytes.size(), buffer_bytes_ - filled_);
    std::memcpy(filling_.get() + filled_, bytes.data(), size);
    filled_ += size;
    bytes.remove_prefix(size);
    if (filled_ == buffer_bytes_) SATURN_TRY_VOID(send());
  }
  return {};
}

Result<void> LargeFile::send() {
  SATURN_TRY_VOID(settle());
  std::swap(filling_, leaving_);
  // Without a policy: where no thread can be had the write is done by who waits for it.
  on_its_way_ = std::async([fd = fd_.get(), path = path_, bytes = std::string_view(leaving_.get(), filled_),
                            at = sent_] { return write_all(fd, path, bytes, at); });
  sent_ += static_cast<std::int64_t>(filled_);
  filled_ = 0;
  return {};
}

Result<void> LargeFile::settle() {
  return on_its_way_.valid() ? on_its_way_.get() : Result<void>();
}

Result<std::int64_t> LargeFile::finish() {
  if (const std::size_t over = filled_ % kPage; over != 0) {
    std::memset(filling_.get() + filled_, 0, kPage - over);
    filled_ += kPage - over;
  }
  if (filled_ > 0) SATURN_TRY_VOID(send());
  SATURN_TRY_VOID(settle());
  if (::fsync(fd_.get()) != 0) return system_fault(path_, "fsync", errno);
  if (::close(fd_.release()) != 0) return system_fault(path_, "close", errno);
  return sent_;
}

}  // namespace saturn::checkpoint

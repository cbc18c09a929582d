// Files that appear whole or not at all, and bounded reading.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "saturn/base/result.h"

namespace saturn {

/// Writes temporary file, fsync, rename, directory fsync: a reader sees the old content or the new one.
///
/// Errors: Kind::disk_full (the old file is kept), Kind::machine with the reason and the path.
Result<void> write_whole(const std::string& path, std::string_view content);

/// The same for content that is never held in memory at once: pieces are written until there is none.
using NextPiece = std::function<std::optional<std::string_view>()>;
Result<void> write_whole(const std::string& path, const NextPiece& next_piece);

/// Puts the finished directory `finished` at `path`, in place of the directory that may be there, which is
/// removed; both lie in one parent directory. Files in it must have been written whole.
Result<void> replace_directory(const std::string& finished, const std::string& path);

/// The whole content; refuses directories and more than `limit_bytes`.
Result<std::string> read_whole(const std::string& path, std::uint64_t limit_bytes = std::uint64_t{1} << 30);

/// Waits until the entries of `path` are on disk: files that were created, renamed or removed in it.
Result<void> sync_directory(const std::string& path);

/// Creates `path` and its parents, on disk when it returns; good where it is already a directory.
Result<void> make_directories(const std::string& path);

/// A Diagnostic for a failed system call on `path`; ENOSPC and EDQUOT become Kind::disk_full.
Diagnostic system_fault(const std::string& path, const std::string& doing, int error_number);

/// Directory part ("." where there is none), last part, and join that keeps absolute `child`.
std::string directory_of(const std::string& path);
std::string file_name_of(const std::string& path);
std::string join_path(const std::string& directory, const std::string& child);

/// Bytes from `at` on, in `into`: how many there were, fewer than `size` only where the file ends. `path` is
/// for the fault.
Result<std::size_t> read_at(int fd, std::uint64_t at, char* into, std::size_t size, const std::string& path);

/// The same where all of them must be there: a file that ends before is a fault.
Result<void> read_all_at(int fd, std::uint64_t at, char* into, std::size_t size, const std::string& path);

/// Free bytes for this user on the file system that holds `path` (or its nearest existing parent).
Result<std::uint64_t> free_bytes(const std::string& path);

/// Owns a file descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() { reset(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(other.release()) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept;
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release();
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

}  // namespace saturn

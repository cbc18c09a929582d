// Atomic writing and bounded reading over plain system calls.

#include "saturn/base/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

namespace saturn {
namespace {

Result<void> write_all(int fd, std::string_view content, const std::string& path) {
  while (!content.empty()) {
    const ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_fault(path, "write", errno);
    content.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

Result<void> write_temporary(const std::string& temporary, const NextPiece& next_piece,
                             const std::string& path) {
  FileDescriptor fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666));
  if (!fd.valid()) return system_fault(path, "create", errno);
  while (const std::optional<std::string_view> piece = next_piece()) {
    SATURN_TRY_VOID(write_all(fd.get(), *piece, path));
  }
  if (::fsync(fd.get()) != 0) return system_fault(path, "fsync", errno);
  if (::close(fd.release()) != 0) return system_fault(path, "close", errno);
  return {};
}

}  // namespace

FileDescriptor& FileDescriptor::operator=(FileDescriptor&& other) noexcept {
  if (this != &other) reset(other.release());
  return *this;
}

int FileDescriptor::release() {
  const int fd = fd_;
  fd_ = -1;
  return fd;
}

void FileDescriptor::reset(int fd) {
  if (fd_ >= 0) ::close(fd_);
  fd_ = fd;
}

Diagnostic system_fault(const std::string& path, const std::string& doing, int error_number) {
  const bool full = error_number == ENOSPC || error_number == EDQUOT;
  Diagnostic fault{.kind = full ? Kind::disk_full : Kind::machine,
                   .where = path,
                   .what = "cannot " + doing + ": " + std::strerror(error_number)};
  switch (error_number) {
    case ENOENT:
      fault.kind = Kind::input;
      fault.expected = "a file that exists";
      break;
    case EACCES:
    case EPERM:
    case EROFS:
      fault.expected = "a path this user may " + doing;
      break;
    case ENOSPC:
    case EDQUOT:
      fault.expected = "free space on that file system";
      fault.fix = "free space there, then run the same command again";
      break;
    default:
      break;
  }
  return fault;
}

Result<void> write_whole(const std::string& path, std::string_view content) {
  bool written = false;
  return write_whole(path, [&]() -> std::optional<std::string_view> {
    return std::exchange(written, true) ? std::nullopt : std::optional(content);
  });
}

Result<void> write_whole(const std::string& path, const NextPiece& next_piece) {
  const std::string temporary = path + ".tmp-" + std::to_string(::getpid());
  Result<void> written = write_temporary(temporary, next_piece, path);
  if (written.ok() && ::rename(temporary.c_str(), path.c_str()) != 0) {
    written = system_fault(path, "rename the new content into place", errno);
  }
  if (!written.ok()) {
    ::unlink(temporary.c_str());
    return written;
  }
  return sync_directory(directory_of(path));
}

Result<void> sync_directory(const std::string& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return system_fault(path, "open", errno);
  // Some file systems refuse fsync on directories; the rename is then as durable as they can make it.
  if (::fsync(fd.get()) != 0 && errno != EINVAL && errno != EROFS) return system_fault(path, "fsync", errno);
  return {};
}

Result<void> replace_directory(const std::string& finished, const std::string& path) {
  const std::string parent = directory_of(path);
  SATURN_TRY_VOID(sync_directory(finished));
  if (::rename(finished.c_str(), path.c_str()) == 0) return sync_directory(parent);
  if (errno != ENOTEMPTY && errno != EEXIST)
    return system_fault(path, "put the new directory into place", errno);
  // A directory with content cannot be renamed over: swap the two, then remove what was there.
  if (::renameat2(AT_FDCWD, finished.c_str(), AT_FDCWD, path.c_str(), RENAME_EXCHANGE) != 0)
    return system_fault(path, "put the new directory into place", errno);
  // Not before the swap is on disk: else a crash could leave the old name with half of its content.
  SATURN_TRY_VOID(sync_directory(parent));
  std::error_code ignored;
  std::filesystem::remove_all(finished, ignored);
  return {};
}

Result<std::string> read_whole(const std::string& path, std::uint64_t limit_bytes) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return system_fault(path, "read", errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) return system_fault(path, "read", errno);
  if (S_ISDIR(status.st_mode)) {
    return Diagnostic{.where = path, .what = "this is a directory", .expected = "a file"};
  }
  std::string content;
  if (S_ISREG(status.st_mode))
    content.reserve(std::min<std::uint64_t>(static_cast<std::uint64_t>(status.st_size), limit_bytes));
  char buffer[1 << 16];
  while (true) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_fault(path, "read", errno);
    if (n == 0) return content;
    if (content.size() + static_cast<std::size_t>(n) > limit_bytes) {
      return Diagnostic{.where = path,
                        .what = "file is larger than " + std::to_string(limit_bytes) + " bytes",
                        .expected = "a smaller file"};
    }
    content.append(buffer, static_cast<std::size_t>(n));
  }
}

Result<void> make_directories(const std::string& path) {
  std::error_code error;
  std::filesystem::path at = std::filesystem::absolute(path, error).lexically_normal();
  if (!at.has_filename()) at = at.parent_path();
  std::vector<std::filesystem::path> missing;
  for (; !error && !std::filesystem::exists(at, error); at = at.parent_path()) missing.push_back(at);
  if (!error) std::filesystem::create_directories(path, error);
  if (error) return system_fault(path, "create the directory", error.value());
  // A new directory is on disk once its parent is.
  for (auto made = missing.rbegin(); made != missing.rend(); ++made)
    SATURN_TRY_VOID(sync_directory(made->parent_path().string()));
  return {};
}

std::string directory_of(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path().string();
  return parent.empty() ? "." : parent;
}

std::string file_name_of(const std::string& path) {
  return std::filesystem::path(path).filename().string();
}

std::string join_path(const std::string& directory, const std::string& child) {
  return (std::filesystem::path(directory) / child).lexically_normal().string();
}

Result<std::size_t> read_at(int fd, std::uint64_t at, char* into, std::size_t size, const std::string& path) {
  std::size_t done = 0;
  while (done < size) {
    const ssize_t n = ::pread(fd, into + done, size - done, static_cast<off_t>(at + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_fault(path, "read", errno);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return done;
}

Result<void> read_all_at(int fd, std::uint64_t at, char* into, std::size_t size, const std::string& path) {
  SATURN_TRY(const std::size_t done, read_at(fd, at, into, size, path));
  if (done < size) return system_fault(path, "read past its end", EIO);
  return {};
}

Result<std::uint64_t> free_bytes(const std::string& path) {
  std::filesystem::path at = std::filesystem::absolute(path);
  std::error_code error;
  while (!std::filesystem::exists(at, error) && at.has_parent_path() && at != at.parent_path())
    at = at.parent_path();
  struct statvfs status {};
  if (::statvfs(at.c_str(), &status) != 0) return system_fault(path, "ask for free space", errno);
  return static_cast<std::uint64_t>(status.f_bavail) * status.f_frsize;
}

}  // namespace saturn

// Logs are files that processes of others append to: they are cut in place, never renamed.

#include "run/logs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "saturn/base/files.h"
#include "saturn/base/units.h"

namespace saturn::run {
namespace {

Result<void> append(const FileDescriptor& log, const std::string& line, const std::string& path) {
  if (::write(log.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size()))
    return system_fault(path, "append", errno);
  return {};
}

// The last `bytes` of the file, from the beginning of a line.
Result<std::string> end_of(const FileDescriptor& log, std::int64_t size, std::int64_t bytes,
                           const std::string& path) {
  std::string text(static_cast<std::size_t>(std::min(size, bytes)), '\0');
  const ssize_t n = ::pread(log.get(), text.data(), text.size(), size - static_cast<off_t>(text.size()));
  if (n < 0) return system_fault(path, "read", errno);
  text.resize(static_cast<std::size_t>(n));
  const std::size_t newline = text.find('\n');
  return newline == std::string::npos ? text : text.substr(newline + 1);
}

}  // namespace

Result<void> write_log_heading(const std::string& path, const std::string& heading) {
  const FileDescriptor log(
      ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666));
  if (!log.valid()) return system_fault(path, "open", errno);
  return append(log, "---- " + heading + "\n", path);
}

Result<bool> shorten_log(const std::string& path, const LogLimits& limits) {
  const FileDescriptor log(::open(path.c_str(), O_RDWR | O_APPEND | O_CLOEXEC | O_NOFOLLOW));
  if (!log.valid()) {
    if (errno == ENOENT) return false;
    return system_fault(path, "open", errno);
  }
  struct stat status {};
  if (::fstat(log.get(), &status) != 0) return system_fault(path, "look at", errno);
  if (status.st_size <= limits.most_bytes) return false;
  SATURN_TRY(const std::string kept, end_of(log, status.st_size, limits.kept_bytes, path));
  // Where the disk is full it is cut all the more.
  if (const Result<void> written = write_whole(path + ".1", kept);
      !written.ok() && written.faults().front().kind != Kind::disk_full)
    return written.faults();
  if (::ftruncate(log.get(), 0) != 0) return system_fault(path, "shorten", errno);
  SATURN_TRY_VOID(append(log,
                         "---- cut at " + format_bytes(static_cast<double>(status.st_size)) +
                             "; its last lines are in " + file_name_of(path) + ".1\n",
                         path));
  return true;
}

}  // namespace saturn::run

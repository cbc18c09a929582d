// Processes as the launcher needs them: started with care, told apart from others, and ended with what they
// started.

#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/base/result.h"

namespace saturn::worker {

/// The descriptor that a worker finds its stream on.
inline constexpr int kControlFd = 3;

struct Spawn {
  std::string executable;
  std::vector<std::string> arguments;    ///< argv, from argv[0] on
  std::vector<std::string> environment;  ///< "NAME=value", in place of the caller's own of that name
  int control_fd = -1;                   ///< becomes kControlFd; -1 = none
  int stdin_fd = -1;                     ///< -1 = /dev/null, as for the other two
  int stdout_fd = -1;
  int stderr_fd = -1;
  std::vector<int> cores;  ///< empty = as the caller
};

/// Forks and executes. Between the two: own process group, SIGKILL at the death of the calling thread
/// (checked by getppid), default signals, every other descriptor closed, cores. A failed exec is exit code
/// 127 and a line on stderr.
Result<pid_t> spawn(const Spawn& request);

/// A file descriptor that becomes readable when `pid` ends; not valid where the kernel has none.
FileDescriptor open_pidfd(pid_t pid);

/// Field 22 of /proc/PID/stat; 0 where there is no such process.
std::uint64_t start_ticks_of(pid_t pid);

/// Appends to `path`, created 0644 by umask; a symbolic link is refused.
Result<FileDescriptor> open_log(const std::string& path);

/// Processes of this user whose environment holds `mark` ("NAME=value" or its beginning), except the caller;
/// the dead that nobody has waited for have no environment.
///
/// A process has none either while it executes a program, from the old one's until the new one is loaded.
/// Those of this user that have memory but no environment are `unsettled`: look again, they may carry the
/// mark.
std::vector<pid_t> processes_marked(const std::string& mark, std::vector<pid_t>* unsettled = nullptr);

/// Kills them all and returns them.
std::vector<pid_t> end_marked(const std::string& mark, std::vector<pid_t>* unsettled = nullptr);

/// Whether `pid` is a child of the caller, or of one of its children, and so on.
bool is_descendant(pid_t pid);

/// Times that the kernel has killed a process for want of memory; 0 where it does not say.
std::uint64_t num_oom_kills();

/// `num_bytes` from getrandom, as hexadecimal digits.
std::string random_key(std::size_t num_bytes);

/// A process of its own session that waits for the caller's end and then ends everything marked. `mark` must
/// be in the environment of what the caller starts, not in its own.
class Guardian {
 public:
  static Result<std::unique_ptr<Guardian>> start(const std::string& mark);
  /// Sends the guardian home: nothing is left to end.
  ~Guardian();
  Guardian(const Guardian&) = delete;
  Guardian& operator=(const Guardian&) = delete;

 private:
  Guardian(pid_t pid, FileDescriptor pipe);

  pid_t owner_;  // a fork of the owner sends nobody home
  pid_t pid_;
  FileDescriptor pipe_;
};

}  // namespace saturn::worker

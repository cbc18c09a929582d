// Faults at the system calls by which files change: stop the process after the n-th, fail it, cut it short,
// and take away what a power cut could take away.
//
// system_calls.cpp defines open, write, fsync, rename and their like, so that a program linked with it, or
// started with it as LD_PRELOAD (libsaturn_faults.so), makes them through it. A preloaded one reads what to
// do from the environment: SATURN_FAULT_UNDER (a directory), SATURN_FAULT_KIND (stop, torn, no_space,
// io_error, short_write), SATURN_FAULT_AT (the how many-th call, from 0; every later one too for no_space and
// io_error), SATURN_FAULT_LOSES (data, entries) as a power cut does.

#pragma once

#include <string>
#include <vector>

namespace saturn::testing {

enum class FaultKind {
  none,         ///< only record
  stop,         ///< the process ends before the call, as by SIGKILL
  torn,         ///< a write does half of its work, then the process ends; other calls as `stop`
  no_space,     ///< this call and every later one that writes or creates fails with ENOSPC
  io_error,     ///< this call and every later one that writes or syncs fails with EIO
  short_write,  ///< a write does half of its work and says so
};

/// What is lost when the process stops.
enum class Loses {
  nothing,  ///< a kill: the system lives on
  data,     ///< a power cut: bytes written since the file's last fsync
  entries,  ///< and names made or renamed since their directory's last fsync
};

struct Fault {
  std::string under;  ///< calls on files under this directory count; absolute
  FaultKind kind = FaultKind::none;
  int at = 0;
  Loses loses = Loses::nothing;
};

/// One call that counted.
struct SystemCall {
  std::string
      name;  ///< "create", "write", "fsync", "fsync_directory", "rename", "exchange", "remove", "mkdir", ...
  std::string path;
  std::string to;  ///< of a rename
};

/// From here on calls are counted from 0. While armed, fsync does not reach the disk.
void arm(const Fault& fault);
/// Ends that and returns what was recorded.
std::vector<SystemCall> disarm();
/// Calls counted so far.
int num_calls();

/// Exit code of a process that a fault stopped.
inline constexpr int kStopped = 77;

}  // namespace saturn::testing

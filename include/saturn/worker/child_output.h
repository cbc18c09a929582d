// A short child process: what it printed and how it ended, by a deadline.

#pragma once

#include <string>
#include <vector>

#include "saturn/base/result.h"

namespace saturn::worker {

struct ChildOutput {
  int exit_code = -1;  ///< -1 where a signal ended it
  int signal = 0;
  std::string stdout_text;
  std::string stderr_text;
};

struct ChildCommand {
  std::string executable = "/proc/self/exe";
  std::vector<std::string> arguments;  ///< behind argv[0]
  double deadline_s = 20.0;
};

/// Runs the command with no input. Its process group is killed at the deadline, and dies with the caller.
///
/// Errors: Kind::machine where no process can be started, where it does not end in time, or where it prints
/// more than 4 MiB.
Result<ChildOutput> run_child(const ChildCommand& command);

}  // namespace saturn::worker

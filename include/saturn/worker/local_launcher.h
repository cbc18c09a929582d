// Ranks as processes of this machine: forked and executed children of the controller, which is one thread.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "saturn/base/clock.h"
#include "saturn/worker/launcher.h"

namespace saturn::worker {

struct LocalLauncherOptions {
  std::string executable = "/proc/self/exe";
  std::vector<std::string> arguments = {"worker"};  ///< "--fd" and a number follow
  std::vector<std::string> environment;             ///< "NAME=value", beside the controller's own
  std::string standby_log_path;  ///< what a standby prints before its assignment; empty = discarded
  double standby_delay_s = 2.0;  ///< after a launch or an end, before a new standby loads its library
  /// A standby starts where 8 times this is free; where less than 4 times is, standby workers end.
  std::int64_t standby_memory_bytes = std::int64_t{256} << 20;
  std::function<std::int64_t()> available_memory_bytes;  ///< absent = what the system says
  double memory_look_s = 5.0;                            ///< between two looks at it
  double exit_grace_s = 30.0;                            ///< from a rank's end of file to its KILL
};

/// Every worker has its own process group, dies with the controller (parent-death signal, set between fork
/// and exec and checked), and takes along whatever it started: a guardian process that outlives the
/// controller ends every process that carries this launcher's mark in its environment.
///
/// One at a time in a process, driven by the thread that made it. The destructor ends all workers at once.
Result<std::unique_ptr<Launcher>> make_local_launcher(LocalLauncherOptions options, const Clock& clock);

}  // namespace saturn::worker

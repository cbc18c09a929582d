// GPUs asked for by a short child process with a deadline: the controller itself never touches a device.

#pragma once

#include <string>
#include <vector>

#include "saturn/devices/machine.h"

namespace saturn::worker {

struct GpuProbeOptions {
  std::string executable = "/proc/self/exe";
  std::vector<std::string> arguments = {"worker", "--probe"};
  double deadline_s = 20.0;  ///< a cold driver needs seconds; a broken one hangs
  bool look_first = true;    ///< without a driver's device nodes no process is started
};

/// Errors of the probe: Kind::machine where the child says nothing that can be read, or not in time.
devices::GpuProbe make_gpu_probe(GpuProbeOptions options = {});

}  // namespace saturn::worker

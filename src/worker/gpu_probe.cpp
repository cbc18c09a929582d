// The probe's answer, read strictly.

#include "saturn/worker/gpu_probe.h"

#include "saturn/devices/nvml.h"
#include "saturn/worker/child_output.h"

namespace saturn::worker {

devices::GpuProbe make_gpu_probe(GpuProbeOptions options) {
  return [options = std::move(options)]() -> Result<devices::GpuReport> {
    if (options.look_first && !devices::has_nvidia_driver()) {
      return devices::GpuReport{.reason = "no NVIDIA driver is loaded (no /dev/nvidiactl)"};
    }
    SATURN_TRY(const ChildOutput output, run_child({.executable = options.executable,
                                                    .arguments = options.arguments,
                                                    .deadline_s = options.deadline_s}));
    if (output.exit_code != 0) {
      const std::string how = output.signal != 0 ? "signal " + std::to_string(output.signal)
                                                 : "exit code " + std::to_string(output.exit_code);
      return Diagnostic{
          .kind = Kind::machine, .what = "the GPU probe ended with " + how, .expected = "exit code 0"};
    }
    SATURN_TRY(const Json json, parse_json(output.stdout_text, "GPU probe"));
    Diagnostics faults;
    devices::GpuReport report = devices::gpu_report_from_json(JsonReader(json, "GPU probe", "", faults));
    if (!faults.empty()) return faults;
    return report;
  };
}

}  // namespace saturn::worker

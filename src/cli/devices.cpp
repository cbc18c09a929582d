// saturn devices: the slots that a batch, or one without a [devices] table, is planned on.

#include <unistd.h>

#include "cli/command.h"
#include "cli/stage.h"
#include "saturn/base/nearest.h"
#include "saturn/base/units.h"
#include "saturn/batch/batch.h"
#include "saturn/devices/machine.h"
#include "saturn/view/terminal.h"
#include "saturn/view/text.h"
#include "saturn/worker/gpu_probe.h"

namespace saturn::cli {
namespace {

std::string bytes_text(std::int64_t bytes) {
  return bytes == 0 ? "no limit" : format_bytes(static_cast<double>(bytes));
}

// "0-3,8": neighbours as a range.
std::string cores_text(const std::vector<int>& cores) {
  if (cores.empty()) return "any";
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < cores.size();) {
    std::size_t last = i;
    while (last + 1 < cores.size() && cores[last + 1] == cores[last] + 1) ++last;
    parts.push_back(std::to_string(cores[i]) + (last > i ? "-" + std::to_string(cores[last]) : ""));
    i = last + 1;
  }
  std::string text;
  for (const std::string& part : parts) text += (text.empty() ? "" : ",") + part;
  return text;
}

std::string gpu_text(const devices::Device& device) {
  if (device.kind != "gpu") return "";
  std::string text = std::to_string(device.gpu_index);
  if (device.num_shares > 1) {
    text += " (" + std::to_string(device.share + 1) + " of " + std::to_string(device.num_shares) + ")";
  }
  return text;
}

std::string machine_text(const devices::Machine& machine, const devices::GpuReport& report) {
  view::Table table({{.title = "device"},
                     {.title = "class"},
                     {.title = "GPU"},
                     {.title = "cores"},
                     {.title = "threads", .align = view::Align::right},
                     {.title = "memory", .align = view::Align::right}});
  for (const devices::Node& node : machine.nodes) {
    for (const devices::Device& device : node.devices) {
      table.add({node.name + ":" + std::to_string(device.index), device.device_class, gpu_text(device),
                 cores_text(device.cores), std::to_string(device.threads), bytes_text(device.memory_bytes)});
    }
  }
  const view::Terminal terminal = view::terminal_of(STDOUT_FILENO);
  std::string text = machine.cpu_model + ", " + bytes_text(machine.nodes.front().host_memory_bytes) + "\n\n";
  text += table.text(terminal);
  for (const devices::Gpu& gpu : report.gpus) {
    text += "\nGPU " + std::to_string(gpu.index) + ": " + gpu.name + ", " + bytes_text(gpu.memory_bytes) +
            ", compute capability " + std::to_string(gpu.capability_major) + "." +
            std::to_string(gpu.capability_minor);
    if (gpu.numa_node >= 0) text += ", NUMA node " + std::to_string(gpu.numa_node);
    for (const devices::GpuLink& link : gpu.links)
      text += std::string(&link == gpu.links.data() ? "\n  reaches GPU " : ", ") + std::to_string(link.to) +
              " by " + link.path;
    if (!gpu.processes.empty()) text += "\n  in use by others: " + devices::users_text(gpu);
  }
  if (!report.gpus.empty()) text += "\n";
  if (!report.usable)
    text += std::string("\n") + (report.gpus.empty() ? "no GPU" : "not used") + ": " + report.reason + "\n";
  return text;
}

struct DevicesArgs {
  std::string batch;

  void declare(Options& options) {
    options.optional_positional("BATCH", batch, "show what its [devices] table makes of this machine");
  }

  Result<int> run(const Context& context) const {
    // A probe that fails is shown, and the machine still has its cores.
    Result<devices::GpuReport> probed = worker::make_gpu_probe()();
    const devices::GpuReport report =
        probed.ok() ? *std::move(probed) : devices::GpuReport{.reason = probed.faults().front().what};
    devices::DevicesRequest request;
    if (!batch.empty()) {
      SATURN_TRY(const batch::Batch read, read_batch(batch, context.quiet));
      request = read.devices;
    }
    SATURN_TRY(
        const devices::Machine machine,
        devices::detect_machine(request, [&report]() -> Result<devices::GpuReport> { return report; }));
    if (context.json) {
      print_json({{"fingerprint", devices::fingerprint(machine)},
                  {"machine", devices::to_json(machine)},
                  {"gpus", devices::to_json(report)}});
    } else {
      print(machine_text(machine, report));
    }
    return 0;
  }
};

}  // namespace

CommandEntry devices() {
  return {.name = "devices",
          .summary = "Show the devices of this machine as plans will name them.",
          .example = "saturn devices --json",
          .declare = &make_action<DevicesArgs>};
}

}  // namespace saturn::cli

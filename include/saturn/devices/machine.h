// What this machine has for training: nodes, their devices, and what tells two machines apart.

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"
#include "saturn/devices/request.h"

namespace saturn::devices {

/// The planner's slot: a GPU, one share of a GPU, or one set of CPU cores.
struct Device {
  int index = 0;                  ///< within its node
  std::string kind = "cpu";       ///< "cpu" or "gpu"
  std::string device_class;       ///< devices of one class are interchangeable: "cpu", "h200", ...
  std::int64_t memory_bytes = 0;  ///< what the job on it may use; 0 = no limit set
  std::vector<int> cores;         ///< the slot's own cores; empty = not pinned (a quota shares the cores)
  int threads = 1;                ///< compute threads of a rank that owns this device alone
  int gpu_index = -1;             ///< in PCI order; -1 for CPU slots
  std::string gpu_uuid;
  int share = 0;  ///< this is share number `share` of `num_shares` of the GPU
  int num_shares = 1;

  bool operator==(const Device&) const = default;
};

/// Devices that a job may use together without crossing a network.
struct Node {
  std::string name;
  std::string device_class;  ///< of all its devices
  std::int64_t host_memory_bytes = 0;
  std::vector<Device> devices;

  bool operator==(const Node&) const = default;
};

struct Machine {
  std::vector<Node> nodes;
  std::string cpu_model;
  bool oversubscribed = false;  ///< slots share cores, because the batch asked for it

  int num_devices() const;
  bool operator==(const Machine&) const = default;
};

/// A program that computes on a GPU.
struct GpuProcess {
  int pid = 0;
  std::string name;             ///< of its executable; empty where it is not told
  std::int64_t used_bytes = 0;  ///< of the GPU's memory; 0 where it is not told

  bool operator==(const GpuProcess&) const = default;
};

/// How two GPUs reach each other.
struct GpuLink {
  int to = 0;  ///< index of the other GPU
  std::string
      path;  ///< "nvlink", or what joins them: "board", "switch", "switches", "bridge", "node", "system"

  bool operator==(const GpuLink&) const = default;
};

/// One GPU as the probe found it.
struct Gpu {
  int index = 0;  ///< in PCI order, before CUDA_VISIBLE_DEVICES
  std::string name;
  std::string uuid;
  std::int64_t memory_bytes = 0;
  std::int64_t used_bytes = 0;  ///< by anyone, when probed
  int capability_major = 0;
  int capability_minor = 0;
  int numa_node = -1;                 ///< whose memory is nearest; -1 = not told
  std::vector<GpuLink> links;         ///< to every other GPU of the machine
  std::vector<GpuProcess> processes;  ///< of anyone, when probed

  /// Whether other programs compute on it. NVIDIA's own service (MPS) is none of them.
  bool is_busy() const;

  bool operator==(const Gpu&) const = default;
};

/// Who computes on it: "GPU 0: python3 (4711) with 3.1 GiB"; empty where nobody does.
std::string users_text(const Gpu& gpu);

/// What `saturn worker --probe` prints.
struct GpuReport {
  std::vector<Gpu> gpus;
  bool usable = false;  ///< this build of Saturn can train on them
  std::string reason;   ///< why there are none, or why they are not usable

  bool operator==(const GpuReport&) const = default;
};

/// Asks for the GPUs; called at most once by `detect_machine`. A failed probe counts as no GPU.
using GpuProbe = std::function<Result<GpuReport>()>;

/// The cores and the memory that this process may use.
struct Host {
  std::vector<int> cores;  ///< allowed by affinity; cores of one package and one physical core side by side
  double cpu_quota = 0.0;  ///< of the control group, in cores; 0 = none
  std::int64_t memory_bytes = 0;  ///< the least of the machine's and the control groups' limits
  std::string cpu_model;
  std::vector<int> numa_nodes;  ///< of each of `cores`; empty = not told

  /// Whole cores worth of time: the quota where it is less than `cores`, at least 1.
  int num_usable_cores() const;
};

/// Reads /proc, /sys and the control groups (v1 and v2) below `root` ("" = the real ones; tests give a tree).
/// `affinity` is what sched_getaffinity allows.
Host read_host(const std::string& root, std::vector<int> affinity);
Host this_host();

/// Bytes that new processes can have now without swapping; 0 where the kernel does not say.
std::int64_t available_memory_bytes();

/// The devices of this machine as `request` asks for them: GPUs if any are usable, else CPU slots; CPU slots
/// where the request names them; the nodes of the request where it lists any.
///
/// Errors: every request that the machine cannot meet, at its position: more slots or threads than cores
///         (unless oversubscribe), more memory than there is, a class that is not here.
Result<Machine> detect_machine(const DevicesRequest& request, const GpuProbe& probe);
Result<Machine> detect_machine(const DevicesRequest& request, const GpuProbe& probe, const Host& host);

Json to_json(const Machine& machine);
Json to_json(const Device& device);
Json to_json(const GpuReport& report);

/// Exact inverses of `to_json`; faults are added at the reader's pointers.
Machine machine_from_json(JsonReader reader);
Device device_from_json(JsonReader reader);
GpuReport gpu_report_from_json(JsonReader reader);

/// The same on machines where a measured step time means the same: CPU model, classes, counts, threads and
/// memory in whole GiB; not names, core numbers or serial numbers.
std::string fingerprint(const Machine& machine);

}  // namespace saturn::devices

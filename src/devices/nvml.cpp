// The few functions of libnvidia-ml that listing needs, declared here: the library comes with the driver, its
// header does not.

#include "saturn/devices/nvml.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <sstream>

namespace saturn::devices {
namespace {

// nvml.h of CUDA 12 and 13; these have been binary compatible since driver 418.
using NvmlDevice = struct NvmlDeviceHandle*;
struct NvmlMemory {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};
struct NvmlProcess {
  unsigned int pid;
  unsigned long long used_memory;
  unsigned int gpu_instance;
  unsigned int compute_instance;
};
constexpr int kSuccess = 0;
constexpr int kInsufficientSize = 7;
constexpr int kMemoryOfNode = 0;  // nvmlAffinityScope_t
constexpr int kByNvlink = 2;      // nvmlGpuP2PCapsIndex_t
constexpr int kPathWorks = 0;     // nvmlGpuP2PStatus_t

/// nvmlGpuTopologyLevel_t.
const char* path_named(int level) {
  switch (level) {
    case 0:
      return "board";
    case 10:
      return "switch";
    case 20:
      return "switches";
    case 30:
      return "bridge";
    case 40:
      return "node";
    default:
      return "system";
  }
}

class Nvml {
 public:
  Nvml() {
    library_ = ::dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (library_ == nullptr) {
      reason_ = "the driver's libnvidia-ml.so.1 cannot be loaded";
      return;
    }
    bind("nvmlInit_v2", init_);
    bind("nvmlShutdown", shutdown_);
    bind("nvmlErrorString", error_string_);
    bind("nvmlDeviceGetCount_v2", count_);
    bind("nvmlDeviceGetHandleByIndex_v2", handle_);
    bind("nvmlDeviceGetName", name_);
    bind("nvmlDeviceGetUUID", uuid_);
    bind("nvmlDeviceGetMemoryInfo", memory_);
    bind("nvmlDeviceGetCudaComputeCapability", capability_);
    bind("nvmlDeviceGetComputeRunningProcesses_v3", processes_);
    if (!reason_.empty()) return;
    bind_if_there("nvmlSystemGetProcessName", process_name_);
    bind_if_there("nvmlDeviceGetMemoryAffinity", memory_affinity_);
    bind_if_there("nvmlDeviceGetP2PStatus", peer_status_);
    bind_if_there("nvmlDeviceGetTopologyCommonAncestor", common_ancestor_);
    const int status = init_();
    initialised_ = status == kSuccess;
    if (!initialised_) reason_ = std::string("the driver does not answer: ") + error_string_(status);
  }
  ~Nvml() {
    if (initialised_) shutdown_();
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  const std::string& reason() const { return reason_; }

  std::vector<Gpu> list() {
    unsigned int count = 0;
    if (!initialised_ || count_(&count) != kSuccess) return {};
    std::vector<Gpu> gpus;
    std::vector<NvmlDevice> handles;
    for (unsigned int i = 0; i < count; ++i) {
      NvmlDevice device = nullptr;
      NvmlMemory memory{};
      std::array<char, 96> name{};
      std::array<char, 96> uuid{};
      // A GPU that has fallen off the bus is left out; the others are not.
      if (handle_(i, &device) != kSuccess || memory_(device, &memory) != kSuccess) continue;
      if (name_(device, name.data(), name.size()) != kSuccess) continue;
      if (uuid_(device, uuid.data(), uuid.size()) != kSuccess) continue;
      Gpu gpu{.index = static_cast<int>(i),
              .name = name.data(),
              .uuid = uuid.data(),
              .memory_bytes = static_cast<std::int64_t>(memory.total),
              .used_bytes = static_cast<std::int64_t>(memory.used)};
      capability_(device, &gpu.capability_major, &gpu.capability_minor);
      gpu.numa_node = numa_node(device);
      gpu.processes = processes(device);
      gpus.push_back(std::move(gpu));
      handles.push_back(device);
    }
    for (std::size_t i = 0; i < gpus.size(); ++i) {
      for (std::size_t j = 0; j < gpus.size(); ++j) {
        if (j == i) continue;
        if (const char* path = path_between(handles[i], handles[j]))
          gpus[i].links.push_back({.to = gpus[j].index, .path = path});
      }
    }
    return gpus;
  }

 private:
  /// The lowest set bit of the nodes whose memory is near.
  int numa_node(NvmlDevice device) const {
    std::array<unsigned long, 16> nodes{};
    if (memory_affinity_ == nullptr ||
        memory_affinity_(device, nodes.size(), nodes.data(), kMemoryOfNode) != kSuccess)
      return -1;
    constexpr int kBits = std::numeric_limits<unsigned long>::digits;
    for (std::size_t word = 0; word < nodes.size(); ++word) {
      if (nodes[word] != 0) return static_cast<int>(word) * kBits + std::countr_zero(nodes[word]);
    }
    return -1;
  }

  /// Programs come and go between two questions, so there is room for a few more.
  std::vector<GpuProcess> processes(NvmlDevice device) const {
    unsigned int count = 0;
    const int status = processes_(device, &count, nullptr);
    if ((status != kSuccess && status != kInsufficientSize) || count == 0) return {};
    std::vector<NvmlProcess> found(count + 16);
    count = static_cast<unsigned int>(found.size());
    if (processes_(device, &count, found.data()) != kSuccess) return {};
    std::vector<GpuProcess> listed;
    for (unsigned int i = 0; i < std::min<std::size_t>(count, found.size()); ++i) {
      GpuProcess process{.pid = static_cast<int>(found[i].pid)};
      constexpr auto kUntold = std::numeric_limits<unsigned long long>::max();
      if (found[i].used_memory != kUntold)
        process.used_bytes = static_cast<std::int64_t>(found[i].used_memory);
      std::array<char, 256> path{};
      if (process_name_ != nullptr && process_name_(found[i].pid, path.data(), path.size() - 1) == kSuccess)
        process.name = std::filesystem::path(path.data()).filename().string();
      listed.push_back(std::move(process));
    }
    return listed;
  }

  /// Nothing where the driver does not tell.
  const char* path_between(NvmlDevice one, NvmlDevice other) const {
    int answer = -1;
    if (peer_status_ != nullptr && peer_status_(one, other, kByNvlink, &answer) == kSuccess &&
        answer == kPathWorks)
      return "nvlink";
    if (common_ancestor_ == nullptr || common_ancestor_(one, other, &answer) != kSuccess) return nullptr;
    return path_named(answer);
  }

  template <class Function>
  void bind_if_there(const char* name, Function*& into) {
    into = reinterpret_cast<Function*>(::dlsym(library_, name));
  }

  template <class Function>
  void bind(const char* name, Function*& into) {
    bind_if_there(name, into);
    if (into == nullptr && reason_.empty()) reason_ = std::string("the driver is too old: it lacks ") + name;
  }

  void* library_ = nullptr;  // stays loaded: unloading a driver library is asking for trouble
  std::string reason_;
  bool initialised_ = false;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  const char* (*error_string_)(int) = nullptr;
  int (*count_)(unsigned int*) = nullptr;
  int (*handle_)(unsigned int, NvmlDevice*) = nullptr;
  int (*name_)(NvmlDevice, char*, unsigned int) = nullptr;
  int (*uuid_)(NvmlDevice, char*, unsigned int) = nullptr;
  int (*memory_)(NvmlDevice, NvmlMemory*) = nullptr;
  int (*capability_)(NvmlDevice, int*, int*) = nullptr;
  int (*processes_)(NvmlDevice, unsigned int*, NvmlProcess*) = nullptr;
  int (*process_name_)(unsigned int, char*, unsigned int) = nullptr;
  int (*memory_affinity_)(NvmlDevice, unsigned int, unsigned long*, int) = nullptr;
  int (*peer_status_)(NvmlDevice, NvmlDevice, int, int*) = nullptr;
  int (*common_ancestor_)(NvmlDevice, NvmlDevice, int*) = nullptr;
};

const Gpu* named(const std::vector<Gpu>& gpus, const std::string& name) {
  int index = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  const bool is_index = error == std::errc() && end == name.data() + name.size();
  for (const Gpu& gpu : gpus) {
    if (is_index ? gpu.index == index : !name.empty() && gpu.uuid.compare(0, name.size(), name) == 0)
      return &gpu;
  }
  return nullptr;
}

}  // namespace

bool has_nvidia_driver() {
  constexpr std::array<const char*, 3> kNodes = {"/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg"};
  return std::any_of(kNodes.begin(), kNodes.end(),
                     [](const char* node) { return ::access(node, F_OK) == 0; });
}

std::vector<Gpu> visible_gpus(const std::vector<Gpu>& gpus, const std::optional<std::string>& visible) {
  if (!visible) return gpus;
  std::vector<Gpu> chosen;
  std::istringstream names(*visible);
  for (std::string name; std::getline(names, name, ',');) {
    name.erase(0, name.find_first_not_of(' '));
    name.erase(name.find_last_not_of(' ') + 1);
    const Gpu* gpu = named(gpus, name);
    if (gpu == nullptr) break;
    chosen.push_back(*gpu);
  }
  return chosen;
}

GpuReport list_gpus(bool cuda_build) {
  Nvml nvml;
  const char* variable = std::getenv("CUDA_VISIBLE_DEVICES");
  const std::optional<std::string> visible =
      variable == nullptr ? std::nullopt : std::optional<std::string>(variable);
  GpuReport report{.gpus = visible_gpus(nvml.list(), visible)};
  if (!nvml.reason().empty()) {
    report.reason = nvml.reason();
  } else if (report.gpus.empty()) {
    report.reason = visible ? "CUDA_VISIBLE_DEVICES leaves none" : "the driver lists none";
  } else if (!cuda_build) {
    report.reason = "this build of Saturn trains on CPU slots only; the preset cuda builds for GPUs";
  }
  report.usable = cuda_build && !report.gpus.empty();
  return report;
}

}  // namespace saturn::devices

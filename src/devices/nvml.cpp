// The few functions of libnvidia-ml that listing needs, declared here: the library comes with the driver, its
// header does not.

#include "saturn/devices/nvml.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
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
      unsigned int num_processes = 0;
      const int status = processes_(device, &num_processes, nullptr);
      if (status == kSuccess || status == kInsufficientSize)
        gpu.num_processes = static_cast<int>(num_processes);
      gpus.push_back(gpu);
    }
    return gpus;
  }

 private:
  template <class Function>
  void bind(const char* name, Function*& into) {
    into = reinterpret_cast<Function*>(::dlsym(library_, name));
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

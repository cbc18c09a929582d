// Stands in for the driver's libnvidia-ml.so.1: two GPUs of a machine that is not there. FAKE_NVML=old leaves
// the listing to what the first drivers could tell; FAKE_NVML=broken refuses to begin.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

struct Device {
  unsigned int index;
};
Device devices[] = {{0}, {1}};

struct Memory {
  unsigned long long total;
  unsigned long long free;
  unsigned long long used;
};
struct Process {
  unsigned int pid;
  unsigned long long used_memory;
  unsigned int gpu_instance;
  unsigned int compute_instance;
};

constexpr int kSuccess = 0;
constexpr int kNotSupported = 3;
constexpr int kInsufficientSize = 7;
constexpr int kDriverNotLoaded = 9;

bool mode_is(const char* mode) {
  const char* set = std::getenv("FAKE_NVML");
  return set != nullptr && std::strcmp(set, mode) == 0;
}

int copy(const std::string& text, char* into, unsigned int size) {
  if (text.size() + 1 > size) return kInsufficientSize;
  std::copy_n(text.c_str(), text.size() + 1, into);
  return kSuccess;
}

}  // namespace

#define FAKE extern "C" __attribute__((visibility("default")))

FAKE int nvmlInit_v2() {
  return mode_is("broken") ? kDriverNotLoaded : kSuccess;
}
FAKE int nvmlShutdown() {
  return kSuccess;
}
FAKE const char* nvmlErrorString(int status) {
  return status == kDriverNotLoaded ? "Driver Not Loaded" : "error";
}
FAKE int nvmlDeviceGetCount_v2(unsigned int* count) {
  *count = 2;
  return kSuccess;
}
FAKE int nvmlDeviceGetHandleByIndex_v2(unsigned int index, Device** device) {
  *device = &devices[index];
  return kSuccess;
}
FAKE int nvmlDeviceGetName(Device*, char* name, unsigned int size) {
  return copy("NVIDIA H200", name, size);
}
FAKE int nvmlDeviceGetUUID(Device* device, char* uuid, unsigned int size) {
  return copy("GPU-000" + std::to_string(device->index), uuid, size);
}
FAKE int nvmlDeviceGetMemoryInfo(Device*, Memory* memory) {
  *memory = {.total = 150'000'000'000, .free = 149'000'000'000, .used = 1'000'000'000};
  return kSuccess;
}
FAKE int nvmlDeviceGetCudaComputeCapability(Device*, int* major, int* minor) {
  *major = 9;
  *minor = 0;
  return kSuccess;
}
FAKE int nvmlDeviceGetComputeRunningProcesses_v3(Device* device, unsigned int* count, Process* processes) {
  const unsigned int running = device->index;  // one on the second
  const bool fits = *count >= running;
  *count = running;
  if (!fits) return kInsufficientSize;
  if (running == 1)
    processes[0] = {.pid = 4711, .used_memory = ~0ULL, .gpu_instance = 0, .compute_instance = 0};
  return kSuccess;
}
FAKE int nvmlSystemGetProcessName(unsigned int, char* name, unsigned int size) {
  return mode_is("old") ? kNotSupported : copy("/usr/bin/python3", name, size);
}
FAKE int nvmlDeviceGetMemoryAffinity(Device* device, unsigned int size, unsigned long* nodes, int) {
  if (mode_is("old") || size < 2) return kNotSupported;
  nodes[device->index] = 4;  // nodes 2 and 66
  return kSuccess;
}
FAKE int nvmlDeviceGetP2PStatus(Device* one, Device*, int, int* status) {
  if (mode_is("old")) return kNotSupported;
  *status = one->index == 0 ? 0 : 5;  // the way back has none
  return kSuccess;
}
FAKE int nvmlDeviceGetTopologyCommonAncestor(Device*, Device*, int* level) {
  if (mode_is("old")) return kNotSupported;
  *level = 30;
  return kSuccess;
}

// From what the host has and what the batch asks for to the planner's slots.

#include "saturn/devices/machine.h"

#include <algorithm>
#include <map>
#include <numeric>
#include <set>
#include <tuple>

#include "saturn/base/nearest.h"
#include "saturn/base/units.h"

namespace saturn::devices {
namespace {

constexpr int kMaxDefaultSlots = 8;  // the planner and the profile stay quick; more are there for the asking
constexpr int kMinDefaultSlots = 4;
constexpr int kMaxDevices = 4096;
constexpr double kMemoryShare = 0.9;  // the rest is the system's, the controller's and the page cache's
constexpr const char* kNodeName = "local";

bool is_cpu_class(const std::string& device_class) {
  return device_class == "cpu" || device_class.compare(0, 4, "cpu-") == 0;
}

// "NVIDIA H200" is "h200", "NVIDIA A100-SXM4-80GB" is "a100-sxm4-80gb".
std::string class_of(const std::string& gpu_name) {
  std::string name;
  for (const char c : gpu_name) {
    const bool upper = c >= 'A' && c <= 'Z';
    const bool kept = upper || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
    const char next = kept ? static_cast<char>(upper ? c - 'A' + 'a' : c) : '-';
    if (next != '-' || (!name.empty() && name.back() != '-')) name += next;
  }
  while (!name.empty() && name.back() == '-') name.pop_back();
  const std::string vendor = "nvidia-";
  if (name.size() > vendor.size() && name.compare(0, vendor.size(), vendor) == 0)
    name.erase(0, vendor.size());
  return name.empty() ? "gpu" : name;
}

// Deals the usable cores to slots in order, those near a device first; goes round again where the batch asked
// for more than there are.
class CoreDealer {
 public:
  explicit CoreDealer(const Host& host)
      : host_(host),
        pins_(host.num_usable_cores() == static_cast<int>(host.cores.size())),
        num_slots_(host.cores.size(), 0) {}

  /// `numa_node`: the device's own; -1 = none.
  std::vector<int> deal(int count, int numa_node = -1) {
    if (!pins_) return {};
    std::vector<std::size_t> places(host_.cores.size());
    std::iota(places.begin(), places.end(), std::size_t{0});
    const auto rank_of = [&](std::size_t place) {
      const bool far = numa_node >= 0 && !host_.numa_nodes.empty() && host_.numa_nodes[place] != numa_node;
      return std::tuple(num_slots_[place], far, place);
    };
    const std::size_t num_cores = std::min(places.size(), static_cast<std::size_t>(count));
    std::partial_sort(places.begin(), places.begin() + static_cast<std::ptrdiff_t>(num_cores), places.end(),
                      [&](std::size_t a, std::size_t b) { return rank_of(a) < rank_of(b); });
    std::vector<int> cores;
    for (std::size_t i = 0; i < num_cores; ++i) {
      cores.push_back(host_.cores[places[i]]);
      ++num_slots_[places[i]];
    }
    std::sort(cores.begin(), cores.end());
    return cores;
  }

 private:
  const Host& host_;
  bool pins_;
  std::vector<int> num_slots_;  // that each core was dealt to
};

// Reads one request; each pass adds to the machine or to the faults.
class Detection {
 public:
  Detection(const DevicesRequest& request, const GpuProbe& probe, const Host& host)
      : request_(request), probe_(probe), host_(host), dealer_(host) {
    machine_.cpu_model = host.cpu_model;
  }

  Result<Machine> run() {
    check_numbers();
    if (!request_.nodes.empty()) {
      declared_nodes();
    } else if (wants_cpu()) {
      detected_cpu();
    } else {
      detected_gpus();
    }
    if (!faults_.empty()) return std::move(faults_);
    return std::move(machine_);
  }

 private:
  bool wants_cpu() const {
    return request_.cpu_slots || request_.threads_per_slot || request_.memory_per_slot_bytes;
  }

  void fault(const SourcePosition& at, std::string what, std::string expected, std::string fix = "") {
    faults_.push_back({.where = at.text(),
                       .what = std::move(what),
                       .expected = std::move(expected),
                       .fix = std::move(fix)});
  }

  void check_numbers() {
    const auto at_least_one = [this](const char* name, std::int64_t value, const SourcePosition& at) {
      if (value >= 1 && value <= kMaxDevices) return;
      fault(at, std::string(name) + " = " + std::to_string(value), "1 to " + std::to_string(kMaxDevices));
    };
    if (request_.cpu_slots) at_least_one("cpu_slots", *request_.cpu_slots, request_.cpu_slots_position);
    if (request_.threads_per_slot) {
      at_least_one("threads_per_slot", *request_.threads_per_slot, request_.threads_per_slot_position);
    }
    at_least_one("gpu_share", request_.gpu_share, request_.gpu_share_position);
    for (const NodeRequest& node : request_.nodes) at_least_one("count", node.count, node.position);
    if (request_.gpu_share > 1 && request_.nodes.empty() && wants_cpu()) {
      fault(request_.gpu_share_position, "gpu_share is set beside a request for CPU slots",
            "GPUs or CPU slots; a machine of both is written as [[devices.node]] tables", "remove gpu_share");
    }
    if (request_.cpu_slots && !request_.nodes.empty()) {
      fault(request_.cpu_slots_position, "cpu_slots is set beside [[devices.node]]",
            "one of the two: a node of class \"cpu\" says its own count", "remove cpu_slots");
    }
  }

  const GpuReport& gpus() {
    if (!asked_) {
      asked_ = true;
      Result<GpuReport> answer = probe_ ? probe_() : GpuReport{.reason = "GPUs were not looked for"};
      report_ = answer.ok() ? *std::move(answer) : GpuReport{.reason = answer.faults().front().what};
      if (!report_.usable) report_.gpus.clear();
      if (!request_.use_busy_gpus) leave_out_busy_gpus();
    }
    return report_;
  }

  // Where other programs have all of them the machine is not one of CPU slots: that would be a surprise.
  void leave_out_busy_gpus() {
    std::string users;
    for (const Gpu& gpu : report_.gpus) {
      if (gpu.is_busy()) users += (users.empty() ? "" : "; ") + users_text(gpu);
    }
    const auto idle_end = std::remove_if(report_.gpus.begin(), report_.gpus.end(),
                                         [](const Gpu& gpu) { return gpu.is_busy(); });
    if (idle_end == report_.gpus.begin() && !users.empty()) {
      fault(request_.position, "other programs compute on every GPU: " + users, "a GPU that is free",
            "end them, or set use_busy_gpus = true in [devices]");
    }
    if (!users.empty()) report_.reason = "other programs compute on the others: " + users;
    report_.gpus.erase(idle_end, report_.gpus.end());
  }

  // ---- CPU slots

  std::string cores_text() const {
    const int usable = host_.num_usable_cores();
    std::string text = std::to_string(usable) + (usable == 1 ? " core" : " cores");
    if (usable < static_cast<int>(host_.cores.size())) {
      text += " (a quota of " + format_number(host_.cpu_quota, 3) + " of " +
              std::to_string(host_.cores.size()) + ")";
    }
    return text;
  }

  // True where slots x threads fit, or sharing was asked for.
  bool cores_suffice(int num_slots, int threads, const std::string& asked, const SourcePosition& at) {
    const int usable = host_.num_usable_cores();
    const std::int64_t needed = static_cast<std::int64_t>(num_slots) * threads;
    machine_.oversubscribed = needed > usable;
    if (!machine_.oversubscribed || request_.oversubscribe) return true;
    const int fits = usable / threads;
    fault(at, asked + " needs " + std::to_string(needed) + " cores; this process may use " + cores_text(),
          "slots x threads of at most " + std::to_string(usable) + ", or oversubscribe = true",
          fits >= 1 ? "set cpu_slots = " + std::to_string(fits) + ", or oversubscribe = true in [devices]"
                    : "set threads_per_slot = 1, or oversubscribe = true in [devices]");
    return false;
  }

  std::int64_t memory_per_slot(int num_slots) const {
    constexpr std::int64_t kMiB = std::int64_t{1} << 20;
    if (request_.memory_per_slot_bytes) return *request_.memory_per_slot_bytes;
    return static_cast<std::int64_t>(kMemoryShare * static_cast<double>(host_.memory_bytes) / num_slots) /
           kMiB * kMiB;
  }

  void check_memory(std::int64_t total, const std::string& asked, const SourcePosition& at) {
    if (total <= host_.memory_bytes || host_.memory_bytes == 0 || request_.oversubscribe) return;
    fault(at,
          asked + " needs " + format_bytes(static_cast<double>(total)) + "; this process may use " +
              format_bytes(static_cast<double>(host_.memory_bytes)),
          "slots whose memory fits together, or oversubscribe = true");
  }

  void add_cpu_slots(Node& node, int count, int threads, std::int64_t memory_bytes) {
    for (int i = 0; i < count; ++i) {
      node.devices.push_back({.index = static_cast<int>(node.devices.size()),
                              .kind = "cpu",
                              .device_class = node.device_class,
                              .memory_bytes = memory_bytes,
                              .cores = dealer_.deal(threads),
                              .threads = threads});
    }
  }

  // As many slots as leave the fewest cores idle; of equals the most.
  static int default_slots(int usable) {
    if (usable <= kMinDefaultSlots) return usable;
    int best = kMinDefaultSlots;
    for (int slots = kMinDefaultSlots; slots <= std::min(usable, kMaxDefaultSlots); ++slots) {
      if (slots * (usable / slots) >= best * (usable / best)) best = slots;
    }
    return best;
  }

  void detected_cpu() {
    if (!faults_.empty()) return;
    const int usable = host_.num_usable_cores();
    int slots = default_slots(usable);
    if (request_.cpu_slots) {
      slots = *request_.cpu_slots;
    } else if (request_.threads_per_slot) {
      slots = std::max(1, usable / *request_.threads_per_slot);
    }
    const int threads = request_.threads_per_slot.value_or(std::max(1, usable / slots));
    std::string asked = "cpu_slots = " + std::to_string(slots);
    if (threads > 1 || request_.threads_per_slot)
      asked += " with " + std::to_string(threads) + " threads each";
    const bool by_slots = request_.cpu_slots_position.known() || !request_.threads_per_slot;
    if (!cores_suffice(slots, threads, asked,
                       by_slots ? request_.cpu_slots_position : request_.threads_per_slot_position)) {
      return;
    }
    const std::int64_t memory_bytes = memory_per_slot(slots);
    check_memory(memory_bytes * slots, "memory_per_slot of " + std::to_string(slots) + " slots",
                 request_.memory_per_slot_position);
    Node node{.name = kNodeName, .device_class = "cpu", .host_memory_bytes = host_.memory_bytes};
    add_cpu_slots(node, slots, threads, memory_bytes);
    machine_.nodes.push_back(std::move(node));
  }

  // ---- GPUs

  void add_gpu(Node& node, const Gpu& gpu, int share, int threads) {
    node.devices.push_back({.index = static_cast<int>(node.devices.size()),
                            .kind = "gpu",
                            .device_class = node.device_class,
                            .memory_bytes = gpu.memory_bytes / request_.gpu_share,
                            .cores = dealer_.deal(threads, gpu.numa_node),
                            .threads = threads,
                            .gpu_index = gpu.index,
                            .gpu_uuid = gpu.uuid,
                            .share = share,
                            .num_shares = request_.gpu_share});
  }

  void detected_gpus() {
    if (!faults_.empty()) return;
    const bool none = gpus().gpus.empty();
    if (!faults_.empty()) return;
    if (none) {
      if (request_.gpu_share > 1) {
        fault(request_.gpu_share_position, "gpu_share is set, and there is no usable GPU: " + gpus().reason,
              "a GPU that this build of Saturn can use", "saturn doctor");
        return;
      }
      return detected_cpu();
    }
    std::vector<std::string> classes;  // in the order of the GPUs
    for (const Gpu& gpu : gpus().gpus) {
      if (std::find(classes.begin(), classes.end(), class_of(gpu.name)) == classes.end()) {
        classes.push_back(class_of(gpu.name));
      }
    }
    const int num_slots = static_cast<int>(gpus().gpus.size()) * request_.gpu_share;
    const int threads = std::max(1, host_.num_usable_cores() / num_slots);
    machine_.oversubscribed = num_slots > host_.num_usable_cores();
    for (const std::string& device_class : classes) {
      Node node{.name = classes.size() == 1 ? kNodeName : std::string(kNodeName) + "-" + device_class,
                .device_class = device_class,
                .host_memory_bytes = host_.memory_bytes};
      for (const Gpu& gpu : gpus().gpus) {
        if (class_of(gpu.name) != device_class) continue;
        for (int share = 0; share < request_.gpu_share; ++share) add_gpu(node, gpu, share, threads);
      }
      machine_.nodes.push_back(std::move(node));
    }
  }

  // ---- Nodes as the batch describes them

  void declared_nodes() {
    if (!faults_.empty()) return;
    std::set<std::string> names;
    std::int64_t num_cpu_slots = 0;
    std::int64_t num_slots = 0;
    bool wants_gpus = false;
    for (const NodeRequest& node : request_.nodes) {
      if (!names.insert(node.name).second) {
        fault(node.position, "node " + in_quotes(node.name) + " is described twice",
              "a name of its own for each node");
      }
      num_slots += node.count;
      if (is_cpu_class(node.device_class)) num_cpu_slots += node.count;
      wants_gpus |= !is_cpu_class(node.device_class);
    }
    if (!faults_.empty()) return;

    const int usable = host_.num_usable_cores();
    const int threads =
        request_.threads_per_slot.value_or(std::max<int>(1, usable / static_cast<int>(num_slots)));
    const SourcePosition& at = request_.nodes.front().position;
    const std::string asked = std::to_string(num_cpu_slots) + " CPU slots of [[devices.node]]";
    if (num_cpu_slots > 0 && !cores_suffice(static_cast<int>(num_cpu_slots), threads, asked, at)) return;

    std::map<std::string, std::vector<Gpu>> free;  // by class, each GPU once per share
    if (wants_gpus) {
      for (const Gpu& gpu : gpus().gpus) free[class_of(gpu.name)].push_back(gpu);
      if (!faults_.empty()) return;
    }
    std::int64_t cpu_memory = 0;
    for (const NodeRequest& wanted : request_.nodes) {
      Node node{
          .name = wanted.name, .device_class = wanted.device_class, .host_memory_bytes = host_.memory_bytes};
      if (is_cpu_class(wanted.device_class)) {
        const std::int64_t memory_bytes =
            wanted.memory_bytes > 0 ? wanted.memory_bytes : memory_per_slot(static_cast<int>(num_cpu_slots));
        cpu_memory += memory_bytes * wanted.count;
        add_cpu_slots(node, wanted.count, threads, memory_bytes);
      } else {
        declared_gpus(wanted, free, threads, node);
      }
      machine_.nodes.push_back(std::move(node));
    }
    check_memory(cpu_memory, "the memory of all CPU slots", at);
  }

  void declared_gpus(const NodeRequest& wanted, std::map<std::string, std::vector<Gpu>>& free, int threads,
                     Node& node) {
    std::vector<Gpu>& pool = free[wanted.device_class];
    const int num_free = static_cast<int>(pool.size()) * request_.gpu_share;
    if (wanted.count > num_free) {
      std::vector<std::string> known = {"cpu"};
      for (const auto& [device_class, gpus] : free) {
        if (!gpus.empty()) known.push_back(device_class);
      }
      const std::string why = gpus().reason.empty() ? "" : ": " + gpus().reason;
      fault(wanted.position,
            "node " + in_quotes(wanted.name) + " asks for " + std::to_string(wanted.count) +
                " devices of class " + in_quotes(wanted.device_class) + "; this machine has " +
                std::to_string(num_free) + why,
            "devices that exist; classes here: " + listed(known),
            num_free > 0 ? "set count = " + std::to_string(num_free)
                         : did_you_mean(wanted.device_class, known));
      return;
    }
    for (int i = 0; i < wanted.count; ++i) {
      const int share = i % request_.gpu_share;
      add_gpu(node, pool.front(), share, threads);
      if (wanted.memory_bytes > 0) {
        node.devices.back().memory_bytes = std::min(node.devices.back().memory_bytes, wanted.memory_bytes);
      }
      if (share + 1 == request_.gpu_share || i + 1 == wanted.count) pool.erase(pool.begin());
    }
  }

  const DevicesRequest& request_;
  const GpuProbe& probe_;
  const Host& host_;
  CoreDealer dealer_;
  Machine machine_;
  Diagnostics faults_;
  bool asked_ = false;
  GpuReport report_;
};

}  // namespace

bool Gpu::is_busy() const {
  return std::any_of(processes.begin(), processes.end(),
                     [](const GpuProcess& process) { return process.name != "nvidia-cuda-mps-server"; });
}

std::string users_text(const Gpu& gpu) {
  std::string text;
  for (const GpuProcess& process : gpu.processes) {
    text += (text.empty() ? "GPU " + std::to_string(gpu.index) + ": " : ", ") +
            (process.name.empty() ? "a program" : process.name) + " (" + std::to_string(process.pid) + ")";
    if (process.used_bytes > 0) text += " with " + format_bytes(static_cast<double>(process.used_bytes));
  }
  return text;
}

int Machine::num_devices() const {
  std::size_t count = 0;
  for (const Node& node : nodes) count += node.devices.size();
  return static_cast<int>(count);
}

Result<Machine> detect_machine(const DevicesRequest& request, const GpuProbe& probe, const Host& host) {
  return Detection(request, probe, host).run();
}

Result<Machine> detect_machine(const DevicesRequest& request, const GpuProbe& probe) {
  return detect_machine(request, probe, this_host());
}

}  // namespace saturn::devices

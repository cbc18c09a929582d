// Cores and memory that this process may use: affinity, topology and the limits of its control groups.

#include <sched.h>
#include <sys/utsname.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <optional>
#include <sstream>
#include <tuple>

#include "saturn/base/files.h"
#include "saturn/devices/machine.h"

namespace saturn::devices {
namespace {

// Content of a small file of /proc or /sys; empty where it cannot be read.
std::string content_of(const std::string& path) {
  auto content = read_whole(path, std::uint64_t{16} << 20);
  return content.ok() ? *std::move(content) : std::string();
}

std::vector<std::string> lines_of(const std::string& path) {
  std::vector<std::string> lines;
  std::istringstream text(content_of(path));
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

// The number that `text` starts with, after blanks.
std::optional<std::int64_t> number_in(const std::string& text) {
  const std::size_t at = text.find_first_not_of(" \t");
  if (at == std::string::npos) return std::nullopt;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data() + at, text.data() + text.size(), value);
  return error == std::errc() ? std::optional(value) : std::nullopt;
}

std::optional<std::int64_t> number_at(const std::string& path) {
  return number_in(content_of(path));
}

// The text behind the first line "name : value".
std::string field_of(const std::string& path, const std::string& name) {
  for (const std::string& line : lines_of(path)) {
    if (line.compare(0, name.size(), name) != 0) continue;
    const std::size_t colon = line.find(':');
    const std::size_t start = colon == std::string::npos ? colon : line.find_first_not_of(" \t", colon + 1);
    if (start != std::string::npos) return line.substr(start);
  }
  return "";
}

// A control group's directory with those above it up to the mount, the innermost first.
struct Hierarchy {
  std::string mount;
  std::string inner;  ///< below the mount, "" or "/a/b"
  bool unified = false;

  std::vector<std::string> directories() const {
    std::vector<std::string> all;
    std::string path = inner;
    while (!path.empty()) {
      all.push_back(mount + path);
      path.resize(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
    }
    all.push_back(mount);
    return all;
  }
};

bool lists(const std::string& comma_separated, const std::string& name) {
  return ("," + comma_separated + ",").find("," + name + ",") != std::string::npos;
}

// Where the limits of `controller` are written: the version 1 hierarchy that has it, and the unified one.
std::vector<Hierarchy> hierarchies_of(const std::string& root, const std::string& controller) {
  std::string path_v1;
  std::string path_v2;
  for (const std::string& line : lines_of(root + "/proc/self/cgroup")) {
    const std::size_t first = line.find(':');
    const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (controllers.empty()) path_v2 = line.substr(second + 1);
    if (lists(controllers, controller)) path_v1 = line.substr(second + 1);
  }
  std::vector<Hierarchy> found;
  for (const std::string& line : lines_of(root + "/proc/self/mountinfo")) {
    // id parent device root mount options ... - type source super-options
    std::istringstream fields(line);
    std::string skipped;
    std::string mounted_root;
    std::string mount;
    fields >> skipped >> skipped >> skipped >> mounted_root >> mount;
    while (fields >> skipped && skipped != "-") {
    }
    std::string type;
    std::string source;
    std::string options;
    fields >> type >> source >> options;
    const bool unified = type == "cgroup2";
    if (!unified && !(type == "cgroup" && lists(options, controller))) continue;
    std::string inner = unified ? path_v2 : path_v1;
    // In a container the mount shows a part of the tree, and the path may be told from outside of it.
    if (mounted_root != "/" && inner.compare(0, mounted_root.size(), mounted_root) == 0) {
      inner.erase(0, mounted_root.size());
    }
    if (inner == "/" || inner.find("..") != std::string::npos) inner.clear();
    found.push_back({.mount = root + mount, .inner = inner, .unified = unified});
  }
  return found;
}

// Cores' worth of time; 0 where no group limits it.
double read_cpu_quota(const std::string& root) {
  double least = 0;
  const auto limit = [&least](double quota, double period) {
    if (quota > 0 && period > 0) least = least == 0 ? quota / period : std::min(least, quota / period);
  };
  for (const Hierarchy& hierarchy : hierarchies_of(root, "cpu")) {
    for (const std::string& directory : hierarchy.directories()) {
      if (hierarchy.unified) {
        std::istringstream text(content_of(directory + "/cpu.max"));
        double quota = 0;
        double period = 0;
        if (text >> quota >> period) limit(quota, period);  // "max" does not read as a number
      } else {
        limit(static_cast<double>(number_at(directory + "/cpu.cfs_quota_us").value_or(-1)),
              static_cast<double>(number_at(directory + "/cpu.cfs_period_us").value_or(0)));
      }
    }
  }
  return least;
}

std::int64_t read_memory(const std::string& root) {
  constexpr std::int64_t kNoLimit = std::int64_t{1} << 60;  // version 1 writes a huge number for none
  std::int64_t least = number_in(field_of(root + "/proc/meminfo", "MemTotal")).value_or(0) * 1024;
  for (const Hierarchy& hierarchy : hierarchies_of(root, "memory")) {
    for (const std::string& directory : hierarchy.directories()) {
      const auto limit =
          number_at(directory + (hierarchy.unified ? "/memory.max" : "/memory.limit_in_bytes"));
      if (limit && *limit > 0 && *limit < kNoLimit) least = least == 0 ? *limit : std::min(least, *limit);
    }
  }
  return least;
}

std::string read_cpu_model(const std::string& root) {
  std::string model = field_of(root + "/proc/cpuinfo", "model name");
  if (!model.empty()) return model;
  const std::string part = field_of(root + "/proc/cpuinfo", "CPU part");
  utsname system{};
  ::uname(&system);
  return std::string(system.machine) + (part.empty() ? "" : " part " + part);
}

// The kernel lists a core's node as an entry "node1" of the core's directory.
std::optional<int> numa_node_of(const std::string& root, int core) {
  std::error_code error;
  const std::string directory = root + "/sys/devices/system/cpu/cpu" + std::to_string(core);
  for (std::filesystem::directory_iterator entry(directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    int node = 0;
    if (name.rfind("node", 0) != 0) continue;
    const auto [last, fault] = std::from_chars(name.data() + 4, name.data() + name.size(), node);
    if (fault == std::errc() && last == name.data() + name.size()) return node;
  }
  return std::nullopt;
}

}  // namespace

int Host::num_usable_cores() const {
  const int num_cores = std::max<int>(1, static_cast<int>(cores.size()));
  if (cpu_quota <= 0) return num_cores;
  return std::clamp(static_cast<int>(std::floor(cpu_quota + 1e-9)), 1, num_cores);
}

Host read_host(const std::string& root, std::vector<int> affinity) {
  // Neighbours in the list share a package and then a physical core: a slot is cut from neighbours.
  std::map<int, std::tuple<std::int64_t, std::int64_t, int>> place;
  for (const int core : affinity) {
    const std::string topology = root + "/sys/devices/system/cpu/cpu" + std::to_string(core) + "/topology/";
    place[core] = {number_at(topology + "physical_package_id").value_or(0),
                   number_at(topology + "core_id").value_or(core), core};
  }
  std::sort(affinity.begin(), affinity.end(), [&place](int a, int b) { return place[a] < place[b]; });
  std::vector<int> numa_nodes;
  for (const int core : affinity) {
    if (const std::optional<int> node = numa_node_of(root, core)) numa_nodes.push_back(*node);
  }
  if (numa_nodes.size() != affinity.size()) numa_nodes.clear();
  return {.cores = std::move(affinity),
          .cpu_quota = read_cpu_quota(root),
          .memory_bytes = read_memory(root),
          .cpu_model = read_cpu_model(root),
          .numa_nodes = std::move(numa_nodes)};
}

std::int64_t available_memory_bytes() {
  return number_in(field_of("/proc/meminfo", "MemAvailable")).value_or(0) * 1024;
}

Host this_host() {
  // The kernel's set may be larger than the C library's default one.
  std::vector<int> cores;
  for (int num_cpus = CPU_SETSIZE; num_cpus <= (1 << 20); num_cpus *= 2) {
    cpu_set_t* set = CPU_ALLOC(static_cast<std::size_t>(num_cpus));
    const std::size_t size = CPU_ALLOC_SIZE(static_cast<std::size_t>(num_cpus));
    const bool known = ::sched_getaffinity(0, size, set) == 0;
    for (int core = 0; known && core < num_cpus; ++core) {
      if (CPU_ISSET_S(static_cast<std::size_t>(core), size, set)) cores.push_back(core);
    }
    CPU_FREE(set);
    if (known) break;
  }
  return read_host("", std::move(cores));
}

}  // namespace saturn::devices

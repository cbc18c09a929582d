// The machine as artefacts and messages carry it, and its fingerprint.

#include <algorithm>
#include <cmath>
#include <limits>

#include "saturn/base/digest.h"
#include "saturn/devices/machine.h"

namespace saturn::devices {
namespace {

int read_int(JsonReader& reader, const char* key, int least) {
  const std::int64_t value = reader.integer(key);
  if (value >= least && value <= std::numeric_limits<int>::max()) return static_cast<int>(value);
  reader.fault(key, std::to_string(value) + " stands here",
               "an integer of at least " + std::to_string(least));
  return least;
}

std::int64_t read_bytes(JsonReader& reader, const char* key) {
  const std::int64_t value = reader.integer(key);
  if (value >= 0) return value;
  reader.fault(key, std::to_string(value) + " stands here", "a number of bytes");
  return 0;
}

GpuLink link_from_json(JsonReader reader) {
  GpuLink link{.to = read_int(reader, "to", 0), .path = reader.string("path")};
  reader.finish();
  return link;
}

GpuProcess process_from_json(JsonReader reader) {
  GpuProcess process{.pid = read_int(reader, "pid", 0),
                     .name = reader.string("name"),
                     .used_bytes = read_bytes(reader, "used_bytes")};
  reader.finish();
  return process;
}

Gpu gpu_from_json(JsonReader reader) {
  Gpu gpu;
  gpu.index = read_int(reader, "index", 0);
  gpu.name = reader.string("name");
  gpu.uuid = reader.string("uuid");
  gpu.memory_bytes = read_bytes(reader, "memory_bytes");
  gpu.used_bytes = read_bytes(reader, "used_bytes");
  gpu.capability_major = read_int(reader, "capability_major", 0);
  gpu.capability_minor = read_int(reader, "capability_minor", 0);
  gpu.numa_node = read_int(reader, "numa_node", -1);
  for (std::size_t i = 0; i < reader.array("links").size(); ++i)
    gpu.links.push_back(link_from_json(reader.child("links", i)));
  for (std::size_t i = 0; i < reader.array("processes").size(); ++i)
    gpu.processes.push_back(process_from_json(reader.child("processes", i)));
  reader.finish();
  return gpu;
}

Node node_from_json(JsonReader reader) {
  Node node;
  node.name = reader.string("name");
  node.device_class = reader.string("device_class");
  node.host_memory_bytes = read_bytes(reader, "host_memory_bytes");
  for (std::size_t i = 0; i < reader.array("devices").size(); ++i) {
    node.devices.push_back(device_from_json(reader.child("devices", i)));
  }
  reader.finish();
  return node;
}

}  // namespace

Json to_json(const Device& device) {
  Json json = {{"index", device.index},
               {"kind", device.kind},
               {"device_class", device.device_class},
               {"memory_bytes", device.memory_bytes},
               {"cores", device.cores},
               {"threads", device.threads}};
  if (device.kind == "gpu") {
    json["gpu_index"] = device.gpu_index;
    json["gpu_uuid"] = device.gpu_uuid;
    json["share"] = device.share;
    json["num_shares"] = device.num_shares;
  }
  return json;
}

Device device_from_json(JsonReader reader) {
  Device device;
  device.index = read_int(reader, "index", 0);
  device.kind = reader.string("kind");
  device.device_class = reader.string("device_class");
  device.memory_bytes = read_bytes(reader, "memory_bytes");
  for (const Json& core : reader.array("cores")) {
    if (core.is_number_unsigned() && core.get<std::uint64_t>() <= std::numeric_limits<int>::max()) {
      device.cores.push_back(core.get<int>());
    } else {
      reader.fault("cores", core.dump() + " stands here", "an array of core numbers");
    }
  }
  device.threads = read_int(reader, "threads", 1);
  if (device.kind == "gpu") {
    device.gpu_index = read_int(reader, "gpu_index", 0);
    device.gpu_uuid = reader.string("gpu_uuid");
    device.share = read_int(reader, "share", 0);
    device.num_shares = read_int(reader, "num_shares", 1);
  } else if (device.kind != "cpu") {
    reader.fault("kind", in_quotes(device.kind) + " stands here", "\"cpu\" or \"gpu\"");
  }
  reader.finish();
  return device;
}

Json to_json(const Machine& machine) {
  Json nodes = Json::array();
  for (const Node& node : machine.nodes) {
    Json owned = Json::array();
    for (const Device& device : node.devices) owned.push_back(to_json(device));
    nodes.push_back({{"name", node.name},
                     {"device_class", node.device_class},
                     {"host_memory_bytes", node.host_memory_bytes},
                     {"devices", std::move(owned)}});
  }
  return {{"cpu_model", machine.cpu_model},
          {"oversubscribed", machine.oversubscribed},
          {"nodes", std::move(nodes)}};
}

Machine machine_from_json(JsonReader reader) {
  Machine machine;
  machine.cpu_model = reader.string("cpu_model");
  machine.oversubscribed = reader.boolean_or("oversubscribed", false);
  for (std::size_t i = 0; i < reader.array("nodes").size(); ++i) {
    machine.nodes.push_back(node_from_json(reader.child("nodes", i)));
  }
  reader.finish();
  return machine;
}

Json to_json(const GpuReport& report) {
  Json gpus = Json::array();
  for (const Gpu& gpu : report.gpus) {
    Json links = Json::array();
    for (const GpuLink& link : gpu.links) links.push_back({{"to", link.to}, {"path", link.path}});
    Json processes = Json::array();
    for (const GpuProcess& process : gpu.processes)
      processes.push_back({{"pid", process.pid}, {"name", process.name}, {"used_bytes", process.used_bytes}});
    gpus.push_back({{"index", gpu.index},
                    {"name", gpu.name},
                    {"uuid", gpu.uuid},
                    {"memory_bytes", gpu.memory_bytes},
                    {"used_bytes", gpu.used_bytes},
                    {"capability_major", gpu.capability_major},
                    {"capability_minor", gpu.capability_minor},
                    {"numa_node", gpu.numa_node},
                    {"links", std::move(links)},
                    {"processes", std::move(processes)}});
  }
  return {{"usable", report.usable}, {"reason", report.reason}, {"gpus", std::move(gpus)}};
}

GpuReport gpu_report_from_json(JsonReader reader) {
  GpuReport report;
  report.usable = reader.boolean_or("usable", false);
  report.reason = reader.string_or("reason", "");
  for (std::size_t i = 0; i < reader.array("gpus").size(); ++i) {
    report.gpus.push_back(gpu_from_json(reader.child("gpus", i)));
  }
  reader.finish();
  return report;
}

std::string fingerprint(const Machine& machine) {
  const auto gibibytes = [](std::int64_t bytes) { return std::llround(static_cast<double>(bytes) / 0x1p30); };
  Json essence = {{"cpu_model", machine.cpu_model}, {"oversubscribed", machine.oversubscribed}};
  Json& nodes = essence["nodes"] = Json::array();
  for (const Node& node : machine.nodes) {
    Json owned = Json::array();
    for (const Device& device : node.devices) {
      owned.push_back({device.device_class, device.threads, gibibytes(device.memory_bytes), device.num_shares,
                       !device.cores.empty()});
    }
    nodes.push_back(std::move(owned));
  }
  return digest_of(to_line(essence));
}

}  // namespace saturn::devices

#include "saturn/devices/machine.h"

#include <doctest/doctest.h>

#include <set>

#include "saturn/devices/nvml.h"

namespace saturn::devices {
namespace {

constexpr std::int64_t kGiB = std::int64_t{1} << 30;

Host host_of(int num_cores, double quota = 0) {
  Host host{.cpu_quota = quota, .memory_bytes = 20 * kGiB, .cpu_model = "Test CPU"};
  for (int core = 0; core < num_cores; ++core) host.cores.push_back(core);
  return host;
}

Gpu gpu_of(int index, const std::string& name) {
  return {.index = index, .name = name, .uuid = "GPU-" + std::to_string(index), .memory_bytes = 80 * kGiB};
}

GpuProbe gpus(std::vector<Gpu> list, bool usable = true) {
  return [report = GpuReport{std::move(list), usable, usable ? "" : "not built for them"}] {
    return Result<GpuReport>(report);
  };
}

const GpuProbe kNone = gpus({}, false);

// "class cores threads" per device.
std::vector<std::string> outline(const Machine& machine) {
  std::vector<std::string> lines;
  for (const Node& node : machine.nodes) {
    for (const Device& device : node.devices) {
      std::string line = node.name + ":" + std::to_string(device.index) + " " + device.device_class + " ";
      for (const int core : device.cores) line += std::to_string(core) + ",";
      lines.push_back(line + " x" + std::to_string(device.threads));
    }
  }
  return lines;
}

using Lines = std::vector<std::string>;

TEST_SUITE("devices") {
  TEST_CASE("devices/machine: cores without a request become disjoint slots and few stay idle") {
    for (int num_cores = 1; num_cores <= 200; ++num_cores) {
      CAPTURE(num_cores);
      const auto machine = detect_machine({}, kNone, host_of(num_cores));
      REQUIRE(machine.ok());
      CHECK_FALSE(machine->oversubscribed);
      std::set<int> seen;
      for (const Device& device : machine->nodes.front().devices) {
        CHECK(static_cast<int>(device.cores.size()) == device.threads);
        for (const int core : device.cores) CHECK(seen.insert(core).second);
      }
      CHECK(machine->num_devices() >= std::min(num_cores, 4));
      CHECK(machine->num_devices() <= 8);
      CHECK(static_cast<int>(seen.size()) * 10 >= num_cores * 9 - 10);
    }
  }

  TEST_CASE("devices/machine: slots and threads are as the batch says") {
    struct Row {
      DevicesRequest request;
      int num_cores;
      Lines want;
    };
    const std::vector<Row> rows = {
        {{.cpu_slots = 2}, 2, {"local:0 cpu 0, x1", "local:1 cpu 1, x1"}},
        {{.cpu_slots = 2}, 5, {"local:0 cpu 0,1, x2", "local:1 cpu 2,3, x2"}},
        {{.threads_per_slot = 2}, 5, {"local:0 cpu 0,1, x2", "local:1 cpu 2,3, x2"}},
        {{.cpu_slots = 1, .threads_per_slot = 1}, 4, {"local:0 cpu 0, x1"}},
        {{.cpu_slots = 3, .oversubscribe = true},
         2,
         {"local:0 cpu 0, x1", "local:1 cpu 1, x1", "local:2 cpu 0, x1"}},
        {{.cpu_slots = 2, .threads_per_slot = 3, .oversubscribe = true},
         2,
         {"local:0 cpu 0,1, x3", "local:1 cpu 0,1, x3"}},
    };
    for (const Row& row : rows) {
      CAPTURE(row.want.front());
      const auto machine = detect_machine(row.request, kNone, host_of(row.num_cores));
      REQUIRE(machine.ok());
      CHECK(outline(*machine) == row.want);
      CHECK(machine->oversubscribed == row.request.oversubscribe);
    }
  }

  TEST_CASE("devices/machine: under a quota slots get time and no cores of their own") {
    const auto machine = detect_machine({}, kNone, host_of(64, 2.5));
    REQUIRE(machine.ok());
    CHECK(outline(*machine) == Lines{"local:0 cpu  x1", "local:1 cpu  x1"});
  }

  TEST_CASE("devices/machine: memory is shared out with a reserve or as the batch says") {
    auto machine = detect_machine({.cpu_slots = 2}, kNone, host_of(2));
    REQUIRE(machine.ok());
    CHECK(machine->nodes.front().devices[1].memory_bytes == 9 * kGiB);
    machine = detect_machine({.cpu_slots = 2, .memory_per_slot_bytes = kGiB}, kNone, host_of(2));
    REQUIRE(machine.ok());
    CHECK(machine->nodes.front().devices[1].memory_bytes == kGiB);
  }

  TEST_CASE("devices/machine: usable GPUs come before cores and split the cores among them") {
    const auto probe = gpus({gpu_of(0, "NVIDIA H200"), gpu_of(1, "NVIDIA H200")});
    const auto machine = detect_machine({}, probe, host_of(5));
    REQUIRE(machine.ok());
    CHECK(outline(*machine) == Lines{"local:0 h200 0,1, x2", "local:1 h200 2,3, x2"});
    CHECK(machine->nodes.front().devices[1].gpu_uuid == "GPU-1");
    CHECK(machine->nodes.front().devices[1].memory_bytes == 80 * kGiB);

    const auto shared = detect_machine({.gpu_share = 4}, probe, host_of(16));
    REQUIRE(shared.ok());
    CHECK(shared->num_devices() == 8);
    const Device& last = shared->nodes.front().devices.back();
    CHECK(last.gpu_index == 1);
    CHECK(last.share == 3);
    CHECK(last.num_shares == 4);
    CHECK(last.memory_bytes == 20 * kGiB);
  }

  TEST_CASE("devices/machine: a GPU gets the cores of its own NUMA node while there are some") {
    Gpu left = gpu_of(0, "NVIDIA H200");
    Gpu right = gpu_of(1, "NVIDIA H200");
    left.numa_node = 1;
    right.numa_node = 0;
    Host host = host_of(8);
    host.numa_nodes = {0, 0, 0, 0, 1, 1, 1, 1};
    CHECK(outline(*detect_machine({}, gpus({left, right}), host)) ==
          Lines{"local:0 h200 4,5,6,7, x4", "local:1 h200 0,1,2,3, x4"});
    right.numa_node = 1;
    CHECK(outline(*detect_machine({}, gpus({left, right}), host)) ==
          Lines{"local:0 h200 4,5,6,7, x4", "local:1 h200 0,1,2,3, x4"});
    host.numa_nodes.clear();
    CHECK(outline(*detect_machine({}, gpus({left, right}), host)) ==
          Lines{"local:0 h200 0,1,2,3, x4", "local:1 h200 4,5,6,7, x4"});
  }

  TEST_CASE("devices/machine: GPUs of other programs are left out unless asked for") {
    Gpu busy = gpu_of(0, "NVIDIA H200");
    busy.processes = {{.pid = 7, .name = "python3", .used_bytes = kGiB}, {.pid = 8}};
    Gpu served = gpu_of(1, "NVIDIA H200");
    served.processes = {{.pid = 9, .name = "nvidia-cuda-mps-server"}};
    CHECK(outline(*detect_machine({}, gpus({busy, served}), host_of(2))) == Lines{"local:0 h200 0,1, x2"});
    CHECK(detect_machine({.use_busy_gpus = true}, gpus({busy, served}), host_of(2))->num_devices() == 2);

    DevicesRequest request{.position = {.path = "a.toml", .line = 3, .column = 1}};
    const auto none = detect_machine(request, gpus({busy}), host_of(2));
    REQUIRE_FALSE(none.ok());
    CHECK(none.faults().front().where == "a.toml:3:1");
    CHECK(none.faults().front().what ==
          "other programs compute on every GPU: GPU 0: python3 (7) with 1.0 GiB, a program (8)");
    CHECK(none.faults().front().fix == "end them, or set use_busy_gpus = true in [devices]");

    request.nodes = {{.name = "gpus", .device_class = "h200", .count = 2, .position = request.position}};
    const auto too_few = detect_machine(request, gpus({busy, served}), host_of(2));
    REQUIRE_FALSE(too_few.ok());
    CHECK(too_few.faults().front().what ==
          "node \"gpus\" asks for 2 devices of class \"h200\"; this machine has 1: other programs compute on "
          "the others: GPU 0: python3 (7) with 1.0 GiB, a program (8)");
  }

  TEST_CASE("devices/machine: GPUs of two classes are two nodes and unusable ones are none") {
    const auto mixed =
        detect_machine({}, gpus({gpu_of(0, "NVIDIA A100-SXM4-80GB"), gpu_of(1, "Tesla T4")}), host_of(2));
    REQUIRE(mixed.ok());
    CHECK(outline(*mixed) ==
          Lines{"local-a100-sxm4-80gb:0 a100-sxm4-80gb 0, x1", "local-tesla-t4:0 tesla-t4 1, x1"});
    const auto unusable = detect_machine({}, gpus({gpu_of(0, "NVIDIA H200")}, false), host_of(1));
    REQUIRE(unusable.ok());
    CHECK(outline(*unusable) == Lines{"local:0 cpu 0, x1"});
  }

  TEST_CASE("devices/machine: nodes of the batch are cut from what is here") {
    DevicesRequest request{.gpu_share = 2};
    request.nodes = {{.name = "left", .device_class = "cpu", .count = 2},
                     {.name = "right", .device_class = "cpu-slow", .count = 1, .memory_bytes = kGiB},
                     {.name = "gpus", .device_class = "h200", .count = 3, .memory_bytes = 10 * kGiB}};
    const auto machine =
        detect_machine(request, gpus({gpu_of(0, "NVIDIA H200"), gpu_of(1, "NVIDIA H200")}), host_of(6));
    REQUIRE(machine.ok());
    CHECK(outline(*machine) == Lines{"left:0 cpu 0, x1", "left:1 cpu 1, x1", "right:0 cpu-slow 2, x1",
                                     "gpus:0 h200 3, x1", "gpus:1 h200 4, x1", "gpus:2 h200 5, x1"});
    CHECK(machine->nodes[1].devices[0].memory_bytes == kGiB);
    CHECK(machine->nodes[2].devices[2].gpu_index == 1);
    CHECK(machine->nodes[2].devices[2].memory_bytes == 10 * kGiB);
  }

  TEST_CASE("devices/machine: what the machine cannot do is a fault at its line") {
    const auto at = [](int line) { return SourcePosition{.path = "a.toml", .line = line, .column = 1}; };
    struct Row {
      DevicesRequest request;
      std::string where;
      std::string what;
    };
    std::vector<Row> rows = {
        {{.cpu_slots = 3, .cpu_slots_position = at(2)},
         "a.toml:2:1",
         "cpu_slots = 3 needs 3 cores; this process may use 2 cores"},
        {{.cpu_slots = 2,
          .threads_per_slot = 2,
          .cpu_slots_position = at(2),
          .threads_per_slot_position = at(3)},
         "a.toml:2:1",
         "cpu_slots = 2 with 2 threads each needs 4 cores; this process may use 2 cores"},
        {{.threads_per_slot = 4, .threads_per_slot_position = at(3)},
         "a.toml:3:1",
         "cpu_slots = 1 with 4 threads each needs 4 cores; this process may use 2 cores"},
        {{.cpu_slots = 0, .cpu_slots_position = at(2)}, "a.toml:2:1", "cpu_slots = 0"},
        {{.cpu_slots = 2, .memory_per_slot_bytes = 11 * kGiB, .memory_per_slot_position = at(4)},
         "a.toml:4:1",
         "memory_per_slot of 2 slots needs 22.0 GiB; this process may use 20.0 GiB"},
        {{.gpu_share = 2, .gpu_share_position = at(5)},
         "a.toml:5:1",
         "gpu_share is set, and there is no usable GPU: not built for them"},
        {{.cpu_slots = 1, .gpu_share = 2, .gpu_share_position = at(5)},
         "a.toml:5:1",
         "gpu_share is set beside a request for CPU slots"},
    };
    DevicesRequest nodes{.cpu_slots = 1, .cpu_slots_position = at(2)};
    nodes.nodes = {{.name = "a", .device_class = "cpu", .count = 1, .position = at(7)}};
    rows.push_back({nodes, "a.toml:2:1", "cpu_slots is set beside [[devices.node]]"});
    nodes = {};
    nodes.nodes = {{.name = "a", .device_class = "h100", .count = 4, .position = at(7)}};
    rows.push_back(
        {nodes, "a.toml:7:1",
         "node \"a\" asks for 4 devices of class \"h100\"; this machine has 0: not built for them"});
    nodes.nodes = {{.name = "a", .device_class = "cpu", .count = 1, .position = at(7)},
                   {.name = "a", .device_class = "cpu", .count = 1, .position = at(9)}};
    rows.push_back({nodes, "a.toml:9:1", "node \"a\" is described twice"});
    nodes.nodes = {{.name = "a", .device_class = "cpu", .count = 5, .position = at(7)}};
    rows.push_back(
        {nodes, "a.toml:7:1", "5 CPU slots of [[devices.node]] needs 5 cores; this process may use 2 cores"});
    for (const Row& row : rows) {
      CAPTURE(row.what);
      const auto machine = detect_machine(row.request, kNone, host_of(2));
      REQUIRE_FALSE(machine.ok());
      REQUIRE(machine.faults().size() == 1);
      CHECK(machine.faults().front().where == row.where);
      CHECK(machine.faults().front().what == row.what);
      CHECK_FALSE(machine.faults().front().expected.empty());
    }
  }

  TEST_CASE("devices/machine: comes back from JSON the same and damage is named") {
    DevicesRequest request;
    request.nodes = {{.name = "left", .device_class = "cpu", .count = 2},
                     {.name = "gpus", .device_class = "h200", .count = 2}};
    request.gpu_share = 2;
    const auto machine = detect_machine(request, gpus({gpu_of(3, "NVIDIA H200")}), host_of(4));
    REQUIRE(machine.ok());
    const auto read = [](const Json& json, Diagnostics& faults) {
      return machine_from_json(JsonReader(json, "profile.json", "/machine", faults));
    };
    Json json = *parse_json(to_text(to_json(*machine)), "profile.json");
    Diagnostics faults;
    CHECK(read(json, faults) == *machine);
    CHECK(faults.empty());

    json["nodes"][1]["devices"][0]["threads"] = 0;
    json["nodes"][0]["devices"][1]["kind"] = "tpu";
    json["nodes"][0]["devices"][0]["cores"] = Json::array({-1});
    read(json, faults);
    REQUIRE(faults.size() == 3);
    CHECK(faults[0].where == "profile.json#/machine/nodes/0/devices/0/cores");
    CHECK(faults[1].where == "profile.json#/machine/nodes/0/devices/1/kind");
    CHECK(faults[2].where == "profile.json#/machine/nodes/1/devices/0/threads");
  }

  TEST_CASE("devices/machine: the fingerprint tells what changes a step time and nothing else") {
    const Machine machine = *detect_machine({}, gpus({gpu_of(0, "NVIDIA H200")}), host_of(4));
    Machine same = machine;
    same.nodes[0].name = "other";
    same.nodes[0].devices[0].cores = {9};
    same.nodes[0].devices[0].gpu_uuid = "GPU-77";
    same.nodes[0].devices[0].memory_bytes += 1000;
    CHECK(fingerprint(same) == fingerprint(machine));
    std::vector<Machine> others(5, machine);
    others[0].cpu_model = "Other CPU";
    others[1].nodes[0].devices[0].threads = 2;
    others[2].nodes[0].devices[0].device_class = "h100";
    others[3].nodes[0].devices[0].memory_bytes /= 2;
    others[4].nodes[0].devices.push_back(machine.nodes[0].devices[0]);
    for (const Machine& other : others) CHECK(fingerprint(other) != fingerprint(machine));
  }

  TEST_CASE("devices/nvml: CUDA_VISIBLE_DEVICES orders and limits") {
    const std::vector<Gpu> all = {gpu_of(0, "A"), gpu_of(1, "B"), gpu_of(2, "C")};
    const auto names = [&all](std::optional<std::string> visible) {
      std::string text;
      for (const Gpu& gpu : visible_gpus(all, visible)) text += gpu.name;
      return text;
    };
    CHECK(names(std::nullopt) == "ABC");
    CHECK(names("") == "");
    CHECK(names("-1") == "");
    CHECK(names("2,0") == "CA");
    CHECK(names(" 1 , GPU-2") == "BC");
    CHECK(names("1,7,0") == "B");
    CHECK(names("MIG-x,0") == "");
  }
}

}  // namespace
}  // namespace saturn::devices

// Device counts and techniques of each job against what there is.

#include "saturn/batch/check_devices.h"

#include <algorithm>
#include <set>

#include "batch/faults.h"

namespace saturn::batch {
namespace {

std::string counted_devices(int count) {
  return std::to_string(count) + (count == 1 ? " device" : " devices");
}

// Why no allowed technique runs on any allowed width.
std::string reasons(const Job& job, const std::vector<DeviceGroup>& groups) {
  std::set<std::string> told;
  std::string text;
  for (const TechniqueSpec* spec : techniques_of(job)) {
    for (DeviceGroup group : groups) {
      const int most = group.num_devices;
      for (int count = 1; count <= most; ++count) {
        if (!job.devices.empty() &&
            std::find(job.devices.begin(), job.devices.end(), count) == job.devices.end())
          continue;
        group.num_devices = count;
        const auto why = spec->refusal(job, group);
        if (!why || !told.insert(spec->name + *why).second) continue;
        if (told.size() > 4) return text + "; ...";
        text += (text.empty() ? "" : "; ") + spec->name + " x" + std::to_string(count) + " " + *why;
      }
    }
  }
  return text;
}

}  // namespace

std::vector<DeviceGroup> device_groups(const devices::Machine& machine) {
  std::vector<DeviceGroup> groups;
  for (const devices::Node& node : machine.nodes) {
    if (node.devices.empty()) continue;
    const devices::Device& one = node.devices.front();
    groups.push_back({.kind = one.kind,
                      .device_class = node.device_class,
                      .num_devices = static_cast<int>(node.devices.size()),
                      .num_shares = one.num_shares,
                      .memory_bytes = one.memory_bytes});
  }
  return groups;
}

Result<void> check_devices(const Batch& batch, const std::vector<DeviceGroup>& groups) {
  int most = 0;
  for (const DeviceGroup& group : groups) most = std::max(most, group.num_devices);
  Faults faults(batch.path);
  for (const Job& job : batch.jobs) {
    bool counts_exist = true;
    for (std::size_t i = 0; i < job.devices.size(); ++i) {
      if (job.devices[i] <= most) continue;
      counts_exist = false;
      faults.add(job.position_of("devices[" + std::to_string(i) + "]"),
                 "job " + in_quotes(job.name) + " asks for " + counted_devices(job.devices[i]) +
                     ", and there are not so many",
                 "counts up to " + std::to_string(most) + ", the devices of the largest node",
                 job.devices.size() > 1
                     ? "remove " + std::to_string(job.devices[i]) + " from devices"
                     : "`saturn devices` lists them; [devices] cpu_slots makes more of the cores");
    }
    // What a library can do is known once it was asked (worker/catalogue.h).
    const bool unasked =
        std::any_of(job.libraries.begin(), job.libraries.end(),
                    [](const TechniqueLibrary& library) { return find_technique(library.name) == nullptr; });
    const bool runs = unasked || std::any_of(groups.begin(), groups.end(), [&](const DeviceGroup& group) {
                        return !configurations_of(job, group).empty();
                      });
    if (counts_exist && !runs) {
      const std::string why = reasons(job, groups);
      faults.add(job.position_of("techniques"), "job " + in_quotes(job.name) + " cannot run on these devices",
                 "a technique and a device count that go together" + (why.empty() ? "" : "; " + why),
                 "add to techniques or devices, or remove them to allow all");
    }
  }
  if (faults.empty()) return {};
  return faults.take();
}

}  // namespace saturn::batch

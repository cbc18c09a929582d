// What the files of this folder share. Each ends in its TechniqueSpec; its line is in
// techniques/registry.def, which the training library reads too.

#pragma once

#include <string>
#include <vector>

#include "saturn/batch/memory_model.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/batch/time_model.h"

namespace saturn::batch::techniques {

inline bool has_gpus(const DeviceGroup& devices) {
  return devices.kind == "gpu";
}

/// Whole GPUs, or the shares of one: two ranks of a job never share a GPU. CPU slots are whole.
inline int num_whole_devices(const DeviceGroup& devices) {
  return has_gpus(devices) ? (devices.num_devices + devices.num_shares - 1) / devices.num_shares
                           : devices.num_devices;
}

/// Why several ranks cannot be dealt these devices one each; nothing where they can.
std::optional<std::string> several_ranks_refusal(const DeviceGroup& devices);

/// A knob at its default is left out of `knobs`: a trial keeps its id when a technique learns a new one.
Configuration configuration(const char* technique, const DeviceGroup& devices, int num_ranks,
                            Json knobs = Json::object());

/// Each of `plain`, then each with selective, then each with full checkpointing.
std::vector<Configuration> with_checkpointing(std::vector<Configuration> plain);

/// The policy of a configuration that `candidates` made.
Checkpointing checkpointing_in(const Configuration& configuration);

}  // namespace saturn::batch::techniques

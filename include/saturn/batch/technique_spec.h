// What the controller knows of a technique without LibTorch: where it applies, with which knobs, and how much
// memory it should need. The training library adds only how to run it, joined by name.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "saturn/batch/batch.h"

namespace saturn::batch {

/// Equal devices of one node that a job may be given.
struct DeviceGroup {
  std::string kind = "cpu";  ///< "cpu" | "gpu"
  std::string device_class = "cpu";
  int num_devices = 1;
  int num_shares = 1;             ///< devices that make one GPU; 1 where a device is a whole one
  std::int64_t memory_bytes = 0;  ///< of one device; 0 = no limit stated
};

Json to_json(const DeviceGroup& devices);
/// Exact inverse; throws nlohmann's exceptions, so only for what this program wrote.
DeviceGroup device_group_from_json(const Json& json);

/// One way to run one job, as trials, plans and `assign` name it.
struct Configuration {
  std::string technique;
  int num_devices = 1;
  int num_ranks = 1;
  std::string device_class = "cpu";
  Json knobs = Json::object();

  bool operator==(const Configuration&) const = default;
};

/// "ddp x2", with the knobs behind it where there are any: "pipeline x4 (micro_batches 8)".
std::string to_text(const Configuration& configuration);
Json to_json(const Configuration& configuration);
Configuration configuration_from_json(JsonReader reader);

/// A technique of this build: a file in src/batch/techniques that ends in its entry, its other half in
/// src/techniques, and one line for both in src/techniques/registry.def. Or one of a library
/// (train/technique_library.h), whose answers come from the child that asked it.
struct TechniqueSpec {
  std::string name;
  std::string summary;        ///< one line for `saturn techniques`
  std::string applies_to;     ///< one line: on which devices and jobs
  bool splits_batch = false;  ///< every rank takes its part of the rows of a batch
  /// Why the job cannot run this way on these devices; nothing where it can.
  std::function<std::optional<std::string>(const Job& job, const DeviceGroup& devices)> refusal;
  /// Configurations that a search may try: a bounded grid of knobs (about 8), best guess first. A knob at its
  /// default is left out. Call only where there is no refusal.
  std::function<std::vector<Configuration>(const Job& job, const DeviceGroup& devices)> candidates;
  /// Bytes that the rank which needs most will need, without the libraries' own.
  std::function<std::int64_t(const Job& job, const DataSource& data, const Configuration& configuration)>
      predicted_memory_bytes;
  /// Seconds of a step, for an order among configurations of one job: only ratios mean something.
  std::function<double(const Job& job, const DataSource& data, const Configuration& configuration)>
      predicted_step_time_s;
};

/// Of this build, in printing order.
const std::vector<TechniqueSpec>& technique_specs();

/// Makes the technique of a library known, in place of one of its name that was known before.
void add_technique(TechniqueSpec spec);

/// Of this build or of a library; null where there is none of that name.
const TechniqueSpec* find_technique(const std::string& name);

/// What `job` may be run under: those of this build, then those of its libraries that are known, but for
/// those that its `techniques` leave out.
std::vector<const TechniqueSpec*> techniques_of(const Job& job);

/// Every configuration of `job` on each width up to `devices.num_devices`, as its `techniques` and `devices`
/// allow; by technique, then by width.
std::vector<Configuration> configurations_of(const Job& job, const DeviceGroup& devices);

}  // namespace saturn::batch

// The list of techniques as the controller sees them, each from its file in batch/techniques.

#include "saturn/batch/technique_spec.h"

#include <algorithm>
#include <deque>

namespace saturn::batch::techniques {
#define SATURN_TECHNIQUE(name) TechniqueSpec name();
#include "techniques/registry.def"
#undef SATURN_TECHNIQUE
}  // namespace saturn::batch::techniques

namespace saturn::batch {
namespace {

bool allows(const std::vector<std::string>& names, const std::string& name) {
  return names.empty() || std::find(names.begin(), names.end(), name) != names.end();
}

/// Of libraries; those that were found keep their place.
std::deque<TechniqueSpec>& specs_of_libraries() {
  static std::deque<TechniqueSpec> specs;
  return specs;
}

}  // namespace

const std::vector<TechniqueSpec>& technique_specs() {
  static const std::vector<TechniqueSpec> specs = {
#define SATURN_TECHNIQUE(name) techniques::name(),
#include "techniques/registry.def"
#undef SATURN_TECHNIQUE
  };
  return specs;
}

void add_technique(TechniqueSpec spec) {
  for (TechniqueSpec& known : specs_of_libraries()) {
    if (known.name != spec.name) continue;
    known = std::move(spec);
    return;
  }
  specs_of_libraries().push_back(std::move(spec));
}

const TechniqueSpec* find_technique(const std::string& name) {
  for (const TechniqueSpec& spec : technique_specs()) {
    if (spec.name == name) return &spec;
  }
  for (const TechniqueSpec& spec : specs_of_libraries()) {
    if (spec.name == name) return &spec;
  }
  return nullptr;
}

std::vector<const TechniqueSpec*> techniques_of(const Job& job) {
  std::vector<const TechniqueSpec*> all;
  for (const TechniqueSpec& spec : technique_specs()) {
    if (allows(job.techniques, spec.name)) all.push_back(&spec);
  }
  for (const TechniqueLibrary& library : job.libraries) {
    const TechniqueSpec* spec = find_technique(library.name);
    if (spec != nullptr && allows(job.techniques, library.name)) all.push_back(spec);
  }
  return all;
}

std::vector<Configuration> configurations_of(const Job& job, const DeviceGroup& devices) {
  std::vector<int> widths = job.devices;
  if (widths.empty()) {
    for (int count = 1; count <= devices.num_devices; ++count) widths.push_back(count);
  }
  std::sort(widths.begin(), widths.end());
  std::vector<Configuration> all;
  for (const TechniqueSpec* spec : techniques_of(job)) {
    for (const int width : widths) {
      if (width > devices.num_devices) continue;
      DeviceGroup part = devices;
      part.num_devices = width;
      if (spec->refusal(job, part)) continue;
      for (Configuration& one : spec->candidates(job, part)) all.push_back(std::move(one));
    }
  }
  return all;
}

std::string to_text(const Configuration& configuration) {
  std::string text = configuration.technique + " x" + std::to_string(configuration.num_devices);
  std::string knobs;
  for (const auto& [key, value] : configuration.knobs.items()) {
    knobs += (knobs.empty() ? "" : ", ") + key + " " +
             (value.is_string() ? value.get<std::string>() : to_line(value));
  }
  return knobs.empty() ? text : text + " (" + knobs + ")";
}

Json to_json(const DeviceGroup& devices) {
  return {{"kind", devices.kind},
          {"device_class", devices.device_class},
          {"num_devices", devices.num_devices},
          {"num_shares", devices.num_shares},
          {"memory_bytes", devices.memory_bytes}};
}

DeviceGroup device_group_from_json(const Json& json) {
  return {.kind = json.at("kind").get<std::string>(),
          .device_class = json.at("device_class").get<std::string>(),
          .num_devices = json.at("num_devices").get<int>(),
          .num_shares = json.at("num_shares").get<int>(),
          .memory_bytes = json.at("memory_bytes").get<std::int64_t>()};
}

Json to_json(const Configuration& configuration) {
  return {{"technique", configuration.technique},
          {"num_devices", configuration.num_devices},
          {"num_ranks", configuration.num_ranks},
          {"device_class", configuration.device_class},
          {"knobs", configuration.knobs}};
}

Configuration configuration_from_json(JsonReader reader) {
  Configuration configuration;
  configuration.technique = reader.string("technique");
  configuration.num_devices = static_cast<int>(reader.integer("num_devices"));
  configuration.num_ranks = static_cast<int>(reader.integer("num_ranks"));
  configuration.device_class = reader.string("device_class");
  configuration.knobs = reader.object("knobs");
  reader.finish();
  return configuration;
}

}  // namespace saturn::batch

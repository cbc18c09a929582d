// The list of techniques as the controller sees them, each from its file in batch/techniques.

#include "saturn/batch/technique_spec.h"

#include <algorithm>

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

}  // namespace

const std::vector<TechniqueSpec>& technique_specs() {
  static const std::vector<TechniqueSpec> specs = {
#define SATURN_TECHNIQUE(name) techniques::name(),
#include "techniques/registry.def"
#undef SATURN_TECHNIQUE
  };
  return specs;
}

const TechniqueSpec* find_technique(const std::string& name) {
  for (const TechniqueSpec& spec : technique_specs()) {
    if (spec.name == name) return &spec;
  }
  return nullptr;
}

std::vector<Configuration> configurations_of(const Job& job, const DeviceGroup& devices) {
  std::vector<int> widths = job.devices;
  if (widths.empty()) {
    for (int count = 1; count <= devices.num_devices; ++count) widths.push_back(count);
  }
  std::sort(widths.begin(), widths.end());
  std::vector<Configuration> all;
  for (const TechniqueSpec& spec : technique_specs()) {
    if (!allows(job.techniques, spec.name)) continue;
    for (const int width : widths) {
      if (width > devices.num_devices) continue;
      DeviceGroup part = devices;
      part.num_devices = width;
      if (spec.refusal(job, part)) continue;
      for (Configuration& one : spec.candidates(job, part)) all.push_back(std::move(one));
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

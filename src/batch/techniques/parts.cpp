// What techniques share when they list their configurations.

#include "batch/techniques/parts.h"

namespace saturn::batch::techniques {

std::optional<std::string> several_ranks_refusal(const DeviceGroup& devices) {
  if (devices.num_devices < 2) return "needs at least 2 devices";
  if (has_gpus(devices) && devices.num_devices % devices.num_shares != 0) return "needs whole GPUs";
  if (num_whole_devices(devices) < 2) return "needs at least 2 GPUs, and these are shares of one";
  return std::nullopt;
}

Configuration configuration(const char* technique, const DeviceGroup& devices, int num_ranks, Json knobs) {
  return {.technique = technique,
          .num_devices = devices.num_devices,
          .num_ranks = num_ranks,
          .device_class = devices.device_class,
          .knobs = std::move(knobs)};
}

std::vector<Configuration> with_checkpointing(std::vector<Configuration> plain) {
  const std::size_t num_plain = plain.size();
  for (const Checkpointing policy : {Checkpointing::selective, Checkpointing::full}) {
    for (std::size_t i = 0; i < num_plain; ++i) {
      Configuration one = plain[i];
      one.knobs["checkpointing"] = name_of(policy);
      plain.push_back(std::move(one));
    }
  }
  return plain;
}

Checkpointing checkpointing_in(const Configuration& configuration) {
  return checkpointing_of(configuration.knobs).value_or(Checkpointing::none);
}

}  // namespace saturn::batch::techniques

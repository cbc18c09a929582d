// Deals devices to ranks.

#include "saturn/profile/ranks.h"

namespace saturn::profile {

std::vector<worker::Assign> deal(const batch::Job& job, const batch::DataSource& data,
                                 const batch::Configuration& configuration, const std::string& node,
                                 const std::vector<devices::Device>& devices) {
  SATURN_CHECK(configuration.num_ranks > 0 && configuration.num_devices % configuration.num_ranks == 0,
               "every rank owns the same number of devices");
  SATURN_CHECK(static_cast<int>(devices.size()) == configuration.num_devices,
               "a configuration is given as many devices as it asks for");
  const std::size_t share = devices.size() / static_cast<std::size_t>(configuration.num_ranks);
  std::vector<worker::Assign> ranks;
  for (std::size_t rank = 0; rank * share < devices.size(); ++rank) {
    worker::Assign assign{.job = batch::to_json(job),
                          .data = batch::to_json(data),
                          .configuration = batch::to_json(configuration),
                          .rank = static_cast<int>(rank),
                          .num_ranks = configuration.num_ranks,
                          .node = node,
                          .threads = 0,
                          .seed = job.seed};
    bool limited = true;
    for (std::size_t i = rank * share; i < (rank + 1) * share; ++i) {
      const devices::Device& device = devices[i];
      assign.devices.push_back(device);
      assign.cores.insert(assign.cores.end(), device.cores.begin(), device.cores.end());
      assign.threads += device.threads;
      assign.memory_limit_bytes += device.memory_bytes;
      limited &= device.memory_bytes > 0;
    }
    if (!limited) assign.memory_limit_bytes = 0;
    ranks.push_back(std::move(assign));
  }
  return ranks;
}

}  // namespace saturn::profile

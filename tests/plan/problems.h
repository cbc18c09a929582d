// Small problems for the planner's tests.

#pragma once

#include <string>
#include <vector>

#include "saturn/base/random.h"
#include "saturn/plan/problem.h"

namespace saturn::plan::testing {

struct Size {
  int devices;
  double time_s;
};

inline Configuration configuration(int devices, double time_s, const std::string& device_class = "gpu") {
  Configuration one;
  one.technique = devices == 1 ? "single" : "ddp";
  one.num_devices = devices;
  one.num_ranks = devices;
  one.device_class = device_class;
  one.time_s = time_s;
  return one;
}

inline Job job(const std::string& name, const std::vector<Size>& sizes) {
  Job one;
  one.name = name;
  for (const Size& size : sizes) one.configurations.push_back(configuration(size.devices, size.time_s));
  return one;
}

inline Node node(const std::string& name, int devices, const std::string& device_class = "gpu") {
  Node one;
  one.name = name;
  one.device_class = device_class;
  one.num_devices = devices;
  return one;
}

/// Up to 4 jobs on up to 4 devices of one or two nodes, whole-number times below 12.
inline PlanProblem random_tiny(std::uint64_t seed) {
  Random random(seed);
  PlanProblem problem;
  problem.name = "tiny";
  const int num_nodes = 1 + static_cast<int>(random.below(2));
  int most = 0;
  for (int n = 0; n < num_nodes; ++n) {
    const int devices = 1 + static_cast<int>(random.below(num_nodes == 1 ? 4 : 2));
    const bool other = n > 0 && random.below(3) == 0;
    problem.nodes.push_back(node("n" + std::to_string(n), devices, other ? "slow" : "gpu"));
    if (!other) most = std::max(most, devices);
  }
  const int num_jobs = 1 + static_cast<int>(random.below(4));
  for (int j = 0; j < num_jobs; ++j) {
    Job one;
    one.name = "j" + std::to_string(j);
    const int count = 1 + static_cast<int>(random.below(4));
    for (int c = 0; c < count; ++c) {
      const int devices = 1 + static_cast<int>(random.below(static_cast<std::uint64_t>(most)));
      one.configurations.push_back(configuration(devices, static_cast<double>(random.below(12))));
      if (random.below(4) == 0) {
        one.configurations.push_back(configuration(1, static_cast<double>(random.below(20)), "slow"));
      }
    }
    problem.jobs.push_back(std::move(one));
  }
  return problem;
}

}  // namespace saturn::plan::testing

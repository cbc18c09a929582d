// Schedules that the tests of view draw.

#pragma once

#include <algorithm>
#include <string>

#include "saturn/base/random.h"
#include "saturn/view/schedule.h"

namespace saturn::testing {

/// Four jobs on two devices, one of them on both.
inline view::Schedule small_schedule() {
  view::Schedule schedule;
  schedule.title = "kjv-sweep: 4 jobs on 2 devices";
  schedule.lanes = {{"local", 0}, {"local", 1}};
  schedule.jobs = {"gpt2-1e-3-b8", "gpt2-1e-3-b16", "gpt2-3e-4-b8", "gpt2-3e-4-b16"};
  schedule.bars = {
      {.job = 0,
       .technique = "single",
       .num_ranks = 1,
       .lanes = {0},
       .start_s = 0,
       .duration_s = 31.4,
       .from_step = 0,
       .to_step = 400},
      {.job = 1,
       .technique = "single",
       .num_ranks = 1,
       .lanes = {1},
       .start_s = 0,
       .duration_s = 24,
       .from_step = 0,
       .to_step = 200},
      {.job = 2,
       .technique = "single",
       .num_ranks = 1,
       .lanes = {1},
       .start_s = 24,
       .duration_s = 7.4,
       .from_step = 0,
       .to_step = 100},
      {.job = 3,
       .technique = "ddp",
       .num_ranks = 2,
       .lanes = {0, 1},
       .start_s = 31.4,
       .duration_s = 40,
       .from_step = 0,
       .to_step = 400},
  };
  schedule.certificate = view::Certificate{.makespan_s = 71.4,
                                           .lower_bound_s = 70.0,
                                           .gap = 0.02,
                                           .status = "feasible",
                                           .baselines = {{"minimal", 92.8}, {"current-practice", 80.1}}};
  return schedule;
}

struct Shape {
  int num_nodes = 1;
  int devices_per_node = 4;
  int num_jobs = 6;
};

/// A valid list schedule of jobs with random widths and durations that span four orders of magnitude.
inline view::Schedule random_schedule(Random& random, Shape shape) {
  view::Schedule schedule;
  for (int n = 0; n < shape.num_nodes; ++n) {
    for (int d = 0; d < shape.devices_per_node; ++d)
      schedule.lanes.push_back({"node" + std::to_string(n), d});
  }
  std::vector<double> free_s(schedule.lanes.size(), 0.0);
  for (int j = 0; j < shape.num_jobs; ++j) {
    schedule.jobs.push_back("job-" + std::string(random.below(30), 'x') + std::to_string(j));
    const std::size_t node = random.below(static_cast<std::uint64_t>(shape.num_nodes));
    const std::size_t width = 1 + random.below(static_cast<std::uint64_t>(shape.devices_per_node));
    view::Bar bar{
        .job = static_cast<std::size_t>(j), .technique = "ddp", .num_ranks = static_cast<int>(width)};
    const std::size_t first = node * static_cast<std::size_t>(shape.devices_per_node);
    const std::size_t offset = random.below(static_cast<std::uint64_t>(shape.devices_per_node) - width + 1);
    for (std::size_t k = 0; k < width; ++k) {
      bar.lanes.push_back(first + offset + k);
      bar.start_s = std::max(bar.start_s, free_s[bar.lanes.back()]);
    }
    double scale = 1.0;
    for (std::uint64_t k = random.below(5); k > 0; --k) scale *= 10;
    bar.duration_s = scale * (0.1 + random.uniform());
    for (const std::size_t lane : bar.lanes) free_s[lane] = bar.start_s + bar.duration_s;
    schedule.bars.push_back(bar);
  }
  return schedule;
}

}  // namespace saturn::testing

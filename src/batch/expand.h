// One [[job]] to its points: grid, zip and random draws, each with a name from the template.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "batch/faults.h"
#include "batch/toml_document.h"

namespace saturn::batch {

/// The most jobs of one batch, after expansion.
inline constexpr std::size_t kMostJobs = 10000;

struct Proposal;

/// A [[job]] table with the values of one point in place of its axes.
struct JobPoint {
  TomlValue table;       ///< without grid, zip and random
  std::string name;      ///< expanded; empty where the template was faulty (and told so)
  bool complete = true;  ///< false: its axes were faulty, and what they would set is not here
};

/// The points of one job, at most `most` of them; empty where its axes are faulty. The first axis of the grid
/// turns slowest, then the zip, then the draws.
std::vector<JobPoint> expand_job(const TomlValue& job, std::uint64_t batch_seed, std::size_t most,
                                 Faults& faults);

/// The points that a program has proposed for the one [[job]] of its batch; without any a point that lacks
/// what they would set. A hyper-parameter that does not exist is a fault at the job, as are axes of its own.
std::vector<JobPoint> expand_proposals(const TomlValue& job, const std::vector<Proposal>& proposals,
                                       Faults& faults);

/// Whether a name can stand in a path: the fault's expectation, or empty.
std::string name_problem(const std::string& name);

}  // namespace saturn::batch

// What a plan is made from: nodes with their devices, jobs with their measured configurations, an objective.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"

namespace saturn::plan {

/// Devices that cannot be used from `from_s` to `to_s`; all of the node where `devices` is empty.
struct Outage {
  std::vector<int> devices;
  double from_s = 0.0;
  double to_s = 0.0;  ///< may be infinite: gone for good
};

/// Devices of one class that a job can use together; they are interchangeable.
struct Node {
  std::string name;
  std::string device_class;
  int num_devices = 0;  ///< slots: where a GPU is shared by k, k times the number of GPUs
  /// Slots per GPU: slots i with equal i / shares_per_gpu lie on one GPU. Ranks of one job never share a GPU.
  int shares_per_gpu = 1;
  std::optional<std::int64_t> host_memory_bytes;  ///< unlimited where absent
  std::optional<std::int64_t> disk_bytes;         ///< unlimited where absent
  double price_per_device_hour = 0.0;
  std::vector<Outage> outages;
};

/// One way to run a job, as measured.
struct Configuration {
  std::string technique;
  int num_devices = 1;
  int num_ranks = 1;  ///< every rank owns num_devices / num_ranks slots of one GPU
  std::string device_class;
  double time_s = 0.0;        ///< for all steps from Job::first_step to Job::last_step
  double start_cost_s = 0.0;  ///< added once per start: launch, load, and for a move also the save
  std::int64_t host_memory_bytes = 0;
  std::int64_t disk_bytes = 0;
  std::string trial;            ///< id of the trial in profile.json; empty for a bare table
  Json knobs = Json::object();  ///< what the technique was tuned to
};

/// A job that holds devices at the origin of the plan.
struct Running {
  std::string node;
  std::vector<int> devices;
  int configuration = 0;     ///< position in Job::configurations
  double remaining_s = 0.0;  ///< until its end, if it goes on as it is
  /// False: it must go on. True: it goes on from 0 s on the same devices, or is moved, which costs the
  /// `start_cost_s` and the `time_s` of the configuration it is moved to.
  bool may_move = false;
};

struct Job {
  std::string name;
  std::vector<Configuration> configurations;
  double release_s = 0.0;          ///< not started before
  std::vector<std::string> after;  ///< names of jobs that must have ended
  double priority = 1.0;           ///< weight in `mean_completion`; breaks ties elsewhere: higher goes first
  std::optional<double> deadline_s;
  std::optional<Running> running;
  std::int64_t first_step = 0;
  std::int64_t last_step = 1;
};

enum class Objective {
  makespan,
  mean_completion,      ///< weighted by priority
  cost,                 ///< price of the device-hours that jobs hold
  makespan_under_cost,  ///< makespan, among plans that cost at most `cost_limit`
};

struct PlanProblem {
  std::string name;  ///< file or batch it came from; starts the `where` of its faults
  std::vector<Node> nodes;
  std::vector<Job> jobs;
  Objective objective = Objective::makespan;
  std::optional<double> cost_limit;
  double origin_s = 0.0;  ///< the run's time at which start_s is 0; all times here count from it
};

/// "makespan", "mean_completion", "cost", "makespan_under_cost", and back (nearest name in the fault).
const char* name_of(Objective objective);
Result<Objective> objective_from(const std::string& name);

/// Seconds that `configuration` holds its devices when it runs the whole job from a standing start.
inline double duration_s(const Configuration& configuration) {
  return configuration.start_cost_s + configuration.time_s;
}

/// Every fault that makes the problem meaningless (duplicate names, zero devices, negative or infinite times,
/// cyclic `after`: Kind::input) or unsolvable (a job that fits nowhere: Kind::infeasible), at its pointer.
Diagnostics validate(const PlanProblem& problem);

/// Reads a bare table of measured configurations:
/// {"nodes": [{"name", "devices", "class"}], "jobs": [{"name", "configs": [{"technique", "devices", "class",
/// "seconds"}]}]}. Faults carry their JSON pointer.
Result<PlanProblem> read_table(const std::string& path);
Result<PlanProblem> table_from_json(const Json& document, const std::string& path);

}  // namespace saturn::plan

// Reads a bare table of measured configurations.

#include <algorithm>
#include <limits>

#include "plan/validate.h"
#include "saturn/base/files.h"
#include "saturn/plan/problem.h"

namespace saturn::plan {
namespace {

constexpr std::uint64_t kLargestTable = std::uint64_t{64} << 20;
// A bare table says nothing of steps: its jobs are split, if at all, in thousandths.
constexpr std::int64_t kTableSteps = 1000;
constexpr std::size_t kMostFaults = 50;  // a table wrong in one way is wrong in thousands of lines

int narrowed(std::int64_t value) {
  return static_cast<int>(
      std::clamp<std::int64_t>(value, std::numeric_limits<int>::min(), std::numeric_limits<int>::max()));
}

std::optional<std::int64_t> optional_bytes(JsonReader& reader, const char* key) {
  if (!reader.has(key)) return std::nullopt;
  const std::int64_t bytes = reader.integer(key);
  if (bytes < 0) reader.fault(key, std::to_string(bytes) + " bytes", "at least 0");
  return bytes;
}

std::vector<int> device_list(JsonReader& reader, const char* key) {
  std::vector<int> devices;
  for (const Json& device : reader.array_or_empty(key)) {
    if (!device.is_number_integer()) {
      reader.fault(key, "a device is not an integer", "integers from 0");
      break;
    }
    devices.push_back(narrowed(device.get<std::int64_t>()));
  }
  return devices;
}

Node read_node(JsonReader reader) {
  Node node;
  node.name = reader.string("name");
  node.num_devices = narrowed(reader.integer("devices"));
  node.device_class = reader.string("class");
  node.shares_per_gpu = narrowed(reader.integer_or("shares_per_gpu", 1));
  node.host_memory_bytes = optional_bytes(reader, "host_memory_bytes");
  node.disk_bytes = optional_bytes(reader, "disk_bytes");
  node.price_per_device_hour = reader.number_or("price_per_device_hour", 0.0);
  const std::size_t num_outages = reader.array_or_empty("outages").size();
  for (std::size_t o = 0; o < num_outages; ++o) {
    JsonReader entry = reader.child("outages", o);
    Outage outage;
    outage.devices = device_list(entry, "devices");
    outage.from_s = entry.number_or("from_s", 0.0);
    outage.to_s = entry.number_or("to_s", std::numeric_limits<double>::infinity());
    entry.finish();
    node.outages.push_back(std::move(outage));
  }
  reader.finish();
  return node;
}

Configuration read_configuration(JsonReader reader) {
  Configuration configuration;
  configuration.technique = reader.string("technique");
  configuration.num_devices = narrowed(reader.integer("devices"));
  configuration.num_ranks = narrowed(reader.integer_or("ranks", configuration.num_devices));
  configuration.device_class = reader.string("class");
  configuration.time_s = reader.number("seconds");
  configuration.start_cost_s = reader.number_or("start_cost_s", 0.0);
  configuration.host_memory_bytes = reader.integer_or("host_memory_bytes", 0);
  configuration.disk_bytes = reader.integer_or("disk_bytes", 0);
  reader.finish();
  return configuration;
}

Job read_job(JsonReader reader, const Diagnostics& faults) {
  Job job;
  job.name = reader.string("name");
  job.release_s = reader.number_or("release_s", 0.0);
  job.priority = reader.number_or("priority", 1.0);
  if (reader.has("deadline_s")) job.deadline_s = reader.number("deadline_s");
  job.last_step = reader.integer_or("steps", kTableSteps);
  for (const Json& before : reader.array_or_empty("after")) {
    if (before.is_string()) {
      job.after.push_back(before.get<std::string>());
    } else {
      reader.fault("after", "a name is not a string", "names of jobs");
    }
  }
  const std::size_t num_configurations = reader.array("configs").size();
  for (std::size_t c = 0; c < num_configurations && faults.size() < kMostFaults; ++c) {
    job.configurations.push_back(read_configuration(reader.child("configs", c)));
  }
  if (reader.has("running")) {
    JsonReader entry = reader.child("running");
    Running running;
    running.node = entry.string("node");
    running.devices = device_list(entry, "devices");
    running.configuration = narrowed(entry.integer("configuration"));
    running.remaining_s = entry.number("remaining_s");
    running.may_move = entry.boolean_or("may_move", false);
    entry.finish();
    job.running = std::move(running);
  }
  reader.finish();
  return job;
}

}  // namespace

Result<PlanProblem> table_from_json(const Json& document, const std::string& path) {
  Diagnostics faults;
  JsonReader reader(document, path, "", faults);
  PlanProblem problem;
  problem.name = path;
  const std::size_t num_nodes = reader.array("nodes").size();
  for (std::size_t n = 0; n < num_nodes && faults.size() < kMostFaults; ++n) {
    problem.nodes.push_back(read_node(reader.child("nodes", n)));
  }
  const std::size_t num_jobs = reader.array("jobs").size();
  for (std::size_t j = 0; j < num_jobs && faults.size() < kMostFaults; ++j) {
    problem.jobs.push_back(read_job(reader.child("jobs", j), faults));
  }
  if (reader.has("objective")) {
    const auto objective = objective_from(reader.string("objective"));
    if (objective.ok()) {
      problem.objective = *objective;
    } else {
      const Diagnostic& fault = objective.faults().front();
      reader.fault("objective", fault.what, fault.expected, fault.fix);
    }
  }
  if (reader.has("cost_limit")) problem.cost_limit = reader.number("cost_limit");
  reader.finish();
  if (!faults.empty()) return faults;
  static constexpr Words kWords{.node_devices = "devices",
                                .configurations = "configs",
                                .devices = "devices",
                                .ranks = "ranks",
                                .time = "seconds"};
  faults = validate(problem, kWords);
  if (faults.size() > kMostFaults) faults.resize(kMostFaults);
  if (!faults.empty()) return faults;
  return problem;
}

Result<PlanProblem> read_table(const std::string& path) {
  SATURN_TRY(const std::string text, read_whole(path, kLargestTable));
  SATURN_TRY(const Json document, parse_json(text, path));
  return table_from_json(document, path);
}

}  // namespace saturn::plan

// plan.json: writing it, reading its structure, and finding the configuration an assignment runs.

#include "saturn/plan/plan.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace saturn::plan {
namespace {

constexpr const char* kStatuses[] = {"optimal", "within_gap", "time_limit", "interrupted", "heuristic"};

Json device_json(const Assignment& assignment, const Device& device) {
  const bool spans = std::any_of(assignment.devices.begin(), assignment.devices.end(),
                                 [&](const Device& one) { return one.node != assignment.node; });
  if (!spans) return device.index;
  return device.node + ":" + std::to_string(device.index);
}

Json assignment_json(const Assignment& assignment) {
  Json devices = Json::array();
  for (const Device& device : assignment.devices) devices.push_back(device_json(assignment, device));
  return {{"job", assignment.job},
          {"segment", assignment.segment},
          {"technique", assignment.technique},
          {"node", assignment.node},
          {"devices", std::move(devices)},
          {"num_ranks", assignment.num_ranks},
          {"start_s", assignment.start_s},
          {"duration_s", assignment.duration_s},
          {"from_step", assignment.from_step},
          {"to_step", assignment.to_step},
          {"trial", assignment.trial},
          {"knobs", assignment.knobs}};
}

// A device is an index within the assignment's node, or "node:index".
void read_devices(JsonReader& reader, Assignment& assignment) {
  for (const Json& entry : reader.array("devices")) {
    if (entry.is_number_integer()) {
      const auto index = entry.get<std::int64_t>();
      if (index >= 0 && index <= std::numeric_limits<int>::max()) {
        assignment.devices.push_back({assignment.node, static_cast<int>(index)});
        continue;
      }
    } else if (entry.is_string()) {
      const auto& text = entry.get_ref<const std::string&>();
      const std::size_t colon = text.rfind(':');
      const std::string digits = colon == std::string::npos ? "" : text.substr(colon + 1);
      const bool number =
          !digits.empty() && digits.size() <= 6 &&
          std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
      if (number && colon > 0) {
        assignment.devices.push_back({text.substr(0, colon), std::stoi(digits)});
        continue;
      }
    }
    reader.fault("devices", "job " + in_quotes(assignment.job) + ": " + to_line(entry) + " is no device",
                 "an index within the node from 0, or \"node:index\"");
    return;
  }
}

Assignment read_assignment(JsonReader reader) {
  Assignment assignment;
  assignment.job = reader.string("job");
  assignment.segment =
      static_cast<int>(std::clamp<std::int64_t>(reader.integer_or("segment", 0), -1, 1 << 20));
  assignment.technique = reader.string("technique");
  assignment.node = reader.string("node");
  read_devices(reader, assignment);
  assignment.num_ranks = static_cast<int>(std::clamp<std::int64_t>(
      reader.integer_or("num_ranks", static_cast<std::int64_t>(assignment.devices.size())), -1, 1 << 20));
  assignment.start_s = reader.number("start_s");
  assignment.duration_s = reader.number("duration_s");
  assignment.from_step = reader.integer_or("from_step", 0);
  assignment.to_step = reader.integer_or("to_step", 1);
  assignment.trial = reader.string_or("trial", "");
  if (reader.has("knobs")) assignment.knobs = reader.object("knobs");
  reader.finish();
  return assignment;
}

SolverInfo read_solver(JsonReader reader) {
  SolverInfo solver;
  solver.policy = reader.string_or("policy", "");
  solver.found_by = reader.string_or("found_by", "");
  solver.bound_by = reader.string_or("bound_by", "");
  solver.wall_s = reader.number_or("wall_s", 0.0);
  solver.time_limit_s = reader.number_or("time_limit_s", 0.0);
  solver.iterations = reader.integer_or("iterations", 0);
  solver.iteration_limit = reader.integer_or("iteration_limit", -1);
  solver.seed = static_cast<std::uint64_t>(reader.integer_or("seed", 0));
  reader.finish();
  return solver;
}

}  // namespace

const Assignment* Plan::find(const std::string& job) const {
  const auto at = std::find_if(assignments.begin(), assignments.end(),
                               [&](const Assignment& one) { return one.job == job; });
  return at == assignments.end() ? nullptr : &*at;
}

double Plan::gap() const {
  if (objective_value <= objective_bound) return 0.0;
  if (objective_bound <= 0.0) return std::numeric_limits<double>::max();
  return objective_value / objective_bound - 1.0;
}

const char* name_of(Status status) {
  return kStatuses[static_cast<int>(status)];
}

const Configuration* configuration_of(const Job& job, const PlanProblem& problem,
                                      const Assignment& assignment) {
  const auto node = std::find_if(problem.nodes.begin(), problem.nodes.end(),
                                 [&](const Node& one) { return one.name == assignment.node; });
  if (node == problem.nodes.end()) return nullptr;
  const Configuration* nearest = nullptr;
  double distance = std::numeric_limits<double>::infinity();
  for (const Configuration& configuration : job.configurations) {
    if (configuration.technique != assignment.technique || configuration.device_class != node->device_class ||
        configuration.num_devices != static_cast<int>(assignment.devices.size()) ||
        configuration.num_ranks != assignment.num_ranks || configuration.trial != assignment.trial ||
        configuration.knobs != assignment.knobs) {
      continue;
    }
    // A table may list one configuration twice; the one that was planned is told by its time.
    const double off = std::abs(duration_s(configuration) - assignment.duration_s);
    if (nearest == nullptr || off < distance) {
      nearest = &configuration;
      distance = off;
    }
  }
  return nearest;
}

Json to_json(const Plan& plan, const std::vector<MadeFrom>& made_from) {
  Json document = artefact_header(kPlanFormat, made_from);
  document["makespan_s"] = plan.makespan_s;
  document["lower_bound_s"] = plan.lower_bound_s;
  document["gap"] = plan.gap();
  document["status"] = name_of(plan.status);
  document["objective"] = name_of(plan.objective);
  document["objective_value"] = plan.objective_value;
  document["objective_bound"] = plan.objective_bound;
  document["cost"] = plan.cost;
  const SolverInfo& solver = plan.solver;
  document["solver"] = {{"policy", solver.policy},
                        {"found_by", solver.found_by},
                        {"bound_by", solver.bound_by},
                        {"wall_s", solver.wall_s},
                        {"time_limit_s", solver.time_limit_s},
                        {"iterations", solver.iterations},
                        {"iteration_limit", solver.iteration_limit},
                        {"seed", solver.seed}};
  document["origin_s"] = plan.origin_s;
  Json& baselines = document["baselines"] = Json::object();
  for (const auto& [name, seconds] : plan.baselines) baselines[name] = seconds;
  Json& assignments = document["assignments"] = Json::array();
  for (const Assignment& assignment : plan.assignments) assignments.push_back(assignment_json(assignment));
  return document;
}

Result<Plan> plan_from_json(const Json& document, const std::string& path) {
  Diagnostics faults;
  JsonReader reader(document, path, "", faults);
  reader.any("format");
  reader.any("saturn");
  reader.any("made_from");
  Plan plan;
  plan.makespan_s = reader.number("makespan_s");
  plan.lower_bound_s = reader.number_or("lower_bound_s", 0.0);
  reader.number_or("gap", 0.0);
  const std::string status = reader.string_or("status", "heuristic");
  const auto known = std::find(std::begin(kStatuses), std::end(kStatuses), status);
  if (known == std::end(kStatuses)) {
    reader.fault("status", "status " + in_quotes(status) + " does not exist",
                 "one of optimal, within_gap, time_limit, interrupted, heuristic");
  } else {
    plan.status = static_cast<Status>(known - std::begin(kStatuses));
  }
  const auto objective = objective_from(reader.string_or("objective", "makespan"));
  if (objective.ok()) {
    plan.objective = *objective;
  } else {
    reader.fault("objective", objective.faults().front().what, objective.faults().front().expected);
  }
  plan.objective_value = reader.number_or("objective_value", plan.makespan_s);
  plan.objective_bound = reader.number_or("objective_bound", plan.lower_bound_s);
  plan.cost = reader.number_or("cost", 0.0);
  if (reader.has("solver")) plan.solver = read_solver(reader.child("solver"));
  plan.origin_s = reader.number_or("origin_s", 0.0);
  const Json& baselines = reader.object_or_empty("baselines");
  for (const auto& [name, seconds] : baselines.items()) {
    if (seconds.is_number()) {
      plan.baselines.emplace_back(name, seconds.get<double>());
    } else {
      reader.fault("baselines", "baseline " + in_quotes(name) + " is not a number", "seconds");
    }
  }
  const std::size_t num_assignments = reader.array("assignments").size();
  for (std::size_t a = 0; a < num_assignments && faults.size() < 50; ++a) {
    plan.assignments.push_back(read_assignment(reader.child("assignments", a)));
  }
  reader.finish();
  if (!faults.empty()) return faults;
  return plan;
}

Result<Plan> read_plan(const std::string& path) {
  SATURN_TRY(const Json document, read_artefact(path, kPlanFormat));
  return plan_from_json(document, path);
}

std::vector<MadeFrom> made_from(const Json& document) {
  std::vector<MadeFrom> files;
  const auto it = document.find("made_from");
  if (it == document.end() || !it->is_object()) return files;
  for (const auto& [name, digest] : it->items()) {
    if (digest.is_string()) files.push_back({name, digest.get<std::string>()});
  }
  return files;
}

}  // namespace saturn::plan

// A plan: for every job where, when and how it runs, and how far from the best possible that is at most.

#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"
#include "saturn/plan/problem.h"

namespace saturn::plan {

/// A device: position `index` within node `node`.
struct Device {
  std::string node;
  int index = 0;

  friend bool operator==(const Device&, const Device&) = default;
};

/// One stay of a job on devices. A job with several segments runs them in order, without overlap.
struct Assignment {
  std::string job;
  int segment = 0;
  std::string technique;
  std::string node;  ///< of the first device
  std::vector<Device> devices;
  int num_ranks = 1;
  double start_s = 0.0;     ///< seconds after Plan::origin_s
  double duration_s = 0.0;  ///< start cost included
  std::int64_t from_step = 0;
  std::int64_t to_step = 1;
  std::string trial;
  Json knobs = Json::object();

  double end_s() const { return start_s + duration_s; }
};

enum class Status { optimal, within_gap, time_limit, interrupted, heuristic };

/// What the solver did.
struct SolverInfo {
  std::string policy = "saturn";
  std::string found_by;  ///< stage that found the plan
  std::string bound_by;  ///< what proved the bound
  double wall_s = 0.0;
  double time_limit_s = 0.0;
  std::int64_t iterations = 0;        ///< evaluations of the local search
  std::int64_t iteration_limit = -1;  ///< -1: none, the time limit stopped it
  std::uint64_t seed = 0;
};

struct Plan {
  Objective objective = Objective::makespan;
  double origin_s = 0.0;
  double makespan_s = 0.0;       ///< end of the last assignment
  double lower_bound_s = 0.0;    ///< no plan has a smaller makespan
  double objective_value = 0.0;  ///< equals makespan_s where that is the objective
  double objective_bound = 0.0;
  double cost = 0.0;  ///< of the device-hours held
  Status status = Status::heuristic;
  SolverInfo solver;
  std::vector<std::pair<std::string, double>> baselines;  ///< makespan of other policies on the same data
  std::vector<Assignment> assignments;                    ///< by start, then by node and first device

  /// objective_value over objective_bound, minus 1; 0 for an empty plan.
  double gap() const;
  /// The first assignment of `job`; nullptr where there is none.
  const Assignment* find(const std::string& job) const;
};

/// "optimal", "within_gap", "time_limit", "interrupted", "heuristic".
const char* name_of(Status status);

/// The job's configuration that the assignment runs; nullptr where there is none.
const Configuration* configuration_of(const Job& job, const PlanProblem& problem,
                                      const Assignment& assignment);

inline constexpr const char* kPlanFormat = "saturn.plan/1";

/// plan.json as a document: header, certificate, baselines, assignments.
Json to_json(const Plan& plan, const std::vector<MadeFrom>& made_from);

/// Structure only (types, ranges, finite numbers, unknown keys), every fault at its pointer. Whether the plan
/// fits a problem is `check`'s to say.
Result<Plan> plan_from_json(const Json& document, const std::string& path);
Result<Plan> read_plan(const std::string& path);

/// The files the plan was made from, as its header says.
std::vector<MadeFrom> made_from(const Json& document);

}  // namespace saturn::plan

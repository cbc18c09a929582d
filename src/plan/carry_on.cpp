// The order of a plan on each of its devices, with the times of another problem.

#include "saturn/plan/carry_on.h"

#include <algorithm>
#include <map>
#include <utility>

#include "saturn/plan/check.h"
#include "saturn/plan/solve.h"

namespace saturn::plan {
namespace {

using FreeAt = std::map<std::pair<std::string, int>, double>;

// After everything that uses the devices in the order of the plan, as the run loop starts jobs.
void append(Assignment assignment, double not_before_s, FreeAt& free_at, Plan& plan) {
  assignment.start_s = not_before_s;
  for (const Device& device : assignment.devices)
    assignment.start_s = std::max(assignment.start_s, free_at[{device.node, device.index}]);
  for (const Device& device : assignment.devices) free_at[{device.node, device.index}] = assignment.end_s();
  plan.makespan_s = std::max(plan.makespan_s, assignment.end_s());
  plan.assignments.push_back(std::move(assignment));
}

Assignment running_on(const Job& job) {
  const Running& running = *job.running;
  const Configuration& configuration = job.configurations[running.configuration];
  Assignment assignment{.job = job.name,
                        .technique = configuration.technique,
                        .node = running.node,
                        .num_ranks = configuration.num_ranks,
                        .duration_s = running.remaining_s,
                        .from_step = job.first_step,
                        .to_step = job.last_step,
                        .trial = configuration.trial,
                        .knobs = configuration.knobs};
  for (const int device : running.devices) assignment.devices.push_back({running.node, device});
  return assignment;
}

double latest_end_s(const Plan& plan, const std::string& job) {
  double end_s = 0.0;
  for (const Assignment& assignment : plan.assignments) {
    if (assignment.job == job) end_s = std::max(end_s, assignment.end_s());
  }
  return end_s;
}

}  // namespace

bool goes_on(const Job& job, const Assignment& assignment) {
  if (!job.running || assignment.node != job.running->node || assignment.start_s > 1e-6) return false;
  const Configuration& configuration = job.configurations[job.running->configuration];
  if (assignment.technique != configuration.technique || assignment.num_ranks != configuration.num_ranks ||
      assignment.trial != configuration.trial || assignment.knobs != configuration.knobs) {
    return false;
  }
  std::vector<int> have;
  for (const Device& device : assignment.devices) have.push_back(device.index);
  std::vector<int> want = job.running->devices;
  std::sort(have.begin(), have.end());
  std::sort(want.begin(), want.end());
  return have == want;
}

std::vector<std::string> moved_jobs(const PlanProblem& problem, const Plan& plan) {
  std::vector<std::string> moved;
  for (const Job& job : problem.jobs) {
    if (!job.running) continue;
    const Assignment* const assignment = plan.find(job.name);
    if (assignment != nullptr && !goes_on(job, *assignment)) moved.push_back(job.name);
  }
  return moved;
}

std::optional<Plan> carry_on(const PlanProblem& problem, const Plan& plan) {
  Plan carried{
      .objective = problem.objective, .origin_s = problem.origin_s, .solver = {.policy = "carried on"}};
  FreeAt free_at;
  std::vector<const Job*> waiting;
  for (const Job& job : problem.jobs) {
    if (job.running) {
      append(running_on(job), 0.0, free_at, carried);
    } else {
      waiting.push_back(&job);
    }
  }

  // 1. Each waiting job's place in the order of the plan.
  std::vector<std::pair<const Assignment*, const Job*>> order;
  for (const Job* const job : waiting) {
    const auto is_its = [&](const Assignment& assignment) { return assignment.job == job->name; };
    if (std::count_if(plan.assignments.begin(), plan.assignments.end(), is_its) != 1) return std::nullopt;
    order.emplace_back(plan.find(job->name), job);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto& left, const auto& right) {
    return left.first->start_s < right.first->start_s;
  });

  // 2. Its devices, as soon as those before it in that order have left them.
  for (const auto& [planned, job] : order) {
    const Configuration* const configuration = configuration_of(*job, problem, *planned);
    if (configuration == nullptr) return std::nullopt;
    double ready_s = job->release_s;
    for (const std::string& before : job->after) ready_s = std::max(ready_s, latest_end_s(carried, before));
    Assignment assignment = *planned;
    assignment.segment = 0;
    assignment.duration_s = duration_s(*configuration);
    assignment.from_step = job->first_step;
    assignment.to_step = job->last_step;
    append(std::move(assignment), ready_s, free_at, carried);
  }
  std::stable_sort(
      carried.assignments.begin(), carried.assignments.end(),
      [](const Assignment& left, const Assignment& right) { return left.start_s < right.start_s; });

  // 3. Whether it is a plan: also of limits, outages and deadlines that have come since.
  carried.lower_bound_s = std::min(quick_bound_s(problem), carried.makespan_s);
  carried.objective_value = carried.makespan_s;
  carried.objective_bound = carried.lower_bound_s;
  if (problem.objective != Objective::makespan || !check(problem, carried).empty()) return std::nullopt;
  return carried;
}

}  // namespace saturn::plan

// A plan of before under the times of now: what becomes of a run that nobody re-plans.

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "saturn/plan/plan.h"
#include "saturn/plan/problem.h"

namespace saturn::plan {

/// `plan` carried on: what runs goes on where it is, every other job of `problem` keeps its configuration,
/// its devices and its place in their order, and starts as soon as they are free. Times are the problem's.
///
/// Nothing where that is no plan any more: a job has no place in it, its configuration or a device is gone,
/// it is planned in segments, or it would miss a deadline or a limit of `problem`.
std::optional<Plan> carry_on(const PlanProblem& problem, const Plan& plan);

/// Whether `assignment` is `job` going on where it runs.
bool goes_on(const Job& job, const Assignment& assignment);

/// Jobs of `problem` that run and that `plan` moves, in the problem's order.
std::vector<std::string> moved_jobs(const PlanProblem& problem, const Plan& plan);

}  // namespace saturn::plan

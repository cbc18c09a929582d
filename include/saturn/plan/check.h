// Whether a plan is one: feasibility and times derived again from the problem, knowing nothing of the solver.

#pragma once

#include "saturn/plan/plan.h"
#include "saturn/plan/problem.h"

namespace saturn::plan {

/// Every way in which `plan` is not a plan for `problem`; empty where it is one. `where` is
/// "`name`#/assignments/3/devices". Times agree within 1e-6 of their size, at least 1e-6 s.
Diagnostics check(const PlanProblem& problem, const Plan& plan, const std::string& name = "plan.json");

/// What can be said without the problem: no device runs two assignments at once, segments follow each other,
/// makespan and bound agree with the assignments.
Diagnostics check_alone(const Plan& plan, const std::string& name = "plan.json");

}  // namespace saturn::plan

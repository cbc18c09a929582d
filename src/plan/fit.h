// Whether a configuration fits on a node by its size alone.

#pragma once

#include <string>

#include "saturn/plan/problem.h"

namespace saturn::plan {

bool fits(const Node& node, const Configuration& configuration);

/// The reason it does not fit on `node`, or on any node, as part of a sentence; empty where it does.
std::string why_not(const Node& node, const Configuration& configuration);
std::string why_not(const PlanProblem& problem, const Configuration& configuration);

}  // namespace saturn::plan

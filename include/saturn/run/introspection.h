// Whether to go on as planned, to plan what waits anew, or to move what runs: a function of three plans.

#pragma once

#include <optional>
#include <string>
#include <vector>

#include "saturn/batch/batch.h"
#include "saturn/plan/plan.h"
#include "saturn/plan/problem.h"
#include "saturn/run/artefacts.h"

namespace saturn::run {

enum class Decision {
  keep,       ///< the plan in force goes on
  rearrange,  ///< what runs goes on; what waits is planned anew
  move,       ///< some of what runs is saved, stopped and goes on elsewhere
};
const char* name_of(Decision decision);

/// Plans for the same moment, by estimates as they are now.
struct Choices {
  const plan::PlanProblem& problem;        ///< with what may move
  const std::optional<plan::Plan>& kept;   ///< the plan in force carried on; absent = it is none any more
  const plan::Plan& rearranged;            ///< what runs goes on
  const std::optional<plan::Plan>& moved;  ///< absent = nothing may move
  std::vector<double> spread = {};         ///< of each job of the problem: of its estimate, relative to it
};

struct Judgement {
  Decision decision = Decision::keep;
  const plan::Plan* plan =
      nullptr;             ///< of the choices: what comes into force; null where the present one stays
  std::string reason;      ///< one sentence
  double kept_s = 0.0;     ///< until the end, had the plan in force gone on; 0 where it is none
  double planned_s = 0.0;  ///< until the end, under the decision
  double cost_s = 0.0;     ///< of the moves of the decision together
  double margin_s = 0.0;   ///< what moving had to gain at least
  std::vector<std::string> moves;  ///< jobs
};

/// Rearranging costs nothing and is done for half a percent of what is left, at least 2 s; moving must gain
/// more than a percent of it, than 5 s, and than the estimates of the moved jobs may be off by. The costs of
/// moves are in the plans already.
Judgement judge(const Choices& choices);

/// Moved jobs that go on where they are until what they move to is free, as no job wants their devices before
/// that.
std::vector<std::string> moves_that_wait(const plan::PlanProblem& problem, const plan::Plan& plan);

/// Seconds from the request to stop until the job's devices are free, its checkpoint saved: half a step on
/// average, a save, and the end of its processes.
double stop_cost_s(const profile::Trial& trial, double step_time_s);

/// Whether a running job may be moved now: it has shown its speed, was not moved too often, is not being
/// stopped, and has more left than moving takes.
bool may_move(const journal::JobRecord& record, const journal::StepPace& pace, double remaining_s,
              double move_cost_s, const batch::RunSettings& settings);

/// How far the estimate of a job's time may be off, relative to it; null where it does not run.
double spread_of(const journal::StepPace* pace);

/// How long the solver may look: a two-hundredth of what is left, at least 0.05 s and at most what [plan]
/// says or 5 s.
double introspection_time_limit_s(const batch::PlanSettings& settings, double left_s);

}  // namespace saturn::run

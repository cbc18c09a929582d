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

/// How far the estimate of a job may be off, as standard deviations of logarithms.
struct Spread {
  double in_place = 0.0;  ///< of what it has left where it runs
  double common = 0.0;    ///< of all other configurations together
  double own = 0.0;       ///< of each of them, on top
};

/// What another plan would gain, over draws of what jobs may take in truth. A draw gives every job one time
/// in each of its configurations, the same in both plans, and both keep their order.
struct Gain {
  double mean_s = 0.0;
  double worst_s = 0.0;  ///< mean of the worst tenth
};
Gain gain_of(const plan::PlanProblem& problem, const plan::Plan& present, const plan::Plan& other,
             const std::vector<Spread>& spreads);

/// Plans for the same moment, by estimates as they are now.
struct Choices {
  const plan::PlanProblem& problem;        ///< with what may move
  const std::optional<plan::Plan>& kept;   ///< the plan in force carried on; absent = it is none any more
  const plan::Plan& rearranged;            ///< what runs goes on
  const std::optional<plan::Plan>& moved;  ///< absent = nothing may move
  std::vector<Spread> spreads = {};        ///< of each job of the problem
};

struct Judgement {
  Decision decision = Decision::keep;
  const plan::Plan* plan =
      nullptr;             ///< of the choices: what comes into force; null where the present one stays
  std::string reason;      ///< one sentence
  double kept_s = 0.0;     ///< until the end, had the plan in force gone on; 0 where it is none
  double planned_s = 0.0;  ///< until the end, under the decision
  double cost_s = 0.0;     ///< of the moves of the decision together
  double gain_s = 0.0;     ///< in the mean over what the estimates may be off by
  double margin_s = 0.0;   ///< what had to be gained at least
  std::vector<std::string> moves;  ///< jobs
};

/// Rearranging costs nothing and is done for half a percent of what is left, at least 2 s; moving must gain a
/// percent of it, at least 5 s. Either is a gain in the mean over what the estimates may be off by, and
/// greater than what the worst tenth of cases loses. The costs of moves are in the plans already.
Judgement judge(const Choices& choices);

/// Whether a plan may end so much sooner than `present` that it would be taken: false where a bound says no,
/// and then there is nothing to ask the solver.
bool could_gain(const plan::PlanProblem& problem, const plan::Plan& present);

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

/// Of a job whose trials are as wrong as `untested` says; `pace` is null where it does not run.
Spread spread_of(const journal::StepPace* pace, const profile::Spread& untested);

/// How long the solver may look: a two-hundredth of what is left, at least 0.05 s and at most what [plan]
/// says or 5 s.
double introspection_time_limit_s(const batch::PlanSettings& settings, double left_s);

}  // namespace saturn::run

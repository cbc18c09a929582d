// The decision of an introspection.

#include "saturn/run/introspection.h"

#include <algorithm>
#include <cmath>

#include "saturn/base/nearest.h"
#include "saturn/base/units.h"
#include "saturn/plan/carry_on.h"
#include "saturn/plan/solve.h"
#include "saturn/run/progress.h"

namespace saturn::run {
namespace {

constexpr double kLeastShareToRearrange = 0.005;
constexpr double kLeastShareToMove = 0.01;
constexpr double kLeastGainToRearrangeS = 2.0;  // less is what starting processes differs by
constexpr double kLeastGainToMoveS = 5.0;
constexpr double kLongestS = 5.0;
constexpr double kShortestS = 0.05;  // in which there is a plan for every size
constexpr double kShareForSolving = 0.005;

double start_cost_s(const plan::Job& job, const plan::PlanProblem& problem, const plan::Plan& plan) {
  const plan::Assignment* const assignment = plan.find(job.name);
  const plan::Configuration* const configuration =
      assignment == nullptr ? nullptr : plan::configuration_of(job, problem, *assignment);
  return configuration == nullptr ? 0.0 : configuration->start_cost_s;
}

std::string seconds(double value) {
  return format_duration(value);
}

}  // namespace

const char* name_of(Decision decision) {
  switch (decision) {
    case Decision::keep:
      return "keep";
    case Decision::rearrange:
      return "rearrange";
    case Decision::move:
      return "move";
  }
  return "keep";
}

Judgement judge(const Choices& choices) {
  Judgement judgement;
  const plan::PlanProblem& problem = choices.problem;
  const double rearranged_s = choices.rearranged.makespan_s;
  judgement.kept_s = choices.kept ? choices.kept->makespan_s : 0.0;
  judgement.planned_s = judgement.kept_s;
  const auto margin_of = [&](const Gain& gain, double share, double least_s) {
    return std::max({share * judgement.planned_s, least_s, -gain.worst_s});
  };
  std::string waiting;  // why a better plan is not taken

  // 1. Another order of what waits.
  if (!choices.kept) {
    judgement.decision = Decision::rearrange;
    judgement.reason = "the plan in force has no place for a job any more";
  } else {
    const Gain gain = gain_of(problem, *choices.kept, choices.rearranged, choices.spreads);
    judgement.margin_s = margin_of(gain, kLeastShareToRearrange, kLeastGainToRearrangeS);
    judgement.gain_s = gain.mean_s;
    if (gain.mean_s > judgement.margin_s) {
      judgement.decision = Decision::rearrange;
      judgement.reason = "another order of what waits ends the run " + seconds(gain.mean_s) + " sooner";
    } else if (gain.mean_s > 0.0) {
      waiting = "another order of what waits would gain " + seconds(gain.mean_s) + ", less than " +
                seconds(judgement.margin_s) + ", which the estimates may be off by";
    }
  }
  if (judgement.decision == Decision::rearrange) {
    judgement.plan = &choices.rearranged;
    judgement.planned_s = rearranged_s;
  }

  // 2. Moving has to beat going on, not only the plan in force.
  if (choices.moved) {
    const std::vector<std::string> moves = plan::moved_jobs(problem, *choices.moved);
    const plan::Plan& present = judgement.plan != nullptr ? *judgement.plan : *choices.kept;
    const Gain gain = gain_of(problem, present, *choices.moved, choices.spreads);
    const double margin_s = moves.empty() ? margin_of(gain, kLeastShareToRearrange, kLeastGainToRearrangeS)
                                          : margin_of(gain, kLeastShareToMove, kLeastGainToMoveS);
    const std::string what = moves.empty() ? "another order of what waits" : "moving " + listed(moves);
    if (gain.mean_s > margin_s) {
      judgement.decision = moves.empty() ? Decision::rearrange : Decision::move;
      judgement.plan = &*choices.moved;
      judgement.reason = what + " ends the run " + seconds(gain.mean_s) + " sooner";
      judgement.planned_s = choices.moved->makespan_s;
      for (const plan::Job& job : problem.jobs) {
        if (std::find(moves.begin(), moves.end(), job.name) != moves.end())
          judgement.cost_s += start_cost_s(job, problem, *choices.moved);
      }
      judgement.moves = moves;
      judgement.gain_s = gain.mean_s;
      judgement.margin_s = margin_s;
    } else if (gain.mean_s > 0.0 && judgement.decision == Decision::keep) {
      waiting = what + " would gain " + seconds(gain.mean_s) + ", less than " + seconds(margin_s) +
                ", which the estimates may be off by";
      judgement.gain_s = gain.mean_s;
      judgement.margin_s = margin_s;
    }
  }
  if (judgement.reason.empty()) judgement.reason = waiting.empty() ? "nothing better was found" : waiting;
  return judgement;
}

bool could_gain(const plan::PlanProblem& problem, const plan::Plan& present) {
  const double least_s = std::max(kLeastShareToRearrange * present.makespan_s, kLeastGainToRearrangeS);
  return present.makespan_s - plan::quick_bound_s(problem) > least_s;
}

std::vector<std::string> moves_that_wait(const plan::PlanProblem& problem, const plan::Plan& plan) {
  std::vector<std::string> waiting;
  for (const plan::Job& job : problem.jobs) {
    const plan::Assignment* const next = plan.find(job.name);
    if (!job.running || next == nullptr || plan::goes_on(job, *next) || next->start_s <= 1e-6) continue;
    const bool wanted = std::any_of(plan.assignments.begin(), plan.assignments.end(), [&](const auto& other) {
      return other.job != job.name && other.start_s < next->start_s &&
             std::any_of(other.devices.begin(), other.devices.end(), [&](const plan::Device& device) {
               const std::vector<int>& held = job.running->devices;
               return device.node == job.running->node &&
                      std::find(held.begin(), held.end(), device.index) != held.end();
             });
    });
    if (!wanted) waiting.push_back(job.name);
  }
  return waiting;
}

double stop_cost_s(const profile::Trial& trial, double step_time_s) {
  return 0.5 * step_time_s + trial.save_time_s + trial.end_time_s;
}

bool may_move(const journal::JobRecord& record, const journal::StepPace& pace, double remaining_s,
              double move_cost_s, const batch::RunSettings& settings) {
  const journal::Attempt* const attempt = record.last_attempt();
  const bool trains =
      record.state == journal::JobState::training || record.state == journal::JobState::saving;
  return attempt != nullptr && trains && !attempt->requested && pace.num_timed >= kFewestTimedSteps &&
         record.num_moves() < settings.max_moves && remaining_s > move_cost_s;
}

Spread spread_of(const journal::StepPace* pace, const profile::Spread& untested) {
  Spread spread{
      .in_place = std::hypot(untested.common, untested.own), .common = untested.common, .own = untested.own};
  if (pace == nullptr || pace->num_timed < kFewestTimedSteps) return spread;
  const double steps = static_cast<double>(pace->num_timed);
  spread.in_place = std::hypot(pace->spread_s / pace->typical_s / std::sqrt(steps), pace->drift / 2.0);
  return spread;
}

double introspection_time_limit_s(const batch::PlanSettings& settings, double left_s) {
  return std::min(settings.time_limit_s, std::clamp(kShareForSolving * left_s, kShortestS, kLongestS));
}

}  // namespace saturn::run

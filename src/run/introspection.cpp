// The decision of an introspection.

#include "saturn/run/introspection.h"

#include <algorithm>
#include <cmath>

#include "saturn/base/nearest.h"
#include "saturn/base/units.h"
#include "saturn/plan/carry_on.h"
#include "saturn/run/progress.h"

namespace saturn::run {
namespace {

constexpr double kLeastShareToRearrange = 0.005;
constexpr double kLeastShareToMove = 0.01;
constexpr double kLeastGainToRearrangeS = 2.0;  // less is what starting processes differs by
constexpr double kLeastGainToMoveS = 5.0;
constexpr double kPriorSpread = 0.10;     // of an estimate that no step of the run has tested
constexpr double kMeasuredSpread = 0.05;  // of one that its own steps have: another configuration may differ
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
  const double rearranged_s = choices.rearranged.makespan_s;
  const double kept_s = choices.kept ? choices.kept->makespan_s : 0.0;
  judgement.kept_s = kept_s;
  const double least_s = std::max(kLeastShareToRearrange * kept_s, kLeastGainToRearrangeS);
  const bool rearranges = !choices.kept || kept_s - rearranged_s > least_s;
  judgement.decision = rearranges ? Decision::rearrange : Decision::keep;
  judgement.plan = rearranges ? &choices.rearranged : nullptr;
  judgement.planned_s = rearranges ? rearranged_s : kept_s;

  // 1. What moving costs, and how much of what it promises is noise.
  if (choices.moved) {
    const std::vector<std::string> moves = plan::moved_jobs(choices.problem, *choices.moved);
    double variance = 0.0;
    double cost_s = 0.0;
    for (std::size_t j = 0; j < choices.problem.jobs.size(); ++j) {
      const plan::Job& job = choices.problem.jobs[j];
      if (std::find(moves.begin(), moves.end(), job.name) == moves.end()) continue;
      cost_s += start_cost_s(job, choices.problem, *choices.moved);
      const double spread = j < choices.spread.size() ? choices.spread[j] : kPriorSpread;
      variance += std::pow(spread * choices.moved->find(job.name)->duration_s, 2);
    }
    judgement.margin_s =
        std::max({kLeastShareToMove * judgement.planned_s, std::sqrt(variance), kLeastGainToMoveS});

    // 2. Moving has to beat going on, not only the plan in force.
    const double gain_s = judgement.planned_s - choices.moved->makespan_s;
    const bool pays = gain_s > (moves.empty() ? least_s : judgement.margin_s);
    if (pays) {
      judgement.decision = moves.empty() ? Decision::rearrange : Decision::move;
      judgement.plan = &*choices.moved;
      judgement.reason = (moves.empty() ? "another order of what waits" : "moving " + listed(moves)) +
                         " ends the run " + seconds(gain_s) + " sooner";
      judgement.planned_s = choices.moved->makespan_s;
      judgement.cost_s = cost_s;
      judgement.moves = moves;
      return judgement;
    }
    if (!moves.empty() && gain_s > 0.0) {
      judgement.reason = "moving " + listed(moves) + " would gain " + seconds(gain_s) + ", less than " +
                         seconds(judgement.margin_s) + ", which the estimates may be off by";
    }
  }
  if (judgement.reason.empty()) {
    judgement.reason = !choices.kept ? "the plan in force has no place for a job any more"
                       : rearranges  ? "another order of what waits ends the run " +
                                          seconds(kept_s - rearranged_s) + " sooner"
                                    : "nothing better was found";
  }
  return judgement;
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

double spread_of(const journal::StepPace* pace) {
  if (pace == nullptr || pace->num_timed < kFewestTimedSteps) return kPriorSpread;
  const double steps = static_cast<double>(pace->num_timed);
  return std::hypot(kMeasuredSpread, pace->spread_s / pace->typical_s / std::sqrt(steps));
}

double introspection_time_limit_s(const batch::PlanSettings& settings, double left_s) {
  return std::min(settings.time_limit_s, std::clamp(kShareForSolving * left_s, kShortestS, kLongestS));
}

}  // namespace saturn::run

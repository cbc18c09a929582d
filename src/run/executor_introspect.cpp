// Planning beside the run: when it is worth a look, what is asked of the planner, and what comes of its
// answer.

#include <algorithm>
#include <cmath>

#include "run/executor.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/plan/carry_on.h"
#include "saturn/plan/check.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobRecord;
using journal::JobState;

constexpr double kOff =
    0.15;  // a step time that differs so much from the last look's is a reason for another
constexpr double kNothingNew = 0.01;    // an expected end that moved by less of what is left is none
constexpr double kLeastBetweenS = 5.0;  // two looks
constexpr const char* kTimer = "time for a look";  // the one reason that nothing has happened for

std::string text_of(const plan::Assignment& assignment) {
  std::string text = assignment.technique + " x" + std::to_string(assignment.devices.size()) + " on ";
  for (const plan::Device& device : assignment.devices) {
    if (&device != &assignment.devices.front()) text += "+";
    text += device.node + ":" + std::to_string(device.index);
  }
  return text;
}

std::string text_of(const journal::Attempt& attempt) {
  return text_of(plan::Assignment{.technique = attempt.technique, .devices = attempt.devices});
}

}  // namespace

std::map<std::string, journal::StepPace> Executor::paces() const {
  std::map<std::string, journal::StepPace> paces;
  for (const auto& live : live_) paces[live->job] = live->step_times.pace();
  return paces;
}

// ---- When to look

// Sets `look_reason_` where estimates have turned out wrong, or the time for a look has come.
void Executor::look_at_estimates() {
  const double every_s = execution_.batch.run.introspect_every_s;
  if (every_s <= 0.0 || live_.empty() || planning_ || !re_plan_reason_.empty() || !look_reason_.empty())
    return;
  for (const auto& live : live_) {
    const journal::StepPace pace = live->step_times.pace();
    const std::optional<double> slowdown = slowdown_of(*record_of(*live).last_attempt(), pace);
    if (!slowdown) continue;
    const auto looked = looked_at_step_s_.find(live->attempt);
    const double known_s = looked != looked_at_step_s_.end() ? looked->second
                           : live->trial != nullptr          ? live->trial->step_time_s
                                                             : pace.typical_s;
    if (std::abs(pace.typical_s / known_s - 1.0) <= kOff) continue;
    look_reason_ = "steps of job " + in_quotes(live->job) + " take " +
                   std::to_string(std::lround(100.0 * *slowdown)) + " % of what the profile says";
    return;
  }
  if (directory_.time_s() - looked_s_ >= every_s) look_reason_ = kTimer;
}

// ---- What the planner is asked

plan::SolveOptions Executor::options_for(const Planning& planning) const {
  plan::SolveOptions options = solve_options(execution_.batch);
  options.num_threads = 1;
  options.baselines = false;
  if (!introspects()) return options;
  if (searches())
    options.time_limit_s = introspection_time_limit_s(execution_.batch.plan, execution_.plan.makespan_s);
  const plan::Plan* const best = planning.rearranged ? &*planning.rearranged
                                 : planning.kept     ? &*planning.kept
                                                     : nullptr;
  if (best == nullptr) return options;
  options.start_from = best;
  options.time_limit_s = introspection_time_limit_s(execution_.batch.plan, best->makespan_s);
  return options;
}

Result<void> Executor::begin_solving(Planning planning) {
  const Result<void> started = around_.planner->start(planning.problem, options_for(planning));
  if (!started.ok()) {
    around_.observer->on_note("not re-planned: " + started.faults().front().what);
    return {};
  }
  planning_ = std::move(planning);
  return {};
}

Result<void> Executor::re_plan() {
  const bool forced = !re_plan_reason_.empty();
  if ((!forced && look_reason_.empty()) || around_.planner->busy()) return {};
  const double now_s = directory_.time_s();
  const double every_s = execution_.batch.run.introspect_every_s;
  const double between_s = every_s > 0.0 ? std::min(kLeastBetweenS, every_s / 10.0) : kLeastBetweenS;
  if (!forced && (!introspects() || live_.empty() || now_s - looked_s_ < between_s)) return {};
  // What was asked to stop frees its devices soon: a plan made before that would be of the past.
  const bool stops = std::any_of(live_.begin(), live_.end(), [&](const auto& live) {
    return record_of(*live).last_attempt()->requested;
  });
  if (stops) return {};
  Planning planning{.reason = std::move(forced ? re_plan_reason_ : look_reason_)};
  re_plan_reason_.clear();
  look_reason_.clear();
  Result<plan::PlanProblem> problem = remaining_problem(remainder());
  if (!problem.ok()) {
    around_.observer->on_note("not re-planned: " + problem.faults().front().what);
    return {};
  }
  planning.problem = *std::move(problem);
  if (planning.problem.jobs.empty()) return {};
  if (!introspects()) return begin_solving(std::move(planning));

  const bool first = std::isinf(looked_s_);
  const bool timer = !forced && planning.reason == kTimer;
  looked_s_ = now_s;
  for (const auto& live : live_) {
    const journal::StepPace pace = live->step_times.pace();
    if (pace.num_timed >= kFewestTimedSteps) looked_at_step_s_[live->attempt] = pace.typical_s;
  }
  planning.kept = plan::carry_on(planning.problem, execution_.plan);
  if (first) expected_end_s_ = execution_.plan.origin_s + execution_.plan.makespan_s;
  const double end_s = planning.kept ? now_s + planning.kept->makespan_s : 0.0;
  if (timer && planning.kept && std::abs(end_s - expected_end_s_) <= kNothingNew * planning.kept->makespan_s)
    return {};
  if (!planning.kept || could_gain(planning.problem, *planning.kept))
    return begin_solving(std::move(planning));
  planning.rearranged = planning.kept;
  return look_at_moves(std::move(planning));
}

// ---- What comes of it

Result<void> Executor::take_plan() {
  if (!planning_) return {};
  std::optional<Result<plan::Plan>> taken = around_.planner->take();
  if (!taken) return {};
  Planning planning = *std::move(planning_);
  planning_.reset();
  const bool second = planning.rearranged.has_value();
  const Diagnostics faults = taken->ok() ? plan::check(planning.problem, **taken) : taken->faults();
  if (!faults.empty()) {
    // The plan in force goes on; a job that it has no place for is seen as a stall.
    if (second) return decide(planning, std::nullopt);
    around_.observer->on_note("not re-planned: " + faults.front().what);
    return {};
  }
  if (second) return decide(planning, **std::move(taken));
  planning.rearranged = **std::move(taken);
  return look_at_moves(std::move(planning));
}

// The second look: with what runs allowed to move at its price. Time has passed since the first one: all
// plans are seen from now, so that none has a head start.
Result<void> Executor::look_at_moves(Planning planning) {
  if (!introspects() || execution_.batch.run.max_moves == 0 || live_.empty())
    return decide(planning, std::nullopt);
  Remainder movable = remainder();
  movable.may_move = true;
  Result<plan::PlanProblem> problem = remaining_problem(movable);
  const bool any =
      problem.ok() && std::any_of(problem->jobs.begin(), problem->jobs.end(),
                                  [](const plan::Job& job) { return job.running && job.running->may_move; });
  if (!any) return decide(planning, std::nullopt);
  std::optional<plan::Plan> rearranged = plan::carry_on(*problem, *planning.rearranged);
  if (!rearranged) return decide(planning, std::nullopt);
  planning.problem = *std::move(problem);
  planning.rearranged = std::move(rearranged);
  planning.kept = plan::carry_on(planning.problem, execution_.plan);
  if (!could_gain(planning.problem, *planning.rearranged)) return decide(planning, std::nullopt);
  return begin_solving(std::move(planning));
}

std::vector<Spread> Executor::spreads(const plan::PlanProblem& problem) const {
  const std::map<std::string, journal::StepPace> known = paces();
  const std::map<std::string, profile::Spread> untested =
      profile::spreads_of(*execution_.profile, corrections_of(directory_.state(), known));
  std::vector<Spread> spreads;
  for (const plan::Job& job : problem.jobs) {
    const profile::Trial* const trial = execution_.profile->find_id(job.configurations.front().trial);
    SATURN_CHECK(trial != nullptr, "what is planned was measured");
    const auto pace = known.find(job.name);
    spreads.push_back(
        spread_of(pace == known.end() ? nullptr : &pace->second, untested.at(trial->job_class)));
  }
  return spreads;
}

Result<void> Executor::decide(const Planning& planning, const std::optional<plan::Plan>& moved) {
  if (!introspects()) {
    execution_.plan = *planning.rearranged;
    SATURN_TRY_VOID(
        adopt_plan(execution_.plan, execution_.sources, planning.reason, directory_, *around_.observer));
    around_.observer->on_plan(execution_.plan, directory_.state());
    return {};
  }
  const Judgement judgement = judge({.problem = planning.problem,
                                     .kept = planning.kept,
                                     .rearranged = *planning.rearranged,
                                     .moved = moved,
                                     .spreads = spreads(planning.problem)});
  SATURN_TRY_VOID(record(planning, judgement, moved));
  expected_end_s_ = directory_.time_s() + judgement.planned_s;
  if (judgement.plan == nullptr) return {};
  execution_.plan = *judgement.plan;
  SATURN_TRY_VOID(adopt_plan(execution_.plan, execution_.sources, planning.reason + ": " + judgement.reason,
                             directory_, *around_.observer));
  around_.observer->on_plan(execution_.plan, directory_.state());
  return move(planning.problem, judgement);
}

Result<void> Executor::record(const Planning& planning, const Judgement& judgement,
                              const std::optional<plan::Plan>& moved) {
  const journal::RunState& state = directory_.state();
  Event introspected{.kind = EventKind::introspected};
  Json& details = introspected.details;
  details["trigger"] = planning.reason;
  details["old_plan"] = state.plans.empty() ? "" : state.plans.back().file;
  if (judgement.plan != nullptr)
    details["new_plan"] = file_name_of(directory_.paths().plan(directory_.paths().last_plan() + 1));
  if (planning.kept) details["kept_s"] = planning.kept->makespan_s;
  details["rearranged_s"] = planning.rearranged->makespan_s;
  if (moved) details["moved_s"] = moved->makespan_s;
  details["planned_s"] = judgement.planned_s;
  details["cost_s"] = judgement.cost_s;
  details["gain_s"] = judgement.gain_s;
  details["margin_s"] = judgement.margin_s;
  details["decision"] = name_of(judgement.decision);
  details["reason"] = judgement.reason;
  Json& moves = details["moves"] = Json::array();
  for (const std::string& job : judgement.moves) {
    const plan::Assignment& to = *judgement.plan->find(job);
    moves.push_back({{"job", job}, {"from", text_of(*state.find(job)->last_attempt())}, {"to", text_of(to)}});
  }
  const std::map<std::string, journal::StepPace> known = paces();
  const std::vector<std::string> slow = stragglers(state, known);
  Json& estimates = details["estimates"] = Json::array();
  for (const auto& [job, pace] : known) {
    const journal::Attempt& attempt = *state.find(job)->last_attempt();
    if (pace.num_timed == 0) continue;
    estimates.push_back({{"job", job},
                         {"step_time_s", pace.typical_s},
                         {"planned_step_time_s", attempt.predicted_step_s},
                         {"num_timed", pace.num_timed},
                         {"straggles", std::find(slow.begin(), slow.end(), job) != slow.end()}});
  }
  return append(std::move(introspected));
}

Result<void> Executor::move(const plan::PlanProblem& problem, const Judgement& judgement) {
  const std::vector<std::string> waiting = moves_that_wait(problem, *judgement.plan);
  for (const std::string& job : judgement.moves) {
    Live* const live = living(job);
    if (live == nullptr || std::find(waiting.begin(), waiting.end(), job) != waiting.end()) continue;
    SATURN_TRY_VOID(stop_job(*live, JobState::pending, "it moves to " + text_of(*judgement.plan->find(job)),
                             StopFor::move));
  }
  return {};
}

}  // namespace saturn::run

// The two plans and what they say.

#include "profile/worth.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>

#include "saturn/plan/solve.h"
#include "saturn/profile/job_time.h"

namespace saturn::profile {
namespace {

constexpr double kPlanningS = 1.0;  // at most for one of the plans
constexpr std::int64_t kIterations = 2000;
constexpr double kOwnGap = 0.25;  // of the gap: how exactly the plans are made

bool ran(const Trial& trial) {
  return trial.is_measured() && trial.outcome == Outcome::ok;
}

plan::SolveOptions options_of(const batch::Batch& batch, double gap) {
  return {.time_limit_s = kPlanningS,
          .iterations = kIterations,
          .seed = batch.seed,
          .gap = kOwnGap * gap,
          .num_threads = 1,
          .baselines = false};
}

// The trial of the class that is most like `candidate`: its technique before others, then its width.
const Trial* nearest_of_class(const Trial& candidate, const std::vector<Trial>& measured) {
  const Trial* nearest = nullptr;
  const auto distance = [&](const Trial& one) {
    const bool other_technique = one.configuration.technique != candidate.configuration.technique;
    return std::pair(other_technique,
                     std::abs(one.configuration.num_devices - candidate.configuration.num_devices));
  };
  for (const Trial& one : measured) {
    if (!ran(one) || one.job_class != candidate.job_class) continue;
    if (nearest == nullptr || distance(one) < distance(*nearest)) nearest = &one;
  }
  return nearest;
}

}  // namespace

Trial as_if_measured(const Trial& candidate, double step_s, const std::vector<Trial>& measured,
                     bool kindest) {
  Trial trial = candidate;
  trial.outcome = Outcome::ok;
  trial.source = Source::interpolated;
  trial.step_time_s = step_s;
  trial.reason.clear();
  const Trial* const like = nearest_of_class(candidate, measured);
  if (like == nullptr) return trial;
  trial.samples_per_s = like->samples_per_s * like->step_time_s / step_s;
  trial.evaluate_time_s = like->evaluate_time_s * step_s / like->step_time_s;
  trial.start_time_s = like->start_time_s;
  trial.save_time_s = like->save_time_s;
  trial.load_time_s = like->load_time_s;
  trial.end_time_s = like->end_time_s;
  if (!kindest) {
    trial.memory_peak_bytes = candidate.predicted_memory_bytes;
    trial.host_memory_peak_bytes =
        like->host_memory_peak_bytes / like->configuration.num_ranks * candidate.configuration.num_ranks;
    return trial;
  }
  trial.host_memory_peak_bytes = 0;
  for (const Trial& one : measured) {
    if (!ran(one) || one.job_class != candidate.job_class) continue;
    trial.start_time_s = std::min(trial.start_time_s, one.start_time_s);
    trial.save_time_s = std::min(trial.save_time_s, one.save_time_s);
    trial.load_time_s = std::min(trial.load_time_s, one.load_time_s);
    trial.end_time_s = std::min(trial.end_time_s, one.end_time_s);
    trial.evaluate_time_s = std::min(trial.evaluate_time_s, one.evaluate_time_s * step_s / one.step_time_s);
  }
  return trial;
}

double shortest_trial_s(const Trial& candidate, const batch::ProfileSettings& settings,
                        const std::vector<Trial>& measured, const CostModel& model) {
  double start_s = 0.0;
  int num_starts = 0;
  for (const Trial& one : measured) {
    if (!ran(one)) continue;
    start_s += one.start_time_s;
    ++num_starts;
  }
  if (num_starts > 0) start_s /= num_starts;
  const std::optional<Estimate> estimate = model.estimate(candidate);
  const double step_s = estimate ? estimate->step_s : 0.0;
  return start_s + (settings.warmup_steps + settings.trial_steps) * step_s;
}

Worth::Worth(const batch::Batch& batch, std::map<std::string, std::int64_t> num_steps, double gap)
    : batch_(batch), num_steps_(std::move(num_steps)), gap_(gap) {}

double Worth::work_of(const Trial& trial) const {
  double steps = 0.0;
  for (const std::string& job : trial.jobs) steps += static_cast<double>(num_steps_.at(job));
  return steps * trial.predicted_step_time_s * trial.configuration.num_devices;
}

// The narrowest of every class, then the quickest by formula on as many devices as it may have; nothing for
// those of which such a trial works or runs.
std::vector<std::string> Worth::first_trials(const std::vector<Trial>& measured,
                                             const std::vector<Open>& open) const {
  std::map<std::string, int> widest;
  for (const Open& one : open) {
    int& width = widest[one.trial->job_class];
    width = std::max(width, one.trial->configuration.num_devices);
  }
  std::set<std::string> known, known_wide;
  const auto count = [&](const Trial& trial) {
    known.insert(trial.job_class);
    if (trial.configuration.num_devices >= widest[trial.job_class]) known_wide.insert(trial.job_class);
  };
  for (const Trial& one : measured) {
    if (ran(one)) count(one);
  }
  for (const Open& one : open) {
    if (one.is_running) count(*one.trial);
  }
  std::map<std::string, const Trial*> first;  // by class
  const auto take_first = [&](const std::set<std::string>& without, bool wide) {
    const auto rank = [&](const Trial& trial) {
      const int width = trial.configuration.num_devices;
      return std::pair(wide ? -width : width, trial.predicted_step_time_s);
    };
    for (const Open& one : open) {
      if (without.contains(one.trial->job_class)) continue;
      const Trial*& chosen = first[one.trial->job_class];
      if (chosen == nullptr || rank(*one.trial) < rank(*chosen)) chosen = one.trial;
    }
  };
  take_first(known, /*wide=*/false);
  if (first.empty()) take_first(known_wide, /*wide=*/true);
  std::vector<const Trial*> trials;
  for (const auto& [name, trial] : first) trials.push_back(trial);
  std::stable_sort(trials.begin(), trials.end(),
                   [&](const Trial* a, const Trial* b) { return work_of(*a) > work_of(*b); });
  std::vector<std::string> ids;
  for (const Trial* const trial : trials) ids.push_back(trial->id);
  return ids;
}

Choice Worth::choose(const Profile& results, const std::vector<Open>& open, double widening) const {
  Profile profile = corrected(results, {});
  std::erase_if(profile.trials, [](const Trial& trial) { return !trial.is_measured(); });
  const std::vector<Trial> measured = profile.trials;
  const CostModel model(measured, widening);
  Choice choice;
  // 1. Every class on the fewest and on the most devices.
  choice.order = first_trials(measured, open);
  if (!choice.order.empty()) return choice;
  if (open.empty()) {
    choice.is_settled = true;
    return choice;
  }
  std::set<std::string> known;
  for (const Trial& one : measured) {
    if (ran(one)) known.insert(one.job_class);
  }
  const bool first_ones_run = std::any_of(open.begin(), open.end(), [&](const Open& one) {
    return one.is_running && !known.contains(one.trial->job_class);
  });
  if (first_ones_run) return choice;  // what they say is needed first

  // 2. The plan that knows what was measured.
  const auto everything = [&] {
    for (const Open& one : open) {
      if (!one.is_running) choice.order.push_back(one.trial->id);
    }
    return choice;
  };
  // A class of which nothing works is not planned, and keeps nobody from being so.
  batch::Batch planned = batch_;
  std::set<std::string> runnable;
  for (const Trial& one : profile.trials) {
    if (one.outcome == Outcome::ok) runnable.insert(one.jobs.begin(), one.jobs.end());
  }
  std::erase_if(planned.jobs, [&](const batch::Job& job) { return !runnable.contains(job.name); });
  if (planned.jobs.empty()) return everything();
  const plan::SolveOptions options = options_of(batch_, gap_);
  const Result<plan::PlanProblem> sure = to_plan_problem(planned, profile, num_steps_);
  if (!sure.ok()) return everything();
  const Result<plan::Plan> by_measured = plan::solve(*sure, options);
  if (!by_measured.ok()) return everything();
  choice.measured_s = by_measured->objective_value;

  // 3. The plan for which every open candidate is as quick as it may be.
  std::map<std::string, std::pair<const Trial*, Estimate>> guesses;
  std::set<std::string> running;
  for (const Open& one : open) {
    const std::optional<Estimate> estimate = model.estimate(*one.trial);
    if (!estimate) return everything();
    guesses.emplace(one.trial->id, std::pair(one.trial, *estimate));
    if (one.is_running) running.insert(one.trial->id);
    Trial guess = as_if_measured(*one.trial, estimate->low_s, measured, /*kindest=*/true);
    guess.source = Source::measured;  // it competes with those that are
    profile.trials.push_back(std::move(guess));
  }
  const Result<plan::PlanProblem> hoped = to_plan_problem(planned, profile, num_steps_);
  if (!hoped.ok()) return everything();
  const Result<plan::Plan> optimistic = plan::solve(*hoped, options);
  if (!optimistic.ok()) return everything();
  // What the search finds with more to choose from is sometimes worse; what is measured is there as well.
  choice.optimistic_s = std::min(optimistic->objective_value, choice.measured_s);
  if (choice.measured_s <= (1.0 + gap_) * optimistic->objective_bound) {
    choice.is_settled = choice.is_proved = true;
    choice.optimistic_s = optimistic->objective_bound;
  } else if (choice.measured_s <= (1.0 + gap_) * choice.optimistic_s) {
    choice.is_settled = true;
  }

  // 4. What the second plan rests on, by the worth of knowing it for each second of its trial.
  std::map<std::string, double> worth;
  for (const plan::Assignment& assignment : optimistic->assignments) {
    const auto guess = guesses.find(assignment.trial);
    if (guess == guesses.end()) continue;
    const auto& [trial, estimate] = guess->second;
    const double cost_s = shortest_trial_s(*trial, batch_.profile, measured, model);
    worth[assignment.trial] += assignment.duration_s * static_cast<double>(assignment.devices.size()) *
                               (1.0 - estimate.low_s / estimate.high_s) / std::max(cost_s, 1e-9);
  }
  if (worth.empty()) {
    // It is a plan of what was measured, and the first is no better.
    choice.measured_s = choice.optimistic_s;
    choice.is_settled = true;
    return choice;
  }
  for (const auto& [id, value] : worth) {
    if (!running.contains(id)) choice.order.push_back(id);
  }
  std::stable_sort(choice.order.begin(), choice.order.end(),
                   [&](const std::string& a, const std::string& b) { return worth.at(a) > worth.at(b); });
  return choice;
}

}  // namespace saturn::profile

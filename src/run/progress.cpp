// Medians of step times, and what they say of trials.

#include "saturn/run/progress.h"

#include <algorithm>
#include <cmath>

#include "saturn/base/statistics.h"
#include "saturn/profile/job_time.h"

namespace saturn::run {
namespace {

using journal::Attempt;
using journal::JobRecord;
using journal::StepPace;

constexpr double kStraggles = 1.25;  // times the median of its peers
constexpr double kStragglesSigmas = 3.0;

const StepPace& pace_of(const JobRecord& record, const Attempt& attempt,
                        const std::map<std::string, StepPace>& live) {
  const auto newer = live.find(record.name);
  const bool runs = &attempt == record.last_attempt() && !attempt.end_s;
  return runs && newer != live.end() ? newer->second : attempt.pace;
}

// Everything the attempts of one trial found.
struct Found {
  std::vector<double> factors;
  std::vector<double> spreads;
  std::int64_t num_steps = 0;
  std::optional<double> start_s;
  std::optional<double> save_s;
};

}  // namespace

void StepTimes::add(double step_time_s) {
  if (!(step_time_s > 0.0) || !std::isfinite(step_time_s)) return;
  if (num_added_++ == 0) return;
  if (latest_.size() < kKept) {
    latest_.push_back(step_time_s);
    return;
  }
  latest_[next_] = step_time_s;
  next_ = (next_ + 1) % kKept;
}

StepPace StepTimes::pace() const {
  if (latest_.empty()) return {};
  std::vector<double> in_order(latest_.begin() + static_cast<std::ptrdiff_t>(next_), latest_.end());
  in_order.insert(in_order.end(), latest_.begin(), latest_.begin() + static_cast<std::ptrdiff_t>(next_));
  StepPace pace{.typical_s = median(in_order), .num_timed = num_added_ - 1};
  pace.spread_s = robust_deviation(in_order);
  if (in_order.size() >= static_cast<std::size_t>(2 * kFewestTimedSteps)) {
    const auto half = in_order.begin() + static_cast<std::ptrdiff_t>(in_order.size() / 2);
    pace.drift = median({half, in_order.end()}) / median({in_order.begin(), half}) - 1.0;
  }
  return pace;
}

std::optional<double> slowdown_of(const Attempt& attempt, const StepPace& pace) {
  if (pace.num_timed < kFewestTimedSteps || attempt.predicted_step_s <= 0.0) return std::nullopt;
  return pace.typical_s / attempt.predicted_step_s;
}

std::vector<std::string> stragglers(const journal::RunState& state,
                                    const std::map<std::string, StepPace>& live) {
  std::vector<std::string> slow;
  for (const JobRecord& record : state.jobs) {
    const Attempt* const attempt = record.last_attempt();
    if (attempt == nullptr || !journal::is_running(record.state)) continue;
    const StepPace& own = pace_of(record, *attempt, live);
    if (own.num_timed < kFewestTimedSteps) continue;
    std::vector<double> peers;
    for (const JobRecord& other : state.jobs) {
      if (other.name == record.name) continue;
      for (const Attempt& of_other : other.attempts) {
        const StepPace& pace = pace_of(other, of_other, live);
        if (of_other.trial == attempt->trial && pace.num_timed >= kFewestTimedSteps)
          peers.push_back(pace.typical_s);
      }
    }
    if (peers.empty()) continue;
    const double usual_s = median(peers);
    if (own.typical_s > kStraggles * usual_s && own.typical_s > usual_s + kStragglesSigmas * own.spread_s)
      slow.push_back(record.name);
  }
  return slow;
}

std::vector<profile::Correction> corrections_of(const journal::RunState& state,
                                                const std::map<std::string, StepPace>& live) {
  const std::vector<std::string> slow = stragglers(state, live);
  std::map<std::string, Found> by_trial;
  for (const JobRecord& record : state.jobs) {
    const bool straggles = std::find(slow.begin(), slow.end(), record.name) != slow.end();
    for (const Attempt& attempt : record.attempts) {
      Found& found = by_trial[attempt.trial];
      const StepPace& pace = pace_of(record, attempt, live);
      if (attempt.first_step_s && attempt.resume_from.empty()) {
        const double step_s = pace.num_timed > 0 ? pace.typical_s : attempt.predicted_step_s;
        found.start_s = std::max(0.0, *attempt.first_step_s - attempt.start_s - step_s);
      }
      if (attempt.save_s > 0.0) found.save_s = attempt.save_s;
      const std::optional<double> slowdown = slowdown_of(attempt, pace);
      if (!slowdown || (straggles && &attempt == record.last_attempt())) continue;
      found.factors.push_back(*slowdown);
      found.spreads.push_back(pace.spread_s / pace.typical_s);
      found.num_steps += pace.num_timed;
    }
  }
  std::vector<profile::Correction> corrections;
  for (const auto& [trial, found] : by_trial) {
    const bool timed = !found.factors.empty();
    if (trial.empty() || (!timed && !found.start_s && !found.save_s)) continue;
    corrections.push_back({.trial = trial,
                           .step_factor = timed ? median(found.factors) : 1.0,
                           .spread = timed ? median(found.spreads) : 0.0,
                           .num_steps = found.num_steps,
                           .start_s = found.start_s,
                           .save_s = found.save_s});
  }
  return corrections;
}

profile::Profile estimates_of(const profile::Profile& measured, const journal::RunState& state,
                              const std::map<std::string, StepPace>& live) {
  return profile::corrected(measured, corrections_of(state, live));
}

double remaining_s(const batch::Job& job, const batch::RunSettings& run, const profile::Trial& trial,
                   const StepPace& pace, std::int64_t step, std::int64_t num_steps) {
  profile::Trial own = trial;
  if (pace.num_timed >= kFewestTimedSteps) own.step_time_s = pace.typical_s;
  return profile::job_time(job, run, own, step, num_steps).work_s;
}

}  // namespace saturn::run

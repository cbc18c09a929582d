// What runs found of a profile, applied to its trials.

#include <cmath>
#include <map>

#include "saturn/profile/profile.h"

namespace saturn::profile {
namespace {

constexpr double kUnmeasuredBytesPerS = 5e8;  // of a disk, where no save or load was timed

struct ClassFactor {
  double log_sum = 0.0;
  int num_trials = 0;

  double factor() const { return num_trials == 0 ? 1.0 : std::exp(log_sum / (num_trials + 1)); }
};

void slow_down(Trial& trial, double factor) {
  trial.step_time_s *= factor;
  trial.step_time_spread_s *= factor;
  trial.step_time_low_s *= factor;
  trial.step_time_high_s *= factor;
  trial.evaluate_time_s *= factor;  // the same devices, the same layers
  trial.samples_per_s /= factor;
}

}  // namespace

Profile corrected(const Profile& profile, const std::vector<Correction>& corrections) {
  std::map<std::string, const Correction*> by_trial;
  for (const Correction& correction : profile.corrections) by_trial[correction.trial] = &correction;
  for (const Correction& correction : corrections) by_trial[correction.trial] = &correction;

  std::map<std::string, ClassFactor> classes;
  for (const Trial& trial : profile.trials) {
    const auto known = by_trial.find(trial.id);
    if (trial.outcome != Outcome::ok || known == by_trial.end() || known->second->num_steps == 0) continue;
    ClassFactor& of_class = classes[trial.job_class];
    of_class.log_sum += std::log(known->second->step_factor);
    ++of_class.num_trials;
  }

  Profile now = profile;
  now.corrections.clear();
  for (Trial& trial : now.trials) {
    if (trial.outcome != Outcome::ok) continue;
    const auto known = by_trial.find(trial.id);
    const bool timed = known != by_trial.end() && known->second->num_steps > 0;
    const double factor = timed ? known->second->step_factor : classes[trial.job_class].factor();
    if (factor != 1.0) slow_down(trial, factor);
    if (known != by_trial.end()) {
      trial.start_time_s = known->second->start_s.value_or(trial.start_time_s);
      trial.save_time_s = known->second->save_s.value_or(trial.save_time_s);
    }
    const double by_size_s = static_cast<double>(trial.memory_peak_bytes) / kUnmeasuredBytesPerS;
    if (trial.save_time_s <= 0.0) trial.save_time_s = by_size_s;
    if (trial.load_time_s <= 0.0) trial.load_time_s = by_size_s;
  }
  return now;
}

}  // namespace saturn::profile

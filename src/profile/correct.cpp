// What runs found of a profile, applied to its trials.

#include <algorithm>
#include <cmath>
#include <map>

#include "saturn/profile/profile.h"

namespace saturn::profile {
namespace {

constexpr double kUnmeasuredBytesPerS = 5e8;  // of a disk, where no save or load was timed

// Before anything was tested: a tenth in all, and a class is wrong as a whole as often as one of its trials.
constexpr double kPriorCommon = 0.07;
constexpr double kPriorOwn = 0.07;
constexpr double kPriorWeight = 4.0;  // so many classes, and so many second trials of one, outweigh it

using ByTrial = std::map<std::string, const Correction*>;

ByTrial by_trial_of(const Profile& profile, const std::vector<Correction>& corrections) {
  ByTrial by_trial;
  for (const Correction& correction : profile.corrections) by_trial[correction.trial] = &correction;
  for (const Correction& correction : corrections) by_trial[correction.trial] = &correction;
  return by_trial;
}

// Logarithms of the factors that were observed in one class.
struct Observed {
  double sum = 0.0;
  double squares = 0.0;
  double count = 0.0;

  double mean() const { return count > 0.0 ? sum / count : 0.0; }
  double squares_around_mean() const { return std::max(0.0, squares - sum * mean()); }
};
using ByClass = std::map<std::string, Observed>;

ByClass observed(const Profile& profile, const ByTrial& by_trial) {
  ByClass classes;
  for (const Trial& trial : profile.trials) {
    Observed& of_class = classes[trial.job_class];
    const auto known = by_trial.find(trial.id);
    if (trial.outcome != Outcome::ok || known == by_trial.end() || known->second->num_steps == 0) continue;
    const double log_factor = std::log(known->second->step_factor);
    of_class.sum += log_factor;
    of_class.squares += log_factor * log_factor;
    of_class.count += 1.0;
  }
  return classes;
}

// Variances of how far classes are off, and trials within their class.
struct Variances {
  double common = 0.0;
  double own = 0.0;

  // Of a class's mean over its observed trials: what of it holds for the class as a whole.
  double share(const Observed& of_class) const {
    return of_class.count * common / (of_class.count * common + own);
  }
};

// One observation of a class cannot tell its own error from its trial's: both are believed to be larger or
// smaller than before in the same measure, until second trials of classes tell them apart.
Variances variances_of(const ByClass& classes) {
  constexpr double common = kPriorCommon * kPriorCommon;
  constexpr double own = kPriorOwn * kPriorOwn;
  double scale = kPriorWeight;
  double scale_count = kPriorWeight;
  double within = 0.0;
  double within_count = 0.0;
  for (const auto& [name, of_class] : classes) {
    if (of_class.count == 0.0) continue;
    scale += of_class.mean() * of_class.mean() / (common + own / of_class.count);
    scale_count += 1.0;
    within += of_class.squares_around_mean();
    within_count += of_class.count - 1.0;
  }
  scale /= scale_count;
  return {.common = scale * common,
          .own = (kPriorWeight * scale * own + within) / (kPriorWeight + within_count)};
}

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
  const ByTrial by_trial = by_trial_of(profile, corrections);
  const ByClass classes = observed(profile, by_trial);
  const Variances variances = variances_of(classes);

  Profile now = profile;
  now.corrections.clear();
  for (Trial& trial : now.trials) {
    if (trial.outcome != Outcome::ok) continue;
    const auto known = by_trial.find(trial.id);
    const bool timed = known != by_trial.end() && known->second->num_steps > 0;
    const Observed& of_class = classes.at(trial.job_class);
    const double factor =
        timed ? known->second->step_factor : std::exp(of_class.mean() * variances.share(of_class));
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

std::map<std::string, Spread> spreads_of(const Profile& profile, const std::vector<Correction>& corrections) {
  const ByClass classes = observed(profile, by_trial_of(profile, corrections));
  const Variances variances = variances_of(classes);
  std::map<std::string, Spread> spreads;
  for (const auto& [name, of_class] : classes) {
    const double left = variances.common * (1.0 - variances.share(of_class));
    spreads[name] = {.common = std::sqrt(left), .own = std::sqrt(variances.own)};
  }
  return spreads;
}

}  // namespace saturn::profile

// Which trial is worth its time, and when none is any more.
//
// Two plans are compared. One knows only what was measured. The other is given every open candidate besides,
// each as quick as its lower bound. No outcome of the open trials makes a plan better than the second, as far
// as the bounds hold: where the first is within the gap of it, measuring ends. Where it is not, only
// candidates that the second plan uses can tell them apart; of those the one is measured on whose guess most
// device-seconds rest, times how uncertain it is, for each second that its trial takes. Then everything is
// asked anew.
//
// Before that, each speed class gets two trials that work, the classes with most work first: one on the
// fewest devices, without which neither plan nor bounds exist, and one on the most, between which widths are
// interpolated and by which the plan is compared with current practice.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "profile/cost_model.h"
#include "profile/search.h"
#include "saturn/profile/profile.h"

namespace saturn::profile {

/// What is to be measured next, best first; running ones are not named.
struct Choice {
  std::vector<std::string> order;
  bool is_settled = false;  ///< nothing open is worth its time, whatever `order` holds
  double measured_s = 0.0;  ///< as in Decision
  double optimistic_s = 0.0;
  bool is_proved = false;
};

class Worth {
 public:
  Worth(const batch::Batch& batch, std::map<std::string, std::int64_t> num_steps, double gap);

  /// `results` holds all trials that ran, and what corrects them: plans and bounds go by corrected times.
  /// Failures of the planner settle nothing: everything open is in the order. `widening` is the cost model's.
  Choice choose(const Profile& results, const std::vector<Open>& open, double widening) const;

 private:
  std::vector<std::string> first_trials(const std::vector<Trial>& measured,
                                        const std::vector<Open>& open) const;
  double work_of(const Trial& trial) const;  // predicted seconds of all jobs that would use it

  const batch::Batch& batch_;
  std::map<std::string, std::int64_t> num_steps_;
  double gap_ = 0.0;
};

/// A trial of a candidate as it would come out with steps of `step_s`, going by what was measured of its
/// class; `kindest`: with the shortest of the class's other times, else those of the trial nearest to it.
Trial as_if_measured(const Trial& candidate, double step_s, const std::vector<Trial>& measured, bool kindest);

/// Seconds of a trial of `candidate` at least: its start and the steps that must be timed.
double shortest_trial_s(const Trial& candidate, const batch::ProfileSettings& settings,
                        const std::vector<Trial>& measured, const CostModel& model);

}  // namespace saturn::profile

// What running jobs say of their own speed, and what that means for estimates.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "saturn/batch/batch.h"
#include "saturn/journal/run_state.h"
#include "saturn/profile/profile.h"

namespace saturn::run {

/// The step times of one attempt: the first step is left out (it warms caches up), and what is typical is the
/// median of the latest ones, which neither a save, a page fault nor a swapped-out second moves.
class StepTimes {
 public:
  void add(double step_time_s);
  journal::StepPace pace() const;

 private:
  static constexpr std::size_t kKept = 64;
  std::vector<double> latest_;  // a ring once it is full
  std::size_t next_ = 0;
  std::int64_t num_added_ = 0;
};

/// Steps that must have been timed before an attempt says anything of its configuration.
inline constexpr std::int64_t kFewestTimedSteps = 5;

/// What the attempts of a run found of the trials they ran as: step times pooled by median over attempts,
/// start times by the latest. `live` are paces of running attempts that are newer than the journal's, by job.
///
/// A straggler (see `stragglers`) says nothing of its trial.
std::vector<profile::Correction> corrections_of(const journal::RunState& state,
                                                const std::map<std::string, journal::StepPace>& live = {});

/// `measured` as it would be measured now, by what the run has found.
profile::Profile estimates_of(const profile::Profile& measured, const journal::RunState& state,
                              const std::map<std::string, journal::StepPace>& live = {});

/// Jobs whose running attempt is slower than the median of the others that run as the same trial by more than
/// a quarter and three times the spread: it is the device, not the configuration.
std::vector<std::string> stragglers(const journal::RunState& state,
                                    const std::map<std::string, journal::StepPace>& live = {});

/// Steps took so many times as long as the profile says; nothing where too few were timed or it does not say.
std::optional<double> slowdown_of(const journal::Attempt& attempt, const journal::StepPace& pace);

/// Seconds until the end of a job that trains, by its own steps where enough were timed, else by `trial`;
/// evaluations, saves and the end as the trial says.
double remaining_s(const batch::Job& job, const batch::RunSettings& run, const profile::Trial& trial,
                   const journal::StepPace& pace, std::int64_t step, std::int64_t num_steps);

}  // namespace saturn::run

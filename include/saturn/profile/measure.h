// Has the trials measured: one process group each, the other slots loaded as they will be in the run.

#pragma once

#include <functional>
#include <optional>
#include <string>

#include "saturn/base/clock.h"
#include "saturn/profile/cache.h"
#include "saturn/profile/profile.h"
#include "saturn/worker/launcher.h"

namespace saturn::profile {

/// How profiling is watched. Called from its loop, in order; must return quickly.
class ProfileObserver {
 public:
  virtual ~ProfileObserver() = default;

  /// A sentence for the person who watches: "measuring 4 trials: this machine has other devices".
  virtual void on_note(const std::string& sentence) = 0;
  virtual void on_begin(int num_trials, int num_reused) = 0;
  virtual void on_trial_started(const Trial& trial) = 0;
  virtual void on_trial_step(const Trial& trial, int step, int num_steps) = 0;
  /// `eta_s` until the last trial ends, as far as can be told; negative where it cannot.
  virtual void on_trial_ended(const Trial& trial, int num_ended, int num_trials, double eta_s) = 0;
  /// At least once every poll of the loop.
  virtual void on_tick(double elapsed_s) = 0;
};

class SilentProfileObserver final : public ProfileObserver {
 public:
  void on_note(const std::string&) override {}
  void on_begin(int, int) override {}
  void on_trial_started(const Trial&) override {}
  void on_trial_step(const Trial&, int, int) override {}
  void on_trial_ended(const Trial&, int, int, double) override {}
  void on_tick(double) override {}
};

/// Measuring more is not worth its time where the plan gains less than this by it.
inline constexpr double kWorthwhileGap = 0.01;

/// `kWorthwhileGap`; 0 for batches whose plan is made again while they run, by other lengths than are known
/// now (introspection, early stopping): they need what the first plan does not.
double usual_gap(const batch::Batch& batch);

struct MeasureRequest {
  const batch::Batch* batch = nullptr;
  const devices::Machine* machine = nullptr;
  std::string trials_directory;       ///< logs and scratch; a trial that worked leaves nothing there
  const Profile* previous = nullptr;  ///< trials that still hold are taken from it
  /// No trial begins that would not end within it, going by what is known; one that runs ends as soon as its
  /// fewest steps are timed. Absent = the batch's.
  std::optional<double> budget_s;
  /// Measuring ends where nothing that was not measured can improve the plan's objective by more than this
  /// share. 0 = only where nothing is left that could be quicker than what was measured beside it.
  double gap = kWorthwhileGap;
  bool everything = false;            ///< measures also what cannot win; only what would not fit is left out
  const TrialCache* cache = nullptr;  ///< where trials of other batches are found and these are kept
  /// Called after each trial with everything known so far: what is kept when this is interrupted.
  std::function<Result<void>(const Profile&)> keep;
  std::function<bool()> stop;  ///< asked at every poll: true ends the trials that run
};

/// Measures what `previous` and the cache do not hold and the plan may depend on; `Profile::decision` says
/// why it ended. A trial that fails, in any way, is a result and stops nothing. What was left out and can be
/// estimated is in the profile as interpolated.
///
/// Errors: those of the batch's data; Kind::interrupted when `stop` said so; Kind::machine where no process
/// can be started; those of `keep`.
Result<Profile> measure(const MeasureRequest& request, worker::Launcher& launcher, const Clock& clock,
                        ProfileObserver& observer);

}  // namespace saturn::profile

// Shows a profile being measured: what the trials say, on the display of trials.

#pragma once

#include "saturn/profile/measure.h"
#include "saturn/view/displays.h"

namespace saturn::cli {

class ProfileDisplay final : public profile::ProfileObserver {
 public:
  ProfileDisplay(view::Screen screen, const Clock& clock) : display_(std::move(screen), clock) {}

  void on_note(const std::string& sentence) override;
  void on_begin(int num_trials, int num_reused) override;
  void on_trial_started(const profile::Trial& trial) override;
  void on_trial_step(const profile::Trial& trial, int step, int num_steps) override;
  void on_trial_ended(const profile::Trial& trial, int num_ended, int num_trials, double eta_s) override;
  void on_tick(double elapsed_s) override;

  /// Removes the area. Call before anything else is printed.
  void finish() { display_.finish(); }

 private:
  view::TrialDisplay display_;
};

}  // namespace saturn::cli

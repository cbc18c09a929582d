// What profile, plan and run begin with: the batch, the devices it runs on, and the run directory.

#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "cli/command.h"
#include "saturn/base/clock.h"
#include "saturn/base/signals.h"
#include "saturn/batch/batch.h"
#include "saturn/devices/machine.h"
#include "saturn/profile/cache.h"
#include "saturn/profile/measure.h"
#include "saturn/view/displays.h"
#include "saturn/worker/launcher.h"

namespace saturn::cli {

struct Stage {
  batch::Batch batch;
  devices::Machine machine;
  std::string directory;  ///< of the run
};

/// `batch::read_batch`, with the making of tokens shown on stderr.
Result<batch::Batch> read_batch(const std::string& path, bool quiet);

/// Reads the batch, finds the devices it asks for, and checks one against the other.
/// `directory` is what --dir says; empty = runs/<batch name>.
Result<Stage> open_stage(const std::string& batch_path, const std::string& directory, bool quiet);

/// Errors: Kind::input where a program proposes the jobs, so that there are none ahead of the run.
Result<void> require_jobs(const batch::Batch& batch);

/// Ranks as processes of this machine.
Result<std::unique_ptr<worker::Launcher>> open_launcher(const Clock& clock);

/// The user's cache of trials; nothing where it is turned off, or there is no place for one.
std::optional<profile::TrialCache> open_trial_cache(const Clock& clock);

/// Exit code for the signal that came first: 130 for INT, 143 for TERM, and for `saturn stop`.
int exit_code_of_signal();

/// Shows trials on stderr.
class TrialProgress final : public profile::ProfileObserver {
 public:
  TrialProgress(bool quiet, const Clock& clock) : display_(view::stderr_screen(quiet), clock) {}

  void on_note(const std::string& sentence) override;
  void on_begin(int num_trials, int num_reused) override;
  void on_trial_started(const profile::Trial& trial) override;
  void on_trial_step(const profile::Trial& trial, int step, int num_steps) override;
  void on_trial_ended(const profile::Trial& trial, int num_ended, int num_trials, double eta_s) override;
  void on_tick(double elapsed_s) override;
  void finish() { display_.finish(); }

 private:
  view::TrialDisplay display_;
};

}  // namespace saturn::cli

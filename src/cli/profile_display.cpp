// Trials in words.

#include "cli/profile_display.h"

#include "saturn/base/units.h"

namespace saturn::cli {
namespace {

std::string step_time(double seconds) {
  return seconds < 1 ? format_number(1000 * seconds, 3) + " ms" : format_number(seconds, 3) + " s";
}

std::string result_of(const profile::Trial& trial) {
  switch (trial.outcome) {
    case profile::Outcome::ok:
      return step_time(trial.step_time_s) + " a step, " +
             format_bytes(static_cast<double>(trial.memory_peak_bytes)) + " a device";
    case profile::Outcome::out_of_memory:
      return "out of memory: " + trial.reason;
    case profile::Outcome::unsupported:
      return "unsupported: " + trial.reason;
    case profile::Outcome::failed:
      return "failed: " + trial.reason;
  }
  return trial.reason;
}

}  // namespace

void ProfileDisplay::on_note(const std::string& sentence) {
  display_.note(sentence);
}

void ProfileDisplay::on_begin(int num_trials, int num_reused) {
  display_.begin(num_trials, num_reused);
}

void ProfileDisplay::on_trial_started(const profile::Trial& trial) {
  display_.started(trial.id);
}

void ProfileDisplay::on_trial_step(const profile::Trial& trial, int step, int num_steps) {
  display_.step(trial.id, step, num_steps);
}

void ProfileDisplay::on_trial_ended(const profile::Trial& trial, int num_ended, int, double eta_s) {
  display_.ended(trial.id, result_of(trial), num_ended, eta_s);
}

void ProfileDisplay::on_tick(double elapsed_s) {
  display_.tick(elapsed_s);
}

}  // namespace saturn::cli

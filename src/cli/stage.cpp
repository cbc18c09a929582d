// The common beginning of the stages.

#include "cli/stage.h"

#include <sys/stat.h>

#include <csignal>

#include "saturn/base/units.h"
#include "saturn/batch/check_devices.h"
#include "saturn/batch/read_batch.h"
#include "saturn/journal/run_directory.h"
#include "saturn/view/encoding_display.h"
#include "saturn/worker/catalogue.h"
#include "saturn/worker/gpu_probe.h"
#include "saturn/worker/local_launcher.h"
#include "saturn/worker/train_library.h"

namespace saturn::cli {
namespace {

// "single x1 of gpt2-toy-...", short enough for a line.
std::string name_of(const profile::Trial& trial) {
  return trial.jobs.front() + (trial.jobs.size() > 1 ? " +" + std::to_string(trial.jobs.size() - 1) : "") +
         " " + batch::to_text(trial.configuration);
}

std::string result_of(const profile::Trial& trial) {
  if (trial.outcome != profile::Outcome::ok)
    return std::string(profile::name_of(trial.outcome)) + ": " + trial.reason;
  return format_number(trial.step_time_s * 1e3, 3) + " ms a step, " +
         format_bytes(static_cast<double>(trial.memory_peak_bytes));
}

}  // namespace

Result<batch::Batch> read_batch(const std::string& path, bool quiet) {
  const SystemClock clock;
  view::EncodingDisplay display(view::stderr_screen(quiet), clock);
  auto batch = batch::read_batch(path, [&](const std::string& file, std::uint64_t done, std::uint64_t all) {
    display.progress(file, done, all);
  });
  display.finish();
  return batch;
}

Result<Stage> open_stage(const std::string& batch_path, const std::string& directory, bool quiet) {
  SATURN_TRY(batch::Batch batch, read_batch(batch_path, quiet));
  SATURN_TRY(devices::Machine machine, devices::detect_machine(batch.devices, worker::make_gpu_probe()));
  SATURN_TRY_VOID(worker::learn_techniques(batch, batch::device_groups(machine)));
  SATURN_TRY_VOID(batch::check_devices(batch, batch::device_groups(machine)));
  std::string root = directory.empty() ? journal::default_run_directory(batch.name) : directory;
  return Stage{.batch = std::move(batch), .machine = std::move(machine), .directory = std::move(root)};
}

Result<void> require_jobs(const batch::Batch& batch) {
  if (!batch.jobs.empty()) return {};
  return Diagnostic{.where = batch.positions.at("search").text(),
                    .what = "the jobs of " + batch.path + " are proposed while it runs",
                    .expected = "a batch that lists its jobs, to measure and plan them ahead",
                    .fix = "saturn run " + batch.path};
}

Result<std::unique_ptr<worker::Launcher>> open_launcher(const Clock& clock) {
  return worker::make_local_launcher({}, clock);
}

std::optional<profile::TrialCache> open_trial_cache(const Clock& clock) {
  const std::optional<std::string> directory = profile::TrialCache::usual_directory();
  if (!directory) return std::nullopt;
  // A library that was built again may train at another speed.
  std::string training;
  for (const std::string& path : worker::train_library_paths()) {
    struct stat found = {};
    if (::stat(path.c_str(), &found) != 0) continue;
    training = std::to_string(found.st_size) + "-" + std::to_string(found.st_mtim.tv_sec) + "." +
               std::to_string(found.st_mtim.tv_nsec);
    break;
  }
  return profile::TrialCache(*directory, training, clock);
}

int exit_code_of_signal() {
  return 128 + (StopSignals::first() > 0 ? StopSignals::first() : SIGTERM);
}

void TrialProgress::on_note(const std::string& sentence) {
  display_.note(sentence);
}

void TrialProgress::on_begin(int num_trials, int num_reused) {
  display_.begin(num_trials, num_reused);
}

void TrialProgress::on_trial_started(const profile::Trial& trial) {
  display_.started(name_of(trial));
}

void TrialProgress::on_trial_step(const profile::Trial& trial, int step, int num_steps) {
  display_.step(name_of(trial), step, num_steps);
}

void TrialProgress::on_trial_ended(const profile::Trial& trial, int num_ended, int num_trials, double eta_s) {
  display_.ended(name_of(trial), result_of(trial), num_ended, num_trials, eta_s);
}

void TrialProgress::on_tick(double elapsed_s) {
  display_.tick(elapsed_s);
}

}  // namespace saturn::cli

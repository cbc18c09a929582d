// A batch of toy jobs on two CPU slots that exist only on paper, run by a scripted launcher on a virtual
// clock.

#pragma once

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "saturn/journal/run_directory.h"
#include "saturn/run/session.h"
#include "saturn/worker/scripted_launcher.h"
#include "tests/support/temporary_directory.h"

namespace saturn::testing {

inline devices::Machine cpu_machine(int num_slots, std::int64_t memory_bytes = 0) {
  devices::Node node{.name = "local", .device_class = "cpu", .host_memory_bytes = std::int64_t{16} << 30};
  for (int i = 0; i < num_slots; ++i) {
    node.devices.push_back({.index = i,
                            .kind = "cpu",
                            .device_class = "cpu",
                            .memory_bytes = memory_bytes,
                            .cores = {i},
                            .threads = 1});
  }
  return {.nodes = {node}, .cpu_model = "paper"};
}

/// Writes down what it is told.
class RecordingObserver final : public journal::RunObserver {
 public:
  void on_note(const std::string& sentence) override {
    notes.push_back(sentence);
    if (after_note) after_note(sentence);
  }
  void on_plan(const plan::Plan& plan, const journal::RunState&) override { plans.push_back(plan); }
  void on_event(const journal::Event& event, const journal::RunState&) override {
    events.push_back(event);
    if (after_event) after_event(event);
  }
  void on_step(const std::string&, const journal::StepReport&, const journal::RunState&) override {
    ++num_steps;
  }
  void on_tick(const journal::RunState&, double) override {}

  bool has_note(const std::string& part) const {
    for (const std::string& note : notes) {
      if (note.find(part) != std::string::npos) return true;
    }
    return false;
  }
  int count(journal::EventKind kind, const std::string& job = "") const {
    int n = 0;
    for (const journal::Event& event : events)
      n += event.kind == kind && (job.empty() || event.job == job) ? 1 : 0;
    return n;
  }

  std::vector<std::string> notes;
  std::vector<plan::Plan> plans;
  std::vector<journal::Event> events;
  int num_steps = 0;
  std::function<void(const journal::Event&)> after_event;
  std::function<void(const std::string&)> after_note;
};

/// One folder with a batch and its run directory; every `run` is a controller of its own.
class ScriptedRun {
 public:
  explicit ScriptedRun(std::vector<worker::ScriptRow> table = {}) {
    script(std::move(table));
    REQUIRE(write_whole(folder_.file("text.txt"), std::string(4000, 'a')).ok());
    write_batch({"a", "b", "c"});
  }

  /// The next runs play `table`, and what it does not match by steps of a second.
  void script(std::vector<worker::ScriptRow> table) {
    table_ = std::move(table);
    table_.push_back(
        {.mode = worker::Mode::trial, .script = {.start_s = 0.5, .save_s = 0.1, .step_time_s = 1.0}});
    table_.push_back({.mode = worker::Mode::load, .script = {.step_time_s = 0.5}});
    table_.push_back({.script = {.start_s = 0.5,
                                 .load_s = 0.2,
                                 .save_s = 0.1,
                                 .step_time_s = 1.0,
                                 .metrics = {{"validation_loss", 2.0}, {"unigram_loss", 3.0}}}});
  }

  /// Jobs of 20 steps; `extra` goes into each [[job]].
  void write_batch(const std::vector<std::string>& jobs, const std::string& extra = "",
                   const std::string& run_settings = "checkpoint_every = 5\n",
                   const std::string& lr_of_last = "1e-3", const std::string& file_name = "batch.toml") {
    std::string text =
        "[batch]\nname = \"paper\"\nseed = 5\n[data.text]\nkind = \"text\"\npath = \"text.txt\"\n"
        "sequence_length = 16\n[run]\n" +
        run_settings;
    // Two techniques are enough for what these tests are about, however many there are.
    const bool chooses = extra.find("techniques") != std::string::npos;
    const std::string techniques = chooses ? "" : "techniques = [\"single\", \"ddp\"]\n";
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      text += "[[job]]\nname = \"" + jobs[i] +
              "\"\nmodel = \"gpt2-toy\"\ndata = \"text\"\nsteps = 20\nbatch_size = 4\n" + techniques + extra +
              "[job.optimizer]\nlr = " + (i + 1 == jobs.size() ? lr_of_last : "1e-3") + "\n";
    }
    REQUIRE(write_whole(file(file_name), text).ok());
  }

  std::string batch_path() const { return folder_.file("batch.toml"); }
  std::string file(const std::string& name) const { return folder_.file(name); }
  std::string root() const { return folder_.file("run"); }
  journal::RunPaths paths() const { return journal::RunPaths(root()); }
  FakeClock& clock() { return clock_; }

  Result<run::SessionResult> run() {
    SATURN_TRY(const batch::Batch batch, batch::read_batch(batch_path()));
    SATURN_TRY(journal::RunDirectory directory, journal::RunDirectory::open(root(), clock_));
    launcher = std::make_unique<worker::ScriptedLauncher>(clock_, table_);
    const std::unique_ptr<run::Planner> planner = run::make_inline_planner();
    run::SessionRequest own = request;
    own.batch = &batch;
    own.machine = &machine;
    profile::SilentProfileObserver trials;
    worker::Launcher* used = launcher.get();
    if (wrap_launcher) used = &wrap_launcher(*launcher);
    return run::run_session(own, directory,
                            {.launcher = used,
                             .clock = &clock_,
                             .planner = planner.get(),
                             .observer = &observer,
                             .profile_observer = &trials,
                             .stop_count = stop_count,
                             .start_program = start_program,
                             .trial_cache = trial_cache});
  }

  journal::RunState state() const {
    const Result<journal::RunState> state = journal::read_run_state(paths());
    REQUIRE(state.ok());
    return *state;
  }

  /// Launches that trained (not trials) of the last run, by job name.
  std::vector<worker::LaunchRequest> trained(const std::string& job = "") const {
    std::vector<worker::LaunchRequest> requests;
    for (const worker::LaunchRequest& request : launcher->launched()) {
      if (request.ranks.front().mode != worker::Mode::train) continue;
      if (job.empty() || request.ranks.front().job["name"] == job) requests.push_back(request);
    }
    return requests;
  }

  devices::Machine machine = cpu_machine(2);
  run::SessionRequest request;
  RecordingObserver observer;
  std::function<int()> stop_count;
  std::function<Result<std::unique_ptr<worker::LineProgram>>(const std::string&)> start_program;
  const profile::TrialCache* trial_cache = nullptr;
  std::unique_ptr<worker::ScriptedLauncher> launcher;
  std::function<worker::Launcher&(worker::ScriptedLauncher&)> wrap_launcher;

 private:
  TemporaryDirectory folder_;
  FakeClock clock_;
  std::vector<worker::ScriptRow> table_;
};

}  // namespace saturn::testing

// Launches the ranks of a toy job, through the built executable and its training library, and hears what they
// say.

#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "saturn/base/clock.h"
#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/worker/local_launcher.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_directory.h"

namespace saturn::testing {

inline const SystemClock kClock;

/// Everything the ranks of one attempt said.
struct Told {
  std::vector<worker::Step> steps;
  std::vector<worker::CheckpointSaved> checkpoints;
  std::vector<worker::Metric> metrics;
  std::vector<worker::Warning> warnings;
  std::vector<worker::Finished> finished;
  std::map<int, worker::Error> errors;  // by rank
  std::map<int, worker::Ended> ended;
};

class Attempt {
 public:
  explicit Attempt(const std::string& more_keys = "",
                   const std::string& text = source_directory() + "/tests/train/genesis.txt") {
    worker::LocalLauncherOptions options;
    options.executable = binary_directory() + "/saturn";
    options.exit_grace_s = 60.0;  // a busy machine takes its time to take a process apart
    launcher = *worker::make_local_launcher(options, kClock);
    std::filesystem::copy_file(text, directory.file("text.txt"));
    REQUIRE(write_whole(
                directory.file("batch.toml"),
                "[batch]\nname = \"t\"\nseed = 5\n[data.text]\nkind = \"text\"\npath = \"text.txt\"\n"
                "tokenizer = \"bytes\"\nsequence_length = 64\n[[job]]\nname = \"toy\"\nmodel = \"gpt2-toy\"\n"
                "data = \"text\"\nsteps = 12\nbatch_size = 8\n" +
                    more_keys +
                    (more_keys.find("[job.optimizer]") == std::string::npos ? "[job.optimizer]\nlr = 3e-3\n"
                                                                            : ""))
                .ok());
    const auto batch = batch::read_batch(directory.file("batch.toml"));
    const std::string faults = batch.ok() ? "" : to_text(batch.faults());
    REQUIRE(faults == "");
    job = batch->jobs.at(0);
    data = batch->data.at("text");
    assign.mode = worker::Mode::train;
    assign.to_step = 1 << 20;
    assign.threads = 1;
    assign.seed = job.seed;
    assign.rendezvous.timeout_s = 60;
    assign.job_directory = directory.file("toy");
    assign.log_path = directory.file("log.txt");
  }

  /// Starts `num_ranks` ranks of `assign` and listens until they have ended; `on_step` may send and kill.
  Told run(int num_ranks, const std::function<void(const worker::Step&)>& on_step = {}) {
    Told told;
    worker::LaunchRequest request{.attempt = "toy#" + std::to_string(++num_attempts_)};
    batch::Configuration configuration{
        .technique = num_ranks == 1 ? "single" : "ddp", .num_devices = num_ranks, .num_ranks = num_ranks};
    if (!technique.empty()) configuration.technique = technique;
    configuration.knobs = knobs;
    assign.job = batch::to_json(job);
    assign.data = batch::to_json(data);
    assign.configuration = batch::to_json(configuration);
    assign.num_ranks = num_ranks;
    assign.devices = {devices::Device{}};
    for (assign.rank = 0; assign.rank < num_ranks; ++assign.rank) request.ranks.push_back(assign);
    attempt = request.attempt;
    auto launched = launcher->launch(request);
    REQUIRE(launched.ok());
    processes = *launched;
    if (on_launch) on_launch();
    const double start_s = kClock.now_s();
    while (static_cast<int>(told.ended.size()) < num_ranks) {
      REQUIRE(kClock.now_s() - start_s < 120.0);
      for (const worker::WorkerEvent& event : launcher->poll(1.0)) {
        if (const auto* ended = std::get_if<worker::Ended>(&event.what)) {
          told.ended[event.rank] = *ended;
          continue;
        }
        const auto& message = std::get<worker::FromRank>(event.what);
        if (const auto* step = std::get_if<worker::Step>(&message)) {
          told.steps.push_back(*step);
          if (on_step) on_step(*step);
        }
        if (const auto* beat = std::get_if<worker::Heartbeat>(&message); beat != nullptr && on_beat)
          on_beat(*beat);
        if (const auto* saved = std::get_if<worker::CheckpointSaved>(&message))
          told.checkpoints.push_back(*saved);
        if (const auto* metric = std::get_if<worker::Metric>(&message)) told.metrics.push_back(*metric);
        if (const auto* warning = std::get_if<worker::Warning>(&message)) told.warnings.push_back(*warning);
        if (const auto* finished = std::get_if<worker::Finished>(&message))
          told.finished.push_back(*finished);
        if (const auto* error = std::get_if<worker::Error>(&message)) told.errors[event.rank] = *error;
      }
    }
    return told;
  }

  Told run_well(int num_ranks, const std::function<void(const worker::Step&)>& on_step = {}) {
    Told told = run(num_ranks, on_step);
    for (const auto& [rank, error] : told.errors) {
      CAPTURE(rank);
      REQUIRE(error.message == "");
    }
    REQUIRE(static_cast<int>(told.finished.size()) == num_ranks);
    for (const auto& [rank, ended] : told.ended) {
      CAPTURE(rank);
      CAPTURE(ended.reason);
      REQUIRE(ended.exit_code == 0);
    }
    return told;
  }

  std::string final_weights() const {
    return *read_whole(join_path(assign.job_directory, "model/model.safetensors"));
  }
  int num_metric_lines() const {
    const std::string text = *read_whole(join_path(assign.job_directory, "metrics.jsonl"));
    return static_cast<int>(std::count(text.begin(), text.end(), '\n'));
  }

  TemporaryDirectory directory;
  std::unique_ptr<worker::Launcher> launcher;
  batch::Job job;
  batch::DataSource data;
  worker::Assign assign;
  std::string technique;  ///< empty: single, or ddp on several ranks
  Json knobs = Json::object();
  std::function<void()> on_launch;  ///< what it sends lies before the first step, however fast that is
  std::function<void(const worker::Heartbeat&)> on_beat;
  std::string attempt;
  std::vector<worker::RankProcess> processes;

 private:
  int num_attempts_ = 0;
};

}  // namespace saturn::testing

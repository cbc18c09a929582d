// Whole ranks: the built executable's workers train the toy on real text, are measured, stopped, resumed,
// starved and killed. genesis.txt is the first 60 kB of the King James Bible.

#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>

#include "saturn/base/clock.h"
#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/worker/local_launcher.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_directory.h"

namespace saturn::train {
namespace {

using saturn::testing::TemporaryDirectory;
namespace fs = std::filesystem;

const SystemClock kClock;

/// Everything the ranks of one attempt said.
struct Told {
  std::vector<worker::Step> steps;
  std::vector<worker::CheckpointSaved> checkpoints;
  std::vector<worker::Metric> metrics;
  std::vector<worker::Finished> finished;
  std::map<int, worker::Error> errors;  // by rank
  std::map<int, worker::Ended> ended;
  double last_event_s = 0.0;
};

class Attempt {
 public:
  explicit Attempt(const std::string& more_keys = "",
                   const std::string& text = testing::source_directory() + "/tests/train/genesis.txt") {
    worker::LocalLauncherOptions options;
    options.executable = testing::binary_directory() + "/saturn";
    launcher = *worker::make_local_launcher(options, kClock);
    fs::copy_file(text, directory.file("text.txt"));
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
    const double start_s = kClock.now_s();
    while (static_cast<int>(told.ended.size()) < num_ranks) {
      REQUIRE(kClock.now_s() - start_s < 120.0);
      for (const worker::WorkerEvent& event : launcher->poll(1.0)) {
        told.last_event_s = kClock.now_s();
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
    for (const auto& [rank, ended] : told.ended) REQUIRE(ended.exit_code == 0);
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
  std::string technique;
  std::function<void(const worker::Heartbeat&)> on_beat;
  std::string attempt;
  std::vector<worker::RankProcess> processes;

 private:
  int num_attempts_ = 0;
};

worker::Error only_error(const Told& told) {
  REQUIRE(told.errors.size() == 1);
  REQUIRE(told.finished.empty());
  CHECK(told.ended.at(0).exit_code == 1);
  return told.errors.begin()->second;
}

}  // namespace

TEST_SUITE("rank") {
  TEST_CASE("train/rank: the toy learns real text past what letter counts can tell") {
    Attempt attempt("evaluate_every = 100\n");
    attempt.job.amount.value = 250;
    const Told told = attempt.run_well(1);
    REQUIRE(told.steps.size() == 250);
    CHECK(told.steps.front().step == 1);
    CHECK(told.steps.front().loss > 5.0);  // log(256) = 5.5
    CHECK(told.steps.front().samples == 8);
    CHECK(told.steps.front().tokens == 8 * 64);
    const auto& metrics = told.finished[0].metrics;
    CHECK(metrics.at("unigram_loss") > 2.5);
    CHECK(metrics.at("unigram_loss") < 3.5);
    CHECK(metrics.at("validation_loss") < 2.6);
    CHECK(metrics.at("validation_loss") < metrics.at("unigram_loss"));
    CHECK(metrics.at("train_loss") < 2.6);
    CHECK(told.finished[0].steps == 250);
    CHECK(told.finished[0].memory_peak_bytes > 1 << 20);
    CHECK(told.finished[0].host_memory_peak_bytes > told.finished[0].memory_peak_bytes);
    REQUIRE(told.metrics.size() == 3);
    CHECK(told.metrics[0].step == 100);
    CHECK(told.metrics[0].values.count("unigram_loss") == 0);
    CHECK(attempt.num_metric_lines() == 253);
    CHECK(fs::exists(attempt.directory.file("toy/model/config.json")));
    CHECK(fs::exists(attempt.directory.file("toy/model/model.safetensors")));
  }

  TEST_CASE("train/rank: a job that was stopped and goes on ends with the same bytes") {
    for (int num_ranks : {1, 2}) {
      CAPTURE(num_ranks);
      Attempt straight("dropout = 0.1\nmicro_batches = 2\n");
      const Told all = straight.run_well(num_ranks);
      REQUIRE(all.steps.size() == 12);

      Attempt stopped("dropout = 0.1\nmicro_batches = 2\n");
      stopped.assign.checkpoint_every = 2;
      stopped.assign.keep_checkpoints = 2;
      const Told first = stopped.run_well(num_ranks, [&](const worker::Step& step) {
        if (step.step == 1) stopped.launcher->send_all(stopped.attempt, worker::StopAtStep{5});
      });
      REQUIRE(first.checkpoints.size() == 3);
      CHECK(first.checkpoints.back().step == 5);
      CHECK(first.finished[0].steps == 5);
      CHECK(!fs::exists(stopped.directory.file("toy/checkpoints/step-000002")));
      CHECK(fs::exists(stopped.directory.file("toy/checkpoints/step-000004/manifest.json")));

      stopped.assign.resume_from = first.checkpoints.back().path;
      stopped.assign.from_step = 5;
      const Told rest = stopped.run_well(num_ranks);
      REQUIRE(rest.steps.size() == 7);
      for (std::size_t i = 0; i < rest.steps.size(); ++i) CHECK(rest.steps[i].loss == all.steps[i + 5].loss);
      CHECK(stopped.final_weights() == straight.final_weights());
      CHECK(stopped.num_metric_lines() == straight.num_metric_lines());
    }
  }

  TEST_CASE("train/rank: a segment that ends before its job leaves a checkpoint and no model") {
    Attempt attempt;
    attempt.assign.to_step = 4;
    const Told told = attempt.run_well(1);
    REQUIRE(told.checkpoints.size() == 1);
    CHECK(told.checkpoints[0].step == 4);
    CHECK(told.finished[0].steps == 4);
    CHECK(!fs::exists(attempt.directory.file("toy/model")));
  }

  TEST_CASE("train/rank: a trial is timed step by step and leaves nothing behind") {
    Attempt attempt;
    attempt.assign.mode = worker::Mode::trial;
    attempt.assign.warmup_steps = 2;
    attempt.assign.trial_steps = 4;
    const Told told = attempt.run_well(2);
    CHECK(told.steps.size() == 6);
    for (const worker::Step& step : told.steps) CHECK(step.step_time_s > 0.0);
    for (const char* name : {"start_s", "save_s", "load_s", "evaluate_s", "export_s"}) {
      CAPTURE(name);
      REQUIRE(told.finished[0].times.count(name) == 1);
      CHECK(told.finished[0].times.at(name) > 0.0);
      CHECK(told.finished[0].times.at(name) < 20.0);
    }
    CHECK(fs::is_empty(attempt.directory.file("toy")));
  }

  TEST_CASE("train/rank: a verification leaves the weights before and after its steps") {
    Attempt attempt;
    attempt.assign.mode = worker::Mode::verify;
    attempt.assign.trial_steps = 3;
    const Told told = attempt.run_well(2);
    CHECK(told.steps.size() == 3);
    CHECK(told.finished[0].steps == 3);
    CHECK(told.finished[0].knobs.is_object());
    CHECK(fs::exists(attempt.directory.file("toy/checkpoints/step-000000/manifest.json")));
    CHECK(fs::exists(attempt.directory.file("toy/checkpoints/step-000003/manifest.json")));
    CHECK(!fs::exists(attempt.directory.file("toy/model")));
  }

  TEST_CASE("train/rank: the load beside a trial steps until it is ended") {
    Attempt attempt;
    attempt.assign.mode = worker::Mode::load;
    attempt.on_beat = [&](const worker::Heartbeat& beat) {
      if (beat.step > 12)
        attempt.launcher->send_all(attempt.attempt, worker::End{});  // more than the job has
    };
    const Told told = attempt.run_well(1);
    CHECK(told.finished[0].steps > 12);
    CHECK(told.steps.empty());
    CHECK(!fs::exists(attempt.directory.file("toy")));
  }

  TEST_CASE("train/rank: every kind of failure is told apart and ends the rank alone") {
    using worker::ErrorClass;
    struct Row {
      std::string label;
      std::function<void(Attempt&)> spoil;
      ErrorClass want;
      std::string message;
    };
    const std::vector<Row> rows = {
        {"memory", [](Attempt& a) { a.assign.memory_limit_bytes = 3 << 20; }, ErrorClass::out_of_memory,
         "the limit is 3.0 MiB"},
        {"data", [](Attempt& a) { fs::remove(a.directory.file("text.txt")); }, ErrorClass::data, "text.txt"},
        {"numbers", [](Attempt& a) { a.job.optimizer.lr = 1e30; }, ErrorClass::numerical, "the loss is"},
        {"technique", [](Attempt& a) { a.technique = "no-such"; }, ErrorClass::unsupported,
         "only single, ddp"},
        {"checkpoint", [](Attempt& a) { a.assign.resume_from = a.directory.file("none"); }, ErrorClass::data,
         "none"},
        {"directory", [](Attempt& a) { a.assign.job_directory = a.directory.file("text.txt") + "/x"; },
         ErrorClass::internal, "text.txt/x"},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      Attempt attempt;
      row.spoil(attempt);
      const worker::Error error = only_error(attempt.run(1));
      CAPTURE(error.message);
      CHECK(to_string(error.error_class) == to_string(row.want));
      CHECK(error.message.find(row.message) != std::string::npos);
    }
  }

  TEST_CASE("train/rank: a rank that is killed takes its peer down and is the one to blame") {
    Attempt attempt;
    attempt.job.amount.value = 100000;
    double killed_s = 0.0;
    const Told told = attempt.run(2, [&](const worker::Step& step) {
      if (step.step != 5) return;
      ::kill(attempt.processes[1].pid, SIGKILL);
      killed_s = kClock.now_s();
    });
    CHECK(told.ended.at(1).signal == SIGKILL);
    REQUIRE(told.errors.count(0) == 1);
    CHECK(to_string(told.errors.at(0).error_class) == "peer_lost");
    CHECK(told.last_event_s - killed_s < 5.0);
  }
}

}  // namespace saturn::train

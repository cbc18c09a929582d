// Whole ranks: the built executable's workers train the toy on real text, are measured, stopped, resumed,
// starved and killed. genesis.txt is the first 60 kB of the King James Bible.

#include <doctest/doctest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include "saturn/base/clock.h"
#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/worker/local_launcher.h"
#include "tests/support/paths.h"
#include "tests/support/temporary_directory.h"
#include "tests/train/attempt.h"

namespace saturn::train {
namespace {

using saturn::testing::Attempt;
using saturn::testing::TemporaryDirectory;
using saturn::testing::Told;
namespace fs = std::filesystem;

worker::Error only_error(const Told& told) {
  REQUIRE(told.errors.size() == 1);
  REQUIRE(told.finished.empty());
  CHECK(told.ended.at(0).exit_code == 1);
  return told.errors.begin()->second;
}

// Addresses of the sockets that the process listens on, as /proc/net/tcp and tcp6 write them.
std::vector<std::string> listening_addresses(int pid) {
  std::set<std::string> inodes;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc/" + std::to_string(pid) + "/fd", ignored)) {
    const std::string target = fs::read_symlink(entry.path(), ignored).string();
    if (target.starts_with("socket:[")) inodes.insert(target.substr(8, target.size() - 9));
  }
  std::vector<std::string> addresses;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::istringstream lines(read_whole(table).ok() ? *read_whole(table) : "");
    std::string line;
    std::getline(lines, line);  // the heading
    while (std::getline(lines, line)) {
      std::istringstream fields(line);
      std::string number, local, remote, state, queues, timer, retransmits, user, timeout, inode;
      fields >> number >> local >> remote >> state >> queues >> timer >> retransmits >> user >> timeout >>
          inode;
      if (state == "0A" && inodes.contains(inode)) addresses.push_back(local.substr(0, local.find(':')));
    }
  }
  return addresses;
}

}  // namespace

TEST_SUITE("rank") {
  TEST_CASE("train/rank: ranks listen on the loopback interface and nowhere else") {
    Attempt attempt;
    attempt.job.amount.value = 100000;
    std::vector<std::string> addresses;
    attempt.run_well(2, [&](const worker::Step& step) {
      if (step.step != 3) return;
      for (const worker::RankProcess& rank : attempt.processes) {
        const auto own = listening_addresses(rank.pid);
        addresses.insert(addresses.end(), own.begin(), own.end());
      }
      attempt.launcher->send_all(attempt.attempt, worker::StopAtStep{});
    });
    CHECK(addresses.size() >= 2);  // the store, and where peers connect
    for (const std::string& address : addresses) {
      CAPTURE(address);
      const bool is_loopback = address == "0100007F" || address == "00000000000000000000000001000000";
      CHECK(is_loopback);
    }
  }

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
      stopped.on_launch = [&] { stopped.launcher->send_all(stopped.attempt, worker::StopAtStep{5}); };
      const Told first = stopped.run_well(num_ranks);
      REQUIRE(first.checkpoints.size() == 3);
      CHECK(first.checkpoints.back().step == 5);
      CHECK(first.finished[0].steps == 5);
      CHECK(!fs::exists(stopped.directory.file("toy/checkpoints/step-000002")));
      CHECK(fs::exists(stopped.directory.file("toy/checkpoints/step-000004/manifest.json")));

      stopped.assign.resume_from = first.checkpoints.back().path;
      stopped.assign.from_step = 5;
      stopped.on_launch = {};
      const Told rest = stopped.run_well(num_ranks);
      REQUIRE(rest.steps.size() == 7);
      for (std::size_t i = 0; i < rest.steps.size(); ++i) CHECK(rest.steps[i].loss == all.steps[i + 5].loss);
      CHECK(stopped.final_weights() == straight.final_weights());
      CHECK(stopped.num_metric_lines() == straight.num_metric_lines());
    }
  }

  TEST_CASE("train/rank: a damaged checkpoint is said so and the one before it leads to the same bytes") {
    Attempt straight;
    straight.run_well(2);
    Attempt stopped;
    stopped.assign.checkpoint_every = 3;
    stopped.assign.keep_checkpoints = 2;
    stopped.assign.to_step = 6;
    const Told first = stopped.run_well(2);
    REQUIRE(first.checkpoints.size() == 2);
    fs::resize_file(first.checkpoints.back().path + "/rank-00000.bin", 100);

    stopped.assign.resume_from = first.checkpoints.back().path;
    stopped.assign.from_step = 6;
    stopped.assign.to_step = 1 << 20;
    const Told rest = stopped.run_well(2);
    CHECK(rest.steps.front().step == 4);
    REQUIRE(!rest.warnings.empty());
    CHECK(rest.warnings[0].about == "checkpoint_damaged");
    CHECK(rest.warnings[0].step == 3);
    CHECK(rest.warnings[0].message.find("rank-00000.bin has 100 bytes") != std::string::npos);
    CHECK(stopped.final_weights() == straight.final_weights());
    CHECK(stopped.num_metric_lines() == straight.num_metric_lines());
  }

  TEST_CASE("train/rank: a job that cannot save says so and trains on") {
    Attempt attempt;
    attempt.assign.checkpoint_every = 5;
    REQUIRE(make_directories(attempt.assign.job_directory).ok());
    REQUIRE(write_whole(attempt.assign.job_directory + "/checkpoints", "in the way").ok());
    const Told told = attempt.run_well(2);
    CHECK(told.steps.size() == 12);
    CHECK(told.checkpoints.empty());
    REQUIRE(told.warnings.size() == 2);
    CHECK(told.warnings[0].about == "checkpoint_not_saved");
    CHECK(told.warnings[0].step == 5);
    CHECK(told.warnings[1].step == 10);
    CHECK(fs::exists(attempt.directory.file("toy/model/model.safetensors")));
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
    for (const char* name : {"start_s", "save_s", "save_pause_s", "load_s", "evaluate_s", "export_s"}) {
      CAPTURE(name);
      REQUIRE(told.finished[0].times.count(name) == 1);
      CHECK(told.finished[0].times.at(name) > 0.0);
      CHECK(told.finished[0].times.at(name) < 20.0);
    }
    CHECK(fs::is_empty(attempt.directory.file("toy")));
  }

  TEST_CASE("train/rank: ranks that meet in every batch evaluate equally many in a trial") {
    Attempt attempt;
    attempt.technique = "tensor";
    attempt.data.validation_share = 0.9;  // more batches than a trial takes
    attempt.data.sequence_length = 16;
    attempt.job.batch_size = 1;
    attempt.assign.mode = worker::Mode::trial;
    attempt.assign.warmup_steps = 1;
    attempt.assign.trial_steps = 1;
    attempt.assign.rendezvous.timeout_s = 20;
    const Told told = attempt.run_well(2);
    CHECK(told.finished[0].times.at("evaluate_s") > 0.0);
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

  TEST_CASE(
      "train/rank: a step that is not finite changes no weight and is skipped within the budget (fault 9)") {
    Attempt attempt;
    attempt.job.optimizer.lr = 1e30;  // the first step throws the weights out of range
    attempt.assign.max_skipped_steps = 3;
    attempt.assign.num_skipped_steps = 1;
    attempt.assign.checkpoint_every = 2;
    const Told told = attempt.run(1);
    const worker::Error error = only_error(told);
    CHECK(error.error_class == worker::ErrorClass::numerical);
    CHECK(error.message.find("in 4 steps of this job; 3 may be skipped") != std::string::npos);
    int num_skipped = 0;
    for (const worker::Step& step : told.steps) num_skipped += step.skipped ? 1 : 0;
    CHECK(num_skipped == 2);
    CHECK(!fs::exists(
        attempt.directory.file("toy/checkpoints")));  // none of a state that was not proved finite
    CHECK(!fs::exists(attempt.directory.file("toy/model")));
  }

  TEST_CASE("train/rank: a rank that is killed takes its peer down and is the one to blame") {
    Attempt attempt;
    attempt.job.amount.value = 100000;
    const Told told = attempt.run(2, [&](const worker::Step& step) {
      if (step.step == 5) ::kill(attempt.processes[1].pid, SIGKILL);
    });
    CHECK(told.ended.at(1).signal == SIGKILL);
    REQUIRE(told.errors.count(0) == 1);
    CHECK(to_string(told.errors.at(0).error_class) == "peer_lost");
    // By the end of its connection, which comes at once, and not by the deadline of the collective.
    CHECK(told.errors.at(0).message.find("Timed out") == std::string::npos);
  }
}

}  // namespace saturn::train

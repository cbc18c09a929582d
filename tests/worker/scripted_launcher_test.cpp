#include "saturn/worker/scripted_launcher.h"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <array>

#include "saturn/base/files.h"

namespace saturn::worker {
namespace {

LaunchRequest request_of(const std::string& attempt, std::vector<int> devices, const Assign& common) {
  LaunchRequest request{.attempt = attempt};
  for (const int device : devices) {
    Assign assign = common;
    assign.job = {{"name", attempt.substr(0, attempt.find('#'))}};
    assign.configuration = {{"technique", devices.size() > 1 ? "ddp" : "single"}};
    assign.node = "local";
    assign.devices = {{.index = device, .device_class = "cpu"}};
    request.ranks.push_back(assign);
  }
  return request;
}

// "3.5 0 step 4" per event, until nothing lives.
std::vector<std::string> play(ScriptedLauncher& launcher) {
  std::vector<std::string> lines;
  while (launcher.num_living() > 0) {
    for (const WorkerEvent& event : launcher.poll(-1)) {
      std::string what;
      if (const auto* ended = std::get_if<Ended>(&event.what)) {
        what = "ended " + std::to_string(ended->exit_code) + " " + std::to_string(ended->signal);
      } else {
        const Json json = to_json(std::get<FromRank>(event.what));
        what = json["type"].get<std::string>();
        for (const char* key : {"step", "steps", "class"}) {
          if (json.contains(key))
            what += " " + (json[key].is_string() ? json[key].get<std::string>() : json[key].dump());
        }
      }
      char time[32];
      std::snprintf(time, sizeof time, "%g ", event.time_s);
      lines.push_back(time + std::to_string(event.rank) + " " + what);
    }
  }
  return lines;
}

using Lines = std::vector<std::string>;

TEST_SUITE("worker") {
  TEST_CASE("worker/scripted_launcher: trains from step to step in virtual time") {
    FakeClock clock;
    ScriptedLauncher launcher(clock, {{.script = {.start_s = 1, .save_s = 0.5, .step_time_s = 2}}});
    REQUIRE(
        launcher.launch(request_of("a#1", {0}, {.from_step = 2, .to_step = 5, .checkpoint_every = 4})).ok());
    CHECK(play(launcher) == Lines{"1 0 ready", "3 0 step 3", "5 0 step 4", "5.5 0 checkpoint 4",
                                  "7.5 0 step 5", "7.5 0 finished 5", "7.5 0 ended 0 0"});
  }

  TEST_CASE("worker/scripted_launcher: a trial measures its steps and a save and a load") {
    FakeClock clock;
    ScriptedLauncher launcher(
        clock,
        {{.mode = Mode::trial,
          .script = {
              .start_s = 1, .load_s = 0.25, .save_s = 0.5, .step_time_s = 2, .memory_peak_bytes = 99}}});
    REQUIRE(
        launcher.launch(request_of("a#1", {0, 1}, {.mode = Mode::trial, .warmup_steps = 1, .trial_steps = 1}))
            .ok());
    CHECK(play(launcher) == Lines{"1 0 ready", "1 1 ready", "3 0 step 1", "5 0 step 2", "5.75 0 finished 2",
                                  "5.75 1 finished 2", "5.75 0 ended 0 0", "5.75 1 ended 0 0"});
  }

  TEST_CASE("worker/scripted_launcher: rows are chosen by job and technique and launch") {
    FakeClock clock;
    ScriptedLauncher launcher(
        clock, {{.job = "a",
                 .launch = 1,
                 .script = {.start_s = 0, .step_time_s = 1, .fault = ScriptedFault{.after_step = 0}}},
                {.technique = "ddp", .num_devices = 2, .script = {.start_s = 0, .step_time_s = 10}},
                {.script = {.start_s = 0, .step_time_s = 100}}});
    const auto run = [&](const std::string& attempt, std::vector<int> devices) {
      const double start_s = clock.now_s();
      REQUIRE(launcher.launch(request_of(attempt, std::move(devices), {.to_step = 1})).ok());
      play(launcher);
      return clock.now_s() - start_s;
    };
    CHECK(run("a#1", {0}) == doctest::Approx(0.5));
    CHECK(run("a#2", {0}) == doctest::Approx(100));
    CHECK(run("b#1", {0, 1}) == doctest::Approx(10));
    CHECK(launcher.launched().size() == 3);
  }

  TEST_CASE("worker/scripted_launcher: a death takes the peers along and names the first") {
    FakeClock clock;
    ScriptedLauncher launcher(
        clock, {{.script = {.start_s = 0,
                            .step_time_s = 2,
                            .fault = ScriptedFault{
                                .kind = ScriptedFault::Kind::death, .after_step = 1, .rank = 1}}}});
    REQUIRE(launcher.launch(request_of("a#1", {0, 1}, {.to_step = 9})).ok());
    CHECK(play(launcher) == Lines{"0 0 ready", "0 1 ready", "2 0 step 1", "3 1 ended -1 9",
                                  "3 0 error peer_lost", "3 0 ended 1 0"});
  }

  TEST_CASE("worker/scripted_launcher: more memory than the limit is out_of_memory") {
    FakeClock clock;
    ScriptedLauncher launcher(clock,
                              {{.script = {.start_s = 0, .step_time_s = 2, .memory_peak_bytes = 1000}}});
    REQUIRE(launcher.launch(request_of("a#1", {0}, {.memory_limit_bytes = 999, .to_step = 9})).ok());
    CHECK(play(launcher) == Lines{"0 0 ready", "1 0 error out_of_memory", "1 0 ended 1 0"});
  }

  TEST_CASE("worker/scripted_launcher: a hang beats until it is stopped") {
    FakeClock clock;
    ScriptedLauncher launcher(
        clock, {{.script = {.start_s = 0,
                            .step_time_s = 2,
                            .fault = ScriptedFault{.kind = ScriptedFault::Kind::hang, .after_step = 1}}}});
    REQUIRE(launcher.launch(request_of("a#1", {0}, {.to_step = 9})).ok());
    int num_beats = 0;
    while (clock.now_s() < 20) {
      for (const WorkerEvent& event : launcher.poll(30)) {
        const auto* message = std::get_if<FromRank>(&event.what);
        num_beats += message != nullptr && std::holds_alternative<Heartbeat>(*message);
      }
    }
    CHECK(num_beats == 18);
    launcher.stop("a#1", 0);
    CHECK(play(launcher) == Lines{"20 0 ended -1 9"});
  }

  TEST_CASE("worker/scripted_launcher: requests are obeyed at the end of the step") {
    FakeClock clock;
    ScriptedLauncher launcher(clock, {{.script = {.start_s = 0, .save_s = 0.5, .step_time_s = 2}}});
    REQUIRE(launcher.launch(request_of("a#1", {0}, {.to_step = 9})).ok());
    launcher.poll(-1);
    launcher.send("a#1", 0, SaveCheckpoint{});
    launcher.send_all("a#1", StopAtStep{.step = 2});
    CHECK(play(launcher) == Lines{"2 0 step 1", "2.5 0 checkpoint 1", "4.5 0 step 2", "5 0 checkpoint 2",
                                  "5 0 finished 2", "5 0 ended 0 0"});
    REQUIRE(launcher.launch(request_of("b#1", {0}, {.mode = Mode::load})).ok());
    CHECK(launcher.poll(100).size() == 1);
    CHECK(launcher.poll(3.0).size() == 1);
    launcher.send("b#1", 0, End{});
    CHECK(play(launcher) == Lines{"9 0 step 2", "9 0 finished 2", "9 0 ended 0 0"});
  }

  TEST_CASE("worker/scripted_launcher: a poll that sees nothing moves the clock by its timeout") {
    FakeClock clock;
    ScriptedLauncher launcher(clock, {{.script = {.start_s = 100}}});
    REQUIRE(launcher.launch(request_of("a#1", {0}, {.to_step = 1})).ok());
    CHECK(launcher.poll(2.5).empty());
    CHECK(clock.now_s() == doctest::Approx(2.5));
    std::array<int, 2> ends{};
    REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
    const FileDescriptor read_end(ends[0]);
    const FileDescriptor write_end(ends[1]);
    REQUIRE(::write(write_end.get(), "x", 1) == 1);
    launcher.set_wake_fds({read_end.get()});
    CHECK(launcher.poll(2.5).empty());
    CHECK(clock.now_s() == doctest::Approx(2.5));
  }

  TEST_CASE("worker/scripted_launcher: two living attempts on one device are noted") {
    FakeClock clock;
    ScriptedLauncher launcher(clock, {{.script = {}}});
    REQUIRE(launcher.launch(request_of("a#1", {0, 1}, {.to_step = 1})).ok());
    REQUIRE(launcher.launch(request_of("b#1", {2}, {.to_step = 1})).ok());
    CHECK(launcher.overlaps().empty());
    REQUIRE(launcher.launch(request_of("c#1", {1}, {.to_step = 1})).ok());
    CHECK(launcher.overlaps() == Lines{"c#1 and a#1 on local:1"});
  }
}

}  // namespace
}  // namespace saturn::worker

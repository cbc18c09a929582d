// Live areas, run frames and plain lines.

#include <doctest/doctest.h>

#include "saturn/view/displays.h"
#include "saturn/view/text.h"
#include "tests/support/golden.h"
#include "tests/view/tiny_terminal.h"

namespace saturn::view {
namespace {

using journal::EventKind;
using journal::JobState;

journal::Attempt attempt_on(std::vector<int> devices, double start_s) {
  journal::Attempt attempt{.number = 1,
                           .technique = devices.size() > 1 ? "ddp" : "single",
                           .num_devices = static_cast<int>(devices.size()),
                           .num_ranks = static_cast<int>(devices.size()),
                           .to_step = 400,
                           .predicted_s = 31.4,
                           .start_s = start_s};
  for (const int device : devices) attempt.devices.push_back({"local", device});
  return attempt;
}

// One job done, one training, one failed, one waiting.
journal::RunState some_state() {
  journal::RunState state;
  state.batch_name = "kjv-sweep";
  journal::JobRecord done{
      .name = "gpt2-1e-3-b8", .num_steps = 400, .state = JobState::done, .step = 400, .train_loss = 2.51};
  done.attempts = {attempt_on({0}, 0.0)};
  done.attempts[0].end_s = 30.9;
  done.metrics = {{"validation_loss", 2.62}, {"unigram_loss", 3.2}};
  journal::JobRecord training{.name = "gpt2-1e-3-b16",
                              .num_steps = 400,
                              .state = JobState::training,
                              .step = 90,
                              .step_time_s = 0.08,
                              .train_loss = 3.1};
  training.attempts = {attempt_on({1}, 0.0)};
  journal::JobRecord failed{.name = "gpt2-3e-4-b8",
                            .num_steps = 400,
                            .state = JobState::failed,
                            .reason = "loss is NaN at step 12",
                            .step = 12};
  failed.attempts = {attempt_on({1}, 1.0)};
  failed.attempts[0].end_s = 3.0;
  failed.attempts[0].message = "loss is NaN at step 12";
  journal::JobRecord waits{.name = "gpt2-3e-4-b16", .num_steps = 400};
  state.jobs = {done, training, failed, waits};
  return state;
}

plan::Plan some_plan() {
  plan::Plan plan{
      .makespan_s = 71.4, .lower_bound_s = 70.0, .objective_value = 71.4, .objective_bound = 70.0};
  plan.assignments = {
      {.job = "gpt2-1e-3-b8",
       .technique = "single",
       .node = "local",
       .devices = {{"local", 0}},
       .duration_s = 31.4,
       .to_step = 400},
      {.job = "gpt2-1e-3-b16",
       .technique = "single",
       .node = "local",
       .devices = {{"local", 1}},
       .duration_s = 31.4,
       .to_step = 400},
      {.job = "gpt2-3e-4-b16",
       .technique = "ddp",
       .node = "local",
       .devices = {{"local", 0}, {"local", 1}},
       .num_ranks = 2,
       .start_s = 41.4,
       .duration_s = 30,
       .to_step = 400},
  };
  return plan;
}

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

// A display that writes into a string, with its clock and the kind of terminal it sees.
struct Stage {
  FakeClock clock;
  std::string written;
  Terminal terminal;

  Screen screen() {
    return {[this] { return terminal; },
            [this](const std::string& bytes) {
              written += bytes;
              return true;
            }};
  }
};

TEST_CASE("view/run_view: the frame of a run is drawn at several widths") {
  RunModel model;
  model.on_plan(some_plan());
  const journal::RunState state = some_state();
  model.on_step("gpt2-1e-3-b16",
                {.step = 120, .loss = 3.05, .step_time_s = 0.08, .samples = 16, .tokens = 2048}, state);
  const RunView run = model.view(state, 31.0);
  for (const int width : {40, 80, 140}) {
    testing::check_golden("view/frame-" + std::to_string(width) + "-ascii.txt",
                          joined(run_frame(run, {.width = width}, 20)));
    testing::check_golden("view/frame-" + std::to_string(width) + "-utf8.txt",
                          joined(run_frame(run, {.width = width, .unicode = true}, 20)));
  }
}

TEST_CASE("view/run_view: times left come from the steps and from the plan") {
  RunModel model;
  model.on_plan(some_plan());
  const journal::RunState state = some_state();
  model.on_step("gpt2-1e-3-b16", {.step = 100, .loss = 3.05, .step_time_s = 0.1, .samples = 16}, state);
  const RunView run = model.view(state, 31.0);
  REQUIRE(run.jobs.size() == 4);
  CHECK(run.num_done == 1);
  CHECK(run.num_failed == 1);
  CHECK(run.jobs[1].eta_s == doctest::Approx(30.0));
  CHECK(run.jobs[1].units_per_s == doctest::Approx(160.0));
  CHECK(std::string(run.jobs[1].unit) == "samples/s");
  CHECK(run.jobs[3].starts_in_s == doctest::Approx(10.4));
  CHECK(run.jobs[3].configuration == "ddp x2");
  CHECK(run.jobs[3].devices == "0-1");
  CHECK(run.eta_s == doctest::Approx(71.4 - 31.0));
  CHECK_FALSE(run.jobs[0].eta_s.has_value());

  journal::RunState last = state;  // with nothing waiting only the steps count
  last.jobs[3].state = JobState::cancelled;
  CHECK(model.view(last, 31.0).eta_s == doctest::Approx(30.0));
  for (journal::JobRecord& job : last.jobs) job.state = JobState::done;
  CHECK_FALSE(model.view(last, 31.0).eta_s.has_value());
}

TEST_CASE("view/run_view: a new attempt forgets the speed of the one before") {
  RunModel model;
  journal::RunState state = some_state();
  model.on_step("gpt2-1e-3-b16", {.step = 100, .loss = 3.0, .step_time_s = 0.1, .samples = 16}, state);
  state.jobs[1].attempts.push_back(attempt_on({0}, 40.0));
  state.jobs[1].attempts[1].number = 2;
  state.jobs[1].step_time_s = 0.0;
  state.jobs[1].state = JobState::starting;
  CHECK(model.view(state, 41.0).jobs[1].step_time_s == 0.0);
  model.on_step("gpt2-1e-3-b16", {.step = 91, .loss = 3.0, .step_time_s = 0.5, .samples = 16}, state);
  CHECK(model.view(state, 42.0).jobs[1].step_time_s == doctest::Approx(0.5));
}

TEST_CASE("view/run_view: no frame is wider or higher than it may be") {
  RunModel model;
  model.on_plan(some_plan());
  journal::RunState state = some_state();
  for (int i = 0; i < 30; ++i) {
    state.jobs.push_back(state.jobs[static_cast<std::size_t>(i % 4)]);
    state.jobs.back().name += "-copy" + std::to_string(i);
  }
  const RunView run = model.view(state, 31.0);
  for (int width = kLeastWidth; width < 200; width += 3) {
    for (std::size_t height = 1; height < 45; height += 4) {
      const std::vector<std::string> lines = run_frame(run, {.width = width, .unicode = true}, height);
      CAPTURE(width);
      CAPTURE(height);
      CHECK(lines.size() <= height);
      for (const std::string& line : lines) CHECK(columns_of(line) <= width);
    }
  }
  CHECK(joined(run_frame(run, {.width = 80}, 12)).find("more jobs") != std::string::npos);
}

TEST_CASE("view/run_view: a bar is full only at the end") {
  CHECK(progress_bar(0.999, 10, false) == "#########.");
  CHECK(progress_bar(1.0, 10, false) == "##########");
  CHECK(progress_bar(-1.0, 4, false) == "....");
  CHECK(progress_bar(std::nan(""), 4, false) == "....");
}

TEST_CASE("view/live_area: frames replace each other and messages stay above") {
  testing::TinyTerminal screen(30, 10);
  const Terminal terminal{.width = 30, .height = 10, .interactive = true};
  LiveArea area([&](const std::string& bytes) {
    screen.write(bytes);
    return true;
  });
  area.draw({"one", "two two", "three"}, terminal);
  area.draw({"ONE", "TWO"}, terminal);
  CHECK(screen.text() == "ONE\nTWO\n");
  area.print_above("a message\n", terminal);
  area.draw({"1", "2", "3"}, terminal);
  CHECK(screen.text() == "a message\n1\n2\n3\n");
  area.clear(terminal);
  CHECK(screen.text() == "a message\n");
}

TEST_CASE("view/live_area: a narrower window leaves nothing of the old frame") {
  testing::TinyTerminal screen(30, 20);
  LiveArea area([&](const std::string& bytes) {
    screen.write(bytes);
    return true;
  });
  area.print_above("kept\n", {.width = 30, .height = 20, .interactive = true});
  area.draw({std::string(30, 'x'), std::string(25, 'y')}, {.width = 30, .height = 20, .interactive = true});
  screen.resize(20);
  area.draw({std::string(20, 'z')}, {.width = 20, .height = 20, .interactive = true});
  CHECK(screen.text() == "kept\n" + std::string(20, 'z') + "\n");
}

TEST_CASE("view/live_area: a frame that was not taken is not counted as drawn") {
  testing::TinyTerminal screen(30, 10);
  bool taken = true;
  LiveArea area([&](const std::string& bytes) {
    if (taken) screen.write(bytes);
    return taken;
  });
  const Terminal terminal{.width = 30, .height = 10, .interactive = true};
  area.draw({"a"}, terminal);
  taken = false;
  area.draw({"b", "c", "d"}, terminal);
  taken = true;
  area.draw({"e"}, terminal);
  CHECK(screen.text() == "e\n");
}

TEST_CASE("view/displays: a terminal is drawn at most ten times a second") {
  Stage stage;
  stage.terminal = {.width = 80, .height = 24, .interactive = true};
  RunDisplay display(stage.screen(), stage.clock);
  display.on_plan(some_plan(), some_state());
  int frames = 0;
  for (int i = 0; i < 1000; ++i) {
    stage.written.clear();
    display.on_tick(some_state(), i * 0.01);
    frames += stage.written.empty() ? 0 : 1;
    stage.clock.advance_s(0.01);
  }
  CHECK(frames >= 90);
  CHECK(frames <= 101);
}

TEST_CASE("view/displays: a pipe gets plain lines at a bounded rate") {
  Stage stage;
  RunDisplay display(stage.screen(), stage.clock);
  const journal::RunState state = some_state();
  for (int i = 0; i < 6000; ++i) {
    display.on_step("gpt2-1e-3-b16",
                    {.step = 90 + i / 100, .loss = 3.0, .step_time_s = 0.01, .samples = 16, .tokens = 64},
                    state);
    display.on_tick(state, i * 0.01);
    stage.clock.advance_s(0.01);
  }
  CHECK(stage.written.find('\x1b') == std::string::npos);
  const auto num_lines = std::count(stage.written.begin(), stage.written.end(), '\n');
  CHECK(num_lines >= 5);
  CHECK(num_lines <= 6);
  CHECK(stage.written.find("gpt2-1e-3-b16: step 100 of 400, loss 3.0000, 6.4k tok/s, about 3.0") !=
        std::string::npos);
}

TEST_CASE("view/displays: starts and ends and failures are told") {
  Stage stage;
  RunDisplay display(stage.screen(), stage.clock);
  const journal::RunState state = some_state();
  const auto tell = [&](EventKind kind, const std::string& job, double time_s) {
    display.on_event({.time_s = time_s, .kind = kind, .job = job, .attempt = 1}, state);
  };
  tell(EventKind::attempt_started, "gpt2-1e-3-b16", 0.0);
  tell(EventKind::metric, "gpt2-1e-3-b8", 30.0);
  tell(EventKind::attempt_ended, "gpt2-1e-3-b8", 30.9);
  tell(EventKind::attempt_ended, "gpt2-3e-4-b8", 31.0);
  tell(EventKind::checkpoint, "gpt2-1e-3-b16", 32.0);
  CHECK(stage.written ==
        "[     0.0 s] gpt2-1e-3-b16: started, single x1 on 1, predicted 31.4 s\n"
        "[    30.0 s] gpt2-1e-3-b8: step 400 of 400, validation loss 2.6200\n"
        "[    30.9 s] gpt2-1e-3-b8: done after 30.9 s, loss 2.5100, validation loss 2.6200\n"
        "[    31.0 s] gpt2-3e-4-b8: failed after 2.00 s: loss is NaN at step 12\n");
}

TEST_CASE("view/displays: on a terminal only what matters is said above the frame") {
  Stage stage;
  stage.terminal = {.width = 90, .height = 24, .interactive = true};
  RunDisplay display(stage.screen(), stage.clock);
  const journal::RunState state = some_state();
  display.on_event({.kind = EventKind::attempt_started, .job = "gpt2-1e-3-b16", .attempt = 1}, state);
  CHECK(stage.written.empty());
  display.on_event({.kind = EventKind::attempt_ended, .job = "gpt2-3e-4-b8", .attempt = 1}, state);
  CHECK(stage.written.find("loss is NaN at step 12") != std::string::npos);
}

TEST_CASE("view/displays: trials are counted and timed") {
  Stage stage;
  TrialDisplay display(stage.screen(), stage.clock);
  display.begin(12, 3);
  display.started("gpt2-toy-single-x1");
  display.tick(4.0);
  display.ended("gpt2-toy-single-x1", "12.3 ms a step", 1, 12, 40.0);
  CHECK(stage.written ==
        "profile: 12 trials to measure, 3 known\n"
        "[     4.0 s] 1 of 12  gpt2-toy-single-x1: 12.3 ms a step, about 40.0 s left\n");

  Stage live;
  live.terminal = {.width = 60, .height = 24, .interactive = true};
  testing::TinyTerminal screen(60, 24);
  TrialDisplay drawn({[&] { return live.terminal; },
                      [&](const std::string& bytes) {
                        screen.write(bytes);
                        return true;
                      }},
                     live.clock);
  drawn.begin(2, 0);
  drawn.started("gpt2-toy-single-x1");
  drawn.step("gpt2-toy-single-x1", 3, 6);
  live.clock.advance_s(1.0);
  drawn.tick(2.0);
  CHECK(screen.text() ==
        "profile: 2 trials to measure\n"
        "#####............... 0 of 2 trials, 2.00 s\n"
        "  gpt2-toy-single-x1  step 3 of 6\n");
  drawn.ended("gpt2-toy-single-x1", "out_of_memory: 512 MiB", 1, 2, -1.0);
  drawn.finish();
  CHECK(screen.text() ==
        "profile: 2 trials to measure\n"
        "[     2.0 s] 1 of 2  gpt2-toy-single-x1: out_of_memory: 512\nMiB\n");
}

TEST_CASE("view/displays: after the last trial nothing is left of the area and nothing is drawn") {
  Stage stage;
  stage.terminal = {.width = 60, .height = 24, .interactive = true};
  testing::TinyTerminal screen(60, 24);
  TrialDisplay display({[&] { return stage.terminal; },
                        [&](const std::string& bytes) {
                          screen.write(bytes);
                          return true;
                        }},
                       stage.clock);
  display.begin(1, 0);
  display.started("a");
  stage.clock.advance_s(1.0);
  display.tick(1.0);
  CHECK(screen.text().find("0 of 1 trials") != std::string::npos);
  display.ended("a", "12 ms a step", 1, 1, 0.0);
  stage.clock.advance_s(1.0);
  display.tick(2.0);
  CHECK(screen.text() == "profile: 1 trial to measure\n[     1.0 s] 1 of 1  a: 12 ms a step\n");
}

TEST_CASE("view/displays: nothing is written where nothing may be") {
  Screen screen = stderr_screen(true);
  CHECK_FALSE(screen.terminal().interactive);
  CHECK(screen.write("anything"));
}

}  // namespace
}  // namespace saturn::view

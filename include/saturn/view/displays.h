// What a person sees on stderr while a run or a profile goes on: an area redrawn in place on a terminal,
// plain lines at a bounded rate elsewhere.

#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "saturn/base/clock.h"
#include "saturn/journal/observer.h"
#include "saturn/view/live_area.h"
#include "saturn/view/run_view.h"

namespace saturn::view {

/// Where a display writes. `terminal` is asked before every frame, so that a resized window is followed.
struct Screen {
  std::function<Terminal()> terminal;
  LiveArea::Write write;
};

/// stderr, or nothing at all where `quiet`.
Screen stderr_screen(bool quiet);

/// The common part: frames at most ten times a second, messages above them.
class Display {
 public:
  Display(Screen screen, const Clock& clock)
      : screen_(std::move(screen)), clock_(&clock), area_(screen_.write) {}

  /// Lines that stay: printed above the area, or just printed.
  void say(const std::string& text);

  /// Calls `frame` and draws its lines, where the screen can be redrawn and a tenth of a second has passed.
  void draw(const std::function<std::vector<std::string>(const Terminal&)>& frame);

  /// Removes the area. Call before anything else is printed.
  void finish();

  bool interactive() const { return screen_.terminal().interactive; }
  const Clock& clock() const { return *clock_; }

 private:
  Screen screen_;
  const Clock* clock_;
  LiveArea area_;
  double drawn_at_s_ = -1e9;
};

/// Shows a run. Plain lines: starts, ends, validation losses, and the progress of each job every ten seconds.
class RunDisplay final : public journal::RunObserver {
 public:
  RunDisplay(Screen screen, const Clock& clock) : display_(std::move(screen), clock) {}

  void on_note(const std::string& sentence) override;
  void on_plan(const plan::Plan& plan, const journal::RunState& state) override;
  void on_event(const journal::Event& event, const journal::RunState& state) override;
  void on_step(const std::string& job, const journal::StepReport& report,
               const journal::RunState& state) override;
  void on_tick(const journal::RunState& state, double time_s) override;

  /// Removes the area, before the summary is printed.
  void finish() { display_.finish(); }

 private:
  Display display_;
  RunModel model_;
  double time_s_ = 0.0;                   // of the last tick, in run time
  std::map<std::string, double> told_s_;  // when each job's progress was last printed
};

/// Shows trials being measured; told by whoever watches the profile.
class TrialDisplay {
 public:
  TrialDisplay(Screen screen, const Clock& clock) : display_(std::move(screen), clock) {}

  void note(const std::string& sentence);
  void begin(int num_trials, int num_reused);
  void started(const std::string& trial);
  void step(const std::string& trial, int step, int num_steps);
  /// `result` is a phrase: "12.3 ms a step, 96 MiB", "out_of_memory: ...". A negative `eta_s` is not known.
  /// `num_trials` may be another than at the beginning: a search finds out how many there are.
  void ended(const std::string& trial, const std::string& result, int num_ended, int num_trials, double eta_s);
  void tick(double elapsed_s);
  void finish() { display_.finish(); }

 private:
  struct Running {
    std::string trial;
    int step = 0;
    int num_steps = 0;
  };
  std::vector<std::string> frame(const Terminal& terminal) const;

  Display display_;
  std::vector<Running> running_;
  int num_trials_ = 0;
  int num_ended_ = 0;
  double elapsed_s_ = 0.0;
  double eta_at_s_ = -1.0;  // elapsed time at which the last trial should end; negative while not known
};

}  // namespace saturn::view

// How a run is watched while it goes on: what a display is told. Nothing here decides anything.

#pragma once

#include <cstdint>
#include <string>

#include "saturn/journal/run_state.h"
#include "saturn/plan/plan.h"

namespace saturn::journal {

/// One step of a job, as its first rank reported it.
struct StepReport {
  std::int64_t step = 0;
  double loss = 0.0;
  double learning_rate = 0.0;
  double step_time_s = 0.0;
  std::int64_t samples = 0;  ///< of this step
  std::int64_t tokens = 0;   ///< of this step; 0 where samples have none
};

/// Called from the run loop, in order; must return quickly.
class RunObserver {
 public:
  virtual ~RunObserver() = default;

  /// A sentence for the person who watches: "making profile.json: there is none".
  virtual void on_note(const std::string& sentence) = 0;
  /// A plan came into force (at the start, and after each re-planning).
  virtual void on_plan(const plan::Plan& plan, const RunState& state) = 0;
  /// After `event` was journaled; `state` includes it.
  virtual void on_event(const Event& event, const RunState& state) = 0;
  virtual void on_step(const std::string& job, const StepReport& report, const RunState& state) = 0;
  /// At least once every poll of the loop (a quarter of a second or less), `time_s` in run time.
  virtual void on_tick(const RunState& state, double time_s) = 0;
};

/// Watches nothing.
class SilentRunObserver final : public RunObserver {
 public:
  void on_note(const std::string&) override {}
  void on_plan(const plan::Plan&, const RunState&) override {}
  void on_event(const Event&, const RunState&) override {}
  void on_step(const std::string&, const StepReport&, const RunState&) override {}
  void on_tick(const RunState&, double) override {}
};

}  // namespace saturn::journal

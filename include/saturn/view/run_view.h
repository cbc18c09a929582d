// A run as something to look at while it goes on: the state of its journal beside what the steps say. The
// live display, `saturn status` and plain lines are all drawn from this.

#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "saturn/journal/observer.h"
#include "saturn/journal/run_state.h"
#include "saturn/plan/plan.h"
#include "saturn/view/terminal.h"

namespace saturn::view {

struct JobView {
  std::string name;
  journal::JobState state = journal::JobState::pending;
  std::string reason;
  std::string configuration;  ///< "ddp x2", of the last attempt or else as planned
  std::string devices;        ///< "0-1"
  std::int64_t step = 0;
  std::int64_t num_steps = 0;
  std::optional<double> loss;
  std::optional<double> validation_loss;
  double step_time_s = 0.0;           ///< smoothed; 0 while not known
  double units_per_s = 0.0;           ///< tokens, or samples where there are none
  const char* unit = "";              ///< "tok/s" or "samples/s"
  std::optional<double> eta_s;        ///< of a job that trains
  std::optional<double> starts_in_s;  ///< of a job that waits, by the plan; 0 when overdue
  double time_s = 0.0;                ///< of its attempts together
  int attempts = 0;
};

struct RunView {
  std::string batch;
  double time_s = 0.0;
  double share = 0.0;           ///< of the planned device-seconds that is done, 0 to 1
  std::optional<double> eta_s;  ///< until the last job ends
  int num_done = 0;
  int num_failed = 0;
  int num_cancelled = 0;
  int num_stopped_early = 0;
  std::vector<JobView> jobs;
};

/// Keeps what the journal does not: the plan's intervals, smoothed step times, the last loss.
class RunModel {
 public:
  void on_plan(const plan::Plan& plan);
  void on_step(const std::string& job, const journal::StepReport& report, const journal::RunState& state);
  RunView view(const journal::RunState& state, double time_s) const;

 private:
  struct Planned {
    double start_s = 0.0;  // run time
    double end_s = 0.0;
    double device_s = 0.0;
    std::string configuration;
    std::string devices;
  };
  struct Measured {
    int attempt = 0;
    std::int64_t step = 0;
    double loss = 0.0;
    double step_time_s = 0.0;
    double units = 0.0;  // of a step
    bool tokens = false;
  };

  std::map<std::string, Planned> planned_;
  std::map<std::string, Measured> measured_;
  double end_s_ = 0.0;
};

/// The frame: a line on the run, then a line per job with its bar, running ones first; never more than
/// `most_lines`, never wider than the terminal.
std::vector<std::string> run_frame(const RunView& run, const Terminal& terminal, std::size_t most_lines);

/// A bar of `columns` characters, `share` of it filled.
std::string progress_bar(double share, int columns, bool unicode);

}  // namespace saturn::view

// One trial while it runs: what its ranks said, when its timing is over, and what it came to.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "profile/cost_model.h"
#include "saturn/profile/attempt_end.h"
#include "saturn/worker/launcher.h"

namespace saturn::profile {

struct TrialRun : AttemptEnd {
  Trial trial;
  std::string attempt;
  std::string directory;
  std::optional<Estimate> expected;  ///< by the cost model, before it began
  int warmup_steps = 0;
  int trial_steps = 0;   ///< that are timed at most
  int fewest_steps = 0;  ///< that are timed at least
  double launched_s = 0.0;
  double deadline_s = 0.0;
  double first_step_s = 0.0;  ///< when its report came; 0 before
  std::vector<double> step_times_s;
  int num_steps_seen = 0;
  std::int64_t last_step = 0;
  double finished_s = 0.0;
  double ended_s = 0.0;
  std::int64_t memory_peak_bytes = 0;
  std::int64_t host_memory_peak_bytes = 0;
  bool stopped = false;
  bool timing_is_over = false;
  int num_living = 0;

  enum class Heard { nothing, step_of_rank_0, lost_a_rank };
  Heard hear_event(const worker::WorkerEvent& event);

  /// Whether more steps would tell nothing: they were timed for long enough, `hurry` (the budget is spent)
  /// and there are enough of them, or it clearly loses to `rival` (null = none), which is no wider.
  bool has_been_timed(const Trial* rival, bool hurry) const;

  /// Once no rank lives.
  Trial concluded(const batch::Job& job, double timeout_s) const;

  /// The log of what failed stays; scratch files never do.
  void tidy(const Trial& trial) const;
};

/// Steps to time of a trial: enough for about a second of short ones, whatever the batch asks for at least.
int num_timed_steps(const batch::Job& job, const batch::DataSource& data,
                    const batch::Configuration& configuration, int asked);

}  // namespace saturn::profile

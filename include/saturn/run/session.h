// `saturn run` as a library: from a batch to a finished run directory, with everything outside behind
// interfaces.

#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/clock.h"
#include "saturn/batch/batch.h"
#include "saturn/devices/machine.h"
#include "saturn/journal/observer.h"
#include "saturn/journal/run_directory.h"
#include "saturn/journal/summary.h"
#include "saturn/profile/measure.h"
#include "saturn/run/planner.h"
#include "saturn/worker/launcher.h"
#include "saturn/worker/line_program.h"

namespace saturn::run {

struct SessionRequest {
  const batch::Batch* batch = nullptr;
  const devices::Machine* machine = nullptr;
  std::string plan_path;               ///< a plan named by the user: used as it is, refused where it is stale
  std::vector<std::string> only;       ///< names of jobs to run; empty = all
  std::vector<plan::Device> excluded;  ///< devices that may not be used
  bool retry_failed = false;
};

/// What a session acts through. `stop_count` says how many signals have asked for the end (2 = at once).
struct Surroundings {
  worker::Launcher* launcher = nullptr;
  const Clock* clock = nullptr;
  Planner* planner = nullptr;
  journal::RunObserver* observer = nullptr;
  profile::ProfileObserver* profile_observer = nullptr;
  std::function<int()> stop_count;
  /// Starts the program of [search] method = "ask", whose notes go to the log; absent: as a process.
  std::function<Result<std::unique_ptr<worker::LineProgram>>(const std::string& log_path)> start_program;
  std::vector<int> wake_fds;    ///< readable when `stop_count` has changed
  double longest_wait_s = 1.0;  ///< of the run loop, where nothing comes and nothing is due
  /// Where trials of other batches are found, and what the run finds of its own is kept; null = nowhere.
  const profile::TrialCache* trial_cache = nullptr;
};

struct SessionResult {
  journal::Summary summary;
  Diagnostics faults;  ///< why jobs failed; empty where all is done
  bool interrupted = false;
  int exit_code = 0;  ///< of `saturn run`, as the journal has it
};

/// Accepts the batch (resetting the jobs whose definition changed), makes what is missing or stale, runs what
/// is not finished, and writes summary.json. Holds `directory` throughout.
///
/// Errors: Kind::stale for a stale named plan; Kind::infeasible; Kind::machine; Kind::disk_full;
/// Kind::interrupted
///         before anything ran. What happened to jobs is in the result.
Result<SessionResult> run_session(const SessionRequest& request, journal::RunDirectory& directory,
                                  const Surroundings& surroundings);

}  // namespace saturn::run

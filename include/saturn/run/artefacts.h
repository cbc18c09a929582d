// profile.json and plan.json as the stages find them: used where they still hold, made again with the reason
// said.

#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "saturn/base/clock.h"
#include "saturn/batch/batch.h"
#include "saturn/devices/machine.h"
#include "saturn/journal/run_state.h"
#include "saturn/plan/plan.h"
#include "saturn/plan/problem.h"
#include "saturn/plan/solve.h"
#include "saturn/profile/job_time.h"
#include "saturn/profile/measure.h"
#include "saturn/worker/launcher.h"

namespace saturn::run {

struct ProfileRequest {
  const batch::Batch* batch = nullptr;
  const devices::Machine* machine = nullptr;
  std::string path;                            ///< of profile.json
  std::string trials_directory;                ///< where logs of failed trials stay
  std::optional<double> budget_s;              ///< absent = the batch's
  std::optional<double> gap;                   ///< as in profile::MeasureRequest; absent = profile::usual_gap
  bool everything = false;                     ///< likewise
  const profile::TrialCache* cache = nullptr;  ///< likewise
  bool measure_failed = false;                 ///< trials that failed, or were left out, are tried again
  std::function<bool()> stop;                  ///< as in profile::MeasureRequest
};

/// Returns the profile at `path` where it holds; measures what is missing and writes it where not, after each
/// trial. Where jobs were added or became longer since, what is worth measuring is asked again.
///
/// Errors: as profile::measure; a file that cannot be read is made again, with its fault as the reason.
Result<profile::Profile> ensure_profile(const ProfileRequest& request, worker::Launcher& launcher,
                                        const Clock& clock, profile::ProfileObserver& observer);

/// What a plan of `batch` from the profile at `profile_path` is made from, for its header.
Result<std::vector<MadeFrom>> plan_sources(const batch::Batch& batch, const std::string& profile_path);

/// Why the plan whose header says `made_from` is not one of the sources as they are now; nothing where it is.
std::optional<Diagnostic> why_stale(const std::vector<MadeFrom>& made_from,
                                    const std::vector<MadeFrom>& sources, const std::string& plan_path);

/// What is to be planned of a run, or of a run that has not begun (an empty state).
struct Remainder {
  const batch::Batch* batch = nullptr;
  const profile::Profile* profile = nullptr;
  const std::map<std::string, std::int64_t>* num_steps = nullptr;
  const journal::RunState* state = nullptr;         ///< null = nothing has run
  const std::set<std::string>* selected = nullptr;  ///< null = all jobs
  std::vector<plan::Device> excluded;               ///< devices that may not be used
  std::map<std::string, std::int64_t> steps_now;    ///< of running jobs, where later than the journal says
  double time_s = 0.0;                              ///< run time now, which becomes the plan's origin
  std::optional<std::int64_t> free_disk_bytes;      ///< where jobs keep their files; absent = not known
  std::map<std::string, journal::StepPace> paces;   ///< of running jobs, where later than the journal says
  bool may_move = false;                            ///< running jobs may be moved, at the price of moving
  const profile::TrialsOf* trials_of = nullptr;     ///< null = as the batch says
};

/// Of the file system that holds the run directory; nothing where it cannot be told.
std::optional<std::int64_t> free_disk_of(const std::string& directory);

/// The problem of what remains; running jobs stay where they are, or may be moved from the step they are at.
///
/// Errors: Kind::infeasible, as profile::to_plan_problem, one for each job that nothing fits.
Result<plan::PlanProblem> remaining_problem(const Remainder& remainder);

/// The solver's options as the batch asks for them.
plan::SolveOptions solve_options(const batch::Batch& batch);

}  // namespace saturn::run

// The run loop without preparation: jobs, estimates and devices are given, and what is launched decides how
// it goes.

#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "saturn/batch/batch.h"
#include "saturn/devices/machine.h"
#include "saturn/journal/run_directory.h"
#include "saturn/plan/plan.h"
#include "saturn/plan/problem.h"
#include "saturn/profile/job_time.h"
#include "saturn/profile/profile.h"
#include "saturn/run/session.h"

namespace saturn::run {

/// What is rehearsed. Jobs need a name alone; `trials_of` says which trials each may run as.
struct Rehearsal {
  batch::Batch batch;
  devices::Machine machine;
  profile::Profile profile;
  std::map<std::string, std::int64_t> num_steps;
  profile::TrialsOf trials_of;
  const plan::Plan* first_plan = nullptr;  ///< of `whole_problem`; null = it is planned
};

struct Rehearsed {
  plan::Plan first_plan;
  journal::RunState state;  ///< at the end
};

/// The problem of the first plan.
///
/// Errors: Kind::infeasible where a job fits nowhere.
Result<plan::PlanProblem> whole_problem(const Rehearsal& rehearsal);

/// Plans and runs every job to a final state through `around`, in a directory that is new.
///
/// Errors: Kind::infeasible where a job fits nowhere; the journal cannot be written.
Result<Rehearsed> rehearse(const Rehearsal& rehearsal, journal::RunDirectory& directory,
                           const Surroundings& around);

}  // namespace saturn::run

// The stages before the run loop: a profile that holds and a plan to begin with.

#pragma once

#include <string>

#include "run/executor.h"
#include "saturn/journal/control.h"
#include "saturn/profile/profile.h"
#include "saturn/run/artefacts.h"
#include "saturn/run/session.h"

namespace saturn::run {

/// Fills in `execution` stage by stage.
class Preparation {
 public:
  Preparation(const SessionRequest& request, journal::RunDirectory& directory, journal::ControlBox& box,
              const Surroundings& around, Execution& execution)
      : request_(request), directory_(directory), box_(box), around_(around), execution_(execution) {}

  /// Uses the run directory's profile, and measures what it lacks.
  Result<void> find_profile();
  /// An empty profile and an empty plan: jobs are proposed once the run has begun.
  Result<void> begin_without_jobs();
  /// The plan named by the user, else that of the run directory where it holds, else a new one.
  Result<void> find_plan();
  Result<void> make_plan(const std::string& reason);

  /// A signal, or `saturn stop`.
  bool stop_asked();

 private:
  Result<plan::Plan> named_plan() const;
  std::optional<plan::Plan> plan_of_directory();
  Result<plan::Plan> wait_for_plan();
  Remainder remainder();

  const SessionRequest& request_;
  journal::RunDirectory& directory_;
  journal::ControlBox& box_;
  const Surroundings& around_;
  Execution& execution_;
  profile::Profile profile_;
  profile::Profile estimates_;  // the profile as earlier attempts of this run have corrected it
};

}  // namespace saturn::run

// What simulations play on: a directory for the journal, a planner that no clock decides, and names.

#pragma once

#include <memory>
#include <optional>
#include <string>

#include "saturn/devices/machine.h"
#include "saturn/plan/problem.h"
#include "saturn/plan/solve.h"
#include "saturn/profile/profile.h"
#include "saturn/run/planner.h"
#include "saturn/worker/launcher.h"

namespace saturn::simulate {

/// A directory that is gone with it; in memory where there is such a place, since every event is synced.
class Scratch {
 public:
  Scratch();
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  /// Empty where none could be made.
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Plans at once and by these options, of which only where to start from is the asker's.
std::unique_ptr<run::Planner> make_repeatable_planner(plan::SolveOptions options);

/// Of a configuration's trial.
std::string id_of(const std::string& job, const plan::Configuration& configuration);

/// The trial of a configuration of which nothing else is known than what a step takes.
profile::Trial trial_taking(double step_time_s, const plan::Job& job,
                            const plan::Configuration& configuration);

/// The trial whose configuration is launched.
const profile::Trial& trial_launched(const worker::LaunchRequest& request, const profile::Profile& profile);

/// The problem's nodes as a machine of GPUs.
devices::Machine machine_of(const plan::PlanProblem& problem);

}  // namespace saturn::simulate

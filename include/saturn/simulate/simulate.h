// What a batch would take: the run loop itself, played on a virtual clock by workers that follow a model of
// how far estimates are off.

#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "saturn/base/result.h"
#include "saturn/plan/plan.h"
#include "saturn/plan/problem.h"
#include "saturn/run/rehearse.h"

namespace saturn::simulate {

/// How the truth differs from the estimates. Factors are lognormal with mean 1; the shares are their
/// deviations.
struct Truth {
  double job_error = 0.0;            ///< one factor for all configurations of a job: its profile was wrong
  double configuration_error = 0.0;  ///< one for each configuration, on top
  double step_noise = 0.0;           ///< one for each of the strides that a job's steps are simulated in
  double drift = 0.0;                ///< deviation of the share by which a job has slowed down at its end
  double failures_per_day = 0.0;     ///< of each device: a rank dies, and its job goes on from a checkpoint
};

struct Settings {
  std::string policy = "saturn";  ///< of the first plan, and of those made while running
  double introspect_every_s = 1000.0;
  int max_moves = 3;
  double start_s = 30.0;  ///< of a job whose configuration states no cost of starting
  double save_s = 15.0;   ///< of a checkpoint, and likewise to load one
  Truth truth;
  std::int64_t first_iterations = 100000;  ///< of the search for the first plan
  std::int64_t iterations = 10000;         ///< of each search while running, which takes no virtual time
  std::uint64_t seed = 1;                  ///< of plans, and of the first truth
};

struct Outcome {
  double planned_s = 0.0;   ///< makespan of the first plan
  double makespan_s = 0.0;  ///< what it came to
  int num_moves = 0;
  int num_looks = 0;  ///< introspections that asked the planner
  int num_failures = 0;
};

/// A problem made ready to be run many times: its jobs in strides, and the plan that every run begins with.
///
/// Nothing here looks at a clock: the same problem, settings and seed give the same outcome however loaded
/// the machine is. Policy "published" is the exception: CBC searches for a minute.
class Simulation {
 public:
  /// Errors: those of planning; Kind::input where a job is named twice, has costs that this cannot play (an
  /// `after`, a release, a deadline), or runs already.
  static Result<Simulation> prepare(const plan::PlanProblem& problem, const Settings& settings);

  /// Runs the jobs once. The truth depends on `seed` alone, so that policies can be compared in pairs. Policy
  /// "random" draws another first plan for each.
  Result<Outcome> run(bool introspects, std::uint64_t seed) const;

  /// `num_runs` runs whose seeds follow the settings', in that order, shared out to `num_processes` forked
  /// children; 1 = in this process. `on_progress` is told how many are over.
  Result<std::vector<Outcome>> runs(bool introspects, int num_runs, int num_processes = 1,
                                    const std::function<void(int)>& on_progress = nullptr) const;

  const plan::Plan& first_plan() const { return first_plan_; }

 private:
  Settings settings_;
  run::Rehearsal rehearsal_;
  plan::Plan first_plan_;
  double longest_wait_s_ = 1.0;
};

/// Of a sample; `at(0.5)` is the median.
struct Distribution {
  std::vector<double> sorted;

  explicit Distribution(std::vector<double> values);
  double mean() const;
  double at(double share) const;
};

/// `problem` on other nodes: configurations of a class that is there count on them. "4x8" is four nodes of
/// eight devices of the class of the first node; "2x8:h100+1x4:a100" names classes.
///
/// Errors: Kind::input where the text is not one or names a class that no job was measured on;
/// Kind::infeasible where no configuration of some job fits.
Result<plan::PlanProblem> on_devices(plan::PlanProblem problem, const std::string& text);

/// Adds a class "h100:1.8" whose devices are 1.8 times as fast as those of the first node's class.
///
/// Errors: Kind::input where the text is not one, or names that class itself.
Result<plan::PlanProblem> with_class(plan::PlanProblem problem, const std::string& text);

}  // namespace saturn::simulate

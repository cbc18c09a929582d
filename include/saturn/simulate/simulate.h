// What a batch would take: the run loop itself, played on a virtual clock by workers that follow a model of
// how far estimates are off.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "saturn/base/result.h"
#include "saturn/plan/problem.h"

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
  bool introspects = true;
  double introspect_every_s = 1000.0;
  int max_moves = 3;
  double start_s = 30.0;  ///< of a job whose configuration states no cost of starting
  double save_s = 15.0;   ///< of a checkpoint, and likewise to load one
  Truth truth;
  std::int64_t iterations = 4000;  ///< of the search, in each planning
  std::uint64_t seed = 1;
};

struct Outcome {
  double planned_s = 0.0;   ///< makespan of the first plan
  double makespan_s = 0.0;  ///< what it came to
  int num_moves = 0;
  int num_looks = 0;  ///< introspections that asked the planner
  int num_failures = 0;
};

/// Runs the jobs of `problem` once. The same problem, settings and seed give the same outcome; the truth
/// depends on the seed alone, so that policies can be compared in pairs.
///
/// Errors: those of planning; Kind::input where a job is named twice, has costs that this cannot play (an
/// `after`, a release, a deadline), or runs already.
Result<Outcome> simulate(const plan::PlanProblem& problem, const Settings& settings);

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
/// Errors: Kind::input where the text is not one, or no configuration of some job fits.
Result<plan::PlanProblem> on_devices(plan::PlanProblem problem, const std::string& text);

/// Adds a class "h100:1.8" whose devices are 1.8 times as fast as those of the first node's class.
Result<plan::PlanProblem> with_class(plan::PlanProblem problem, const std::string& text);

}  // namespace saturn::simulate

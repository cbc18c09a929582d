// The same training under every configuration: a few steps of each job under each, compared with `single`.

#pragma once

#include <functional>
#include <string>
#include <vector>

#include "saturn/base/clock.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/devices/machine.h"
#include "saturn/profile/profile.h"
#include "saturn/verify/compare.h"
#include "saturn/worker/launcher.h"

namespace saturn::verify {

/// Largest relative differences that count as the same training.
struct Tolerance {
  double loss = 0.0;      ///< of any step
  double update = 0.0;    ///< of any tensor's update, by norm
  double gradient = 0.0;  ///< of any tensor's first moment, by norm
};

/// fp32: 1e-5 and 1e-3 (DESIGN: same job, same training). bf16: products have 8 bits and sums are split
/// differently, so that single gradients differ by a hundredth, and AdamW turns the sign of those near zero
/// into whole steps: 2e-2 of the loss, 0.1 of a first moment, 0.4 of an update. A gradient that lacks one
/// rank's part is off by more than 0.7 in both.
Tolerance tolerance_of(const std::string& precision);

/// A reference whose loss moved by less proves little.
inline constexpr double kLeastLossChange = 0.05;

struct Compared {
  batch::Configuration configuration;  ///< with what its technique tuned
  profile::Outcome outcome = profile::Outcome::failed;
  std::string reason;  ///< empty where ok
  std::vector<double> losses;
  double loss_difference = 0.0;  ///< the largest of any step
  Differences differences;
  bool within = true;  ///< the tolerance; false where not ok for another reason than memory or support
};

struct JobReport {
  std::string name;               ///< of the job that was trained
  std::vector<std::string> jobs;  ///< all that it stands for: one speed class, with or without clipping
  Tolerance tolerance;
  std::string reference;  ///< "single x1": what the others are compared with; empty where nothing ran
  std::vector<Compared> configurations;
  std::vector<std::string> warnings;
};

struct Report {
  std::vector<JobReport> jobs;
  bool passed() const;
};

/// Called from the loop, in order; must return quickly.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void on_begin(int num_configurations) = 0;
  virtual void on_started(const std::string& job, const batch::Configuration& configuration,
                          const std::string& directory) = 0;
  virtual void on_step(int step, int num_steps) = 0;
  virtual void on_ended(const std::string& job, const Compared& compared, const Tolerance& tolerance) = 0;
  virtual void on_tick(double elapsed_s) = 0;
};

struct Request {
  const batch::Batch* batch = nullptr;
  const devices::Machine* machine = nullptr;
  int num_steps = 5;
  std::string directory;       ///< scratch; only logs of what failed stay
  std::function<bool()> stop;  ///< asked at every poll: true ends what runs
};

/// Trains each kind of job under every configuration, one after the other. Jobs that differ in nothing but
/// learning rate, seed, amount and such share one training; the rate is constant, without warm-up, so that
/// few steps move the weights.
///
/// Errors: Kind::interrupted when `stop` said so; Kind::machine where no process can be started.
Result<Report> verify(const Request& request, worker::Launcher& launcher, const Clock& clock,
                      Observer& observer);

/// As `saturn verify --json` prints it.
Json to_json(const Report& report);

}  // namespace saturn::verify

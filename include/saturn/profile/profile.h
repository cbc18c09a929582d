// profile.json: what each job class costs under each configuration, measured on this machine.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"
#include "saturn/devices/machine.h"

namespace saturn::profile {

inline constexpr const char* kProfileFormat = "saturn.profile/1";

enum class Outcome { ok, out_of_memory, unsupported, failed };
enum class Source { measured, shared, interpolated };

/// One measured configuration of one speed class, or why it did not run. Times and bytes are 0 unless `ok`.
struct Trial {
  std::string id;                      ///< `trial_id` of what was asked for
  std::string job_class;               ///< batch::speed_class
  std::vector<std::string> jobs;       ///< of the batch it was measured for
  batch::Configuration configuration;  ///< ok: with the knobs that the technique tuned filled in
  Outcome outcome = Outcome::failed;
  std::string reason;  ///< empty where ok

  double step_time_s = 0.0;         ///< median of the timed steps, device synchronised
  double step_time_spread_s = 0.0;  ///< median absolute deviation, scaled to a standard deviation
  double samples_per_s = 0.0;
  std::int64_t memory_peak_bytes = 0;       ///< of the rank that needed most, against its limit
  std::int64_t host_memory_peak_bytes = 0;  ///< of all ranks together
  std::int64_t disk_bytes = 0;              ///< kept in files while it trains, as offload does on CPU slots
  double start_time_s = 0.0;                ///< from launch to the beginning of the first step
  double save_time_s = 0.0;                 ///< one checkpoint
  double load_time_s = 0.0;                 ///< one checkpoint, read back
  double evaluate_time_s = 0.0;             ///< one pass over the validation samples
  double end_time_s = 0.0;  ///< from the last step to the end of its processes, evaluation not included
  Source source = Source::measured;
  std::string concurrency;  ///< what the other slots did meanwhile: "1 other slot busy", "alone"
  /// out_of_memory: what a rank would need, at least. Known from the allocator that refused; where the trial
  /// was not run (source interpolated) predicted from the technique's other trials.
  std::int64_t needed_bytes = 0;
  double predicted_step_time_s = 0.0;       ///< by the technique's formula: only ratios mean something
  std::int64_t predicted_memory_bytes = 0;  ///< of the rank that needs most, by the technique's formula
  /// interpolated and ok: between these the step time lies, by the cost model; 0 where it was measured.
  double step_time_low_s = 0.0;
  double step_time_high_s = 0.0;

  bool is_measured() const { return source != Source::interpolated; }
};

/// A candidate that was not measured though it might have fitted.
struct Untried {
  enum class Why {
    slower,   ///< predicted to lose to what was measured
    budget,   ///< the budget was spent
    failing,  ///< its technique failed beside it, for no want of memory
    settled,  ///< no plan gains more than the gap by it (Decision)
  };
  Trial trial;  ///< names, configuration as asked for and predictions; nothing measured
  Why why = Why::slower;
  std::string reason;
};

/// What runs found of a trial since it was measured; its own figures stay as they are.
struct Correction {
  std::string trial;              ///< id
  double step_factor = 1.0;       ///< steps took so many times as long as in the trial
  double spread = 0.0;            ///< of the factor, as a standard deviation relative to it
  std::int64_t num_steps = 0;     ///< that were timed
  std::optional<double> start_s;  ///< from launch to the beginning of the first step, without loading
  std::optional<double> save_s;   ///< one checkpoint
};

/// Why measuring ended. Times are of the plan's objective.
struct Decision {
  enum class Why {
    complete,  ///< nothing was left that could be quicker than what was measured beside it
    settled,   ///< something was, but no plan gains more than `gap` by it
    budget,    ///< the budget was spent
  };
  Why why = Why::complete;
  std::string reason;
  double gap = 0.0;            ///< the share that was asked for
  double measured_s = 0.0;     ///< of the best plan with measured trials; 0 where none was made
  double optimistic_s = 0.0;   ///< ... where every other trial were as quick as its lower bound
  bool is_proved = false;      ///< `optimistic_s` is a proved bound, not only the best plan that was found
  int num_predicted = 0;       ///< trials that the cost model had bounded before they were measured
  int num_missed = 0;          ///< ... and that came out of their bounds, which widened all that followed
  double typical_error = 0.0;  ///< median of |measured / estimate - 1| over the predicted ones
  std::string workload;        ///< `workload_of` what was decided for
};

/// What has to agree for a trial to be used again.
struct Conditions {
  std::string fingerprint;   ///< devices::fingerprint
  std::string saturn;        ///< version
  int training_version = 0;  ///< saturn::kTrainingVersion
  int warmup_steps = 0;
  int trial_steps = 0;

  bool operator==(const Conditions&) const = default;
};

struct Profile {
  std::vector<MadeFrom> made_from;
  devices::Machine machine;
  Conditions conditions;
  std::vector<Trial> trials;
  std::vector<Untried> untried;
  std::vector<Correction> corrections;  ///< by what finished runs found, at most one for each trial
  std::optional<Decision> decision;     ///< absent while it is being measured

  const Trial* find_id(const std::string& id) const;
};

/// Names a trial after its class and the configuration as asked for, before anything is tuned: the same in
/// every profile, readable, unique: "gpt2-toy-...-ddp-x2".
std::string trial_id(const std::string& job_class, const batch::Configuration& asked);

const char* name_of(Outcome outcome);
const char* name_of(Source source);
const char* name_of(Decision::Why why);

Json to_json(const Profile& profile);
/// Strict: types, ranges, unknown keys, duplicate ids; every fault at its pointer.
Result<Profile> profile_from_json(const Json& document, const std::string& path);
Result<Profile> read_profile(const std::string& path);

/// The profile as it would be measured now. Trials that `corrections` name (before the profile's own, where
/// both know a trial) take its times; other trials of their class follow the mean of the observed factors as
/// far as `spreads_of` says that a class is wrong as a whole. Trials that know no time to save or load get
/// one by their memory.
Profile corrected(const Profile& profile, const std::vector<Correction>& corrections);

/// How far step times of trials may be off after correction, as standard deviations of logarithms.
struct Spread {
  double common = 0.0;  ///< of all untested trials of a class together
  double own = 0.0;     ///< of each of them, on top
};

/// By speed class. How far classes and their trials have turned out to be off tells how far the others may
/// be, with a prior that a few observations outweigh.
std::map<std::string, Spread> spreads_of(const Profile& profile, const std::vector<Correction>& corrections);

Conditions conditions_of(const batch::Batch& batch, const devices::Machine& machine);

/// The candidates for trials of `batch` on `machine`: speed classes x configurations, each once, with every
/// job that could use it and with what its technique predicts; nothing measured yet. By width, then class,
/// then technique, so that what is cheap and needed comes first. A search decides which are measured.
std::vector<Trial> wanted_trials(const batch::Batch& batch, const devices::Machine& machine);

/// Tells apart what a decision may rest on: speed classes with their jobs' lengths, and the objective.
std::string workload_of(const batch::Batch& batch, const std::map<std::string, std::int64_t>& num_steps);

/// Why `profile` does not do for `batch` on `machine`, one sentence each; empty where it does.
std::vector<std::string> what_is_stale(const Profile& profile, const batch::Batch& batch,
                                       const devices::Machine& machine);

}  // namespace saturn::profile

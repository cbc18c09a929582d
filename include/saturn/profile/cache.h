// Trials kept for other batches on the same hardware, and what runs found of them.
//
// A folder for each set of conditions (hardware, versions, training library, how steps are timed), in it a
// file for each trial and a file of what runs found of it. Every file is written whole, so that any number of
// saturns may read and write at once; what cannot be read, or is not what its name says, is told of and
// passed over. Nothing is ever removed but by who asks for it.

#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/clock.h"
#include "saturn/profile/profile.h"

namespace saturn::profile {

/// One set of conditions in the cache.
struct CachedConditions {
  std::string folder;  ///< to be removed to forget it
  Conditions conditions;
  std::string cpu_model;
  int num_devices = 0;
  std::vector<std::string> device_classes;
  std::vector<std::string> job_classes;
  int num_trials = 0;
  int num_corrected = 0;  ///< of which runs found something
  double newest_unix_s = 0.0;
};

class TrialCache {
 public:
  using Tell = std::function<void(const std::string& sentence)>;

  /// In `directory`; `training` tells builds of the training library apart. `clock` must outlive it.
  TrialCache(std::string directory, std::string training, const Clock& clock);

  /// Where SATURN_TRIAL_CACHE says (empty: nowhere), else in $XDG_CACHE_HOME/saturn/trials, else in
  /// ~/.cache/saturn/trials. Nothing where none of them is set.
  static std::optional<std::string> usual_directory();

  const std::string& directory() const { return directory_; }

  /// The trial, with `source` shared. `tell` hears of a file that was passed over, and why.
  std::optional<Trial> find(const Conditions& conditions, const std::string& id, const Tell& tell) const;

  /// Of a measured trial that did not fail by chance: ok, out of memory or unsupported.
  Result<void> keep(const Conditions& conditions, const devices::Machine& machine, const Trial& trial) const;

  /// Adds what the run in `run` found of `trial`; what the same run said before is replaced, and of older
  /// runs the latest sixteen stay.
  Result<void> add_found(const Conditions& conditions, const std::string& run, const Trial& trial,
                         const Correction& found) const;

  /// What n runs found of it, by n / (n + 1) of the median in logarithms; nothing where none did, or where it
  /// is less than the steps themselves vary.
  std::optional<Correction> correction_of(const Conditions& conditions, const Trial& trial) const;

  /// Everything that is there, newest first; `tell` hears of what cannot be read.
  std::vector<CachedConditions> list(const Tell& tell) const;

 private:
  std::string folder_of(const Conditions& conditions) const;

  std::string directory_;
  std::string training_;
  const Clock& clock_;
};

}  // namespace saturn::profile

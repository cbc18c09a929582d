// A launcher that plays attempts from a table on a virtual clock: no process, no waiting, no device.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "saturn/base/clock.h"
#include "saturn/worker/launcher.h"

namespace saturn::worker {

/// What goes wrong in an attempt, while it computes the step after `after_step`.
struct ScriptedFault {
  enum class Kind {
    error,   ///< every rank sends `error_class` and exits with code 1
    death,   ///< `signal` ends rank `rank`; its peers say peer_lost and exit
    hang,    ///< nothing any more but heartbeats, until it is stopped
    freeze,  ///< as hang, and rank `rank` does not even beat any more
  };
  Kind kind = Kind::error;
  std::int64_t after_step = 0;
  int rank = 0;
  int signal = 9;
  ErrorClass error_class = ErrorClass::internal;
  std::string message = "scripted fault";
  std::int64_t needed_bytes = 0;
};

/// How one attempt goes. Seconds are virtual.
struct Script {
  double start_s = 0.5;  ///< from launch until state can be loaded
  double load_s = 0.0;   ///< only where the attempt resumes, and once in a trial
  double save_s = 0.0;   ///< a checkpoint, and once in a trial
  double step_time_s = 1.0;
  std::function<double(std::int64_t step)> step_time_s_of = {};  ///< in place of `step_time_s`
  std::function<double(std::int64_t step)> loss_of = {};         ///< default: 1 / step; not finite: skipped
  std::function<bool(std::int64_t step)> save_fails_of = {};     ///< the disk is full when `step` is saved
  std::optional<std::int64_t> falls_back_to = {};  ///< where it resumes: that one is damaged, this is used
  std::map<std::string, double> metrics = {};      ///< of the validation at the end
  /// Of the validations that are asked for (Assign::evaluate_at), and of the one at the end.
  std::function<std::map<std::string, double>(std::int64_t step)> metrics_of = {};
  std::int64_t memory_peak_bytes = 0;
  std::int64_t host_memory_peak_bytes = 0;
  Json tuned_knobs = Json::object();  ///< added to the configuration's in Finished
  std::optional<ScriptedFault> fault = {};
};

/// The first row that matches an attempt plays it. Empty and 0 match everything.
struct ScriptRow {
  std::string job;
  std::string technique;
  int num_devices = 0;
  int launch = 0;  ///< 1 = the first launch of this job in this mode, 2 = the second, ...
  std::optional<Mode> mode = {};
  Script script = {};
};

/// `poll` moves the clock to the next event, or by its whole timeout. An attempt that no row matches is our
/// own mistake.
class ScriptedLauncher final : public Launcher {
 public:
  ScriptedLauncher(FakeClock& clock, std::vector<ScriptRow> table);
  /// `script_of` says how each attempt goes, in place of a table.
  ScriptedLauncher(FakeClock& clock, std::function<Script(const LaunchRequest&)> script_of);
  ~ScriptedLauncher() override;

  Result<std::vector<RankProcess>> launch(LaunchRequest request) override;
  void send(const std::string& attempt, int rank, const ToRank& message) override;
  void send_all(const std::string& attempt, const ToRank& message) override;
  std::vector<WorkerEvent> poll(double timeout_s) override;
  void set_wake_fds(std::vector<int> fds) override;
  void stop(const std::string& attempt, double grace_s) override;
  void set_num_standby(int count) override;
  int num_living() const override;

  /// Every launch so far, as requested.
  const std::vector<LaunchRequest>& launched() const { return launched_; }
  /// Attempts that were given a device which another living attempt owned: "a and b on node0:1".
  const std::vector<std::string>& overlaps() const { return overlaps_; }
  int num_standby() const { return num_standby_; }

 private:
  struct Attempt;

  Script script_of(const LaunchRequest& request);
  void advance_attempt(Attempt& attempt, std::vector<WorkerEvent>& events);

  FakeClock& clock_;
  std::vector<ScriptRow> table_;
  std::function<Script(const LaunchRequest&)> script_of_;
  std::map<std::string, Attempt> living_;
  std::map<std::pair<std::string, Mode>, int> num_launches_;
  std::vector<LaunchRequest> launched_;
  std::vector<std::string> overlaps_;
  std::vector<int> wake_fds_;
  int num_standby_ = 0;
  int next_pid_ = 1000;
};

}  // namespace saturn::worker

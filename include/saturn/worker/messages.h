// What controller and rank say to each other: one struct per message, and its JSON.
//
// `job`, `data` and `configuration` travel as the JSON that the batch module makes of them; this module
// carries them without looking inside.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"
#include "saturn/devices/machine.h"

namespace saturn::worker {

/// Raised whenever a message changes; a worker that speaks another version is ended at its `ready`.
inline constexpr int kProtocolVersion = 4;

/// How the ranks of an attempt find each other: over loopback, on a port that is already bound.
struct Rendezvous {
  std::string host = "127.0.0.1";
  int port = 0;            ///< 0: the attempt has one rank and meets no one
  int listen_fd = -1;      ///< rank 0 only: the listening socket, valid in the receiving process
  std::string key;         ///< secret prefix of every key of this attempt
  double timeout_s = 300;  ///< until all ranks have met

  bool operator==(const Rendezvous&) const = default;
};

enum class Mode {
  train,   ///< from `from_step` to `to_step`, with checkpoints and evaluation
  trial,   ///< `warmup_steps` + `trial_steps` timed steps, one timed save and load, then finished
  load,    ///< keep stepping until `end`: the load of the other slots during a trial
  verify,  ///< `trial_steps` steps, a checkpoint before the first and one after the last, then finished
};

/// Everything a rank needs to know; applied before its first tensor operation.
struct Assign {
  Json job;            ///< batch::Job
  Json data;           ///< batch::DataSource
  Json configuration;  ///< batch::Configuration
  int rank = 0;
  int num_ranks = 1;
  std::string node;                      ///< name of the node it runs on
  std::vector<devices::Device> devices;  ///< those this rank owns
  std::vector<int> cores;                ///< to pin to; empty = no pinning
  int threads = 1;
  std::int64_t memory_limit_bytes = 0;  ///< of this rank; 0 = none
  Rendezvous rendezvous;                ///< filled in by the launcher
  Mode mode = Mode::train;
  std::string job_directory;
  std::string log_path;     ///< stdout and stderr are appended to it
  std::string resume_from;  ///< a checkpoint's directory; empty = from the beginning
  std::int64_t from_step = 0;
  std::int64_t to_step = 0;
  int warmup_steps = 0;
  int trial_steps = 0;
  std::int64_t checkpoint_every = 0;  ///< steps; 0 = only when asked
  int keep_checkpoints = 2;
  std::int64_t max_skipped_steps = 0;  ///< of the whole job, for numbers that are not finite
  std::int64_t num_skipped_steps = 0;  ///< of them, up to from_step
  std::int64_t log_every = 1;          ///< steps
  std::vector<std::int64_t> evaluate_at;  ///< steps to validate after, from_step included, besides the job's own
  std::uint64_t seed = 0;

  bool operator==(const Assign&) const = default;
};

/// Save a checkpoint after the step that is running, and go on.
struct SaveCheckpoint {
  bool operator==(const SaveCheckpoint&) const = default;
};

/// Save a checkpoint once `step` steps are done (at once where they already are), then finish. In a trial:
/// time no step beyond it, and go on to what else is measured.
struct StopAtStep {
  std::int64_t step = 0;
  bool operator==(const StopAtStep&) const = default;
};

/// Finish after the step that is running, without a checkpoint.
struct End {
  bool operator==(const End&) const = default;
};

using ToRank = std::variant<Assign, SaveCheckpoint, StopAtStep, End>;

/// The first message of every worker ("standby": library loaded, nothing touched), and again once an
/// assignment is in force ("assigned").
struct Ready {
  int protocol = kProtocolVersion;
  int pid = 0;
  std::string phase = "standby";
  bool operator==(const Ready&) const = default;
};

/// Sent about every second by every rank whatever it does; a hang shows as a `step` that stands still.
struct Heartbeat {
  std::int64_t step = 0;  ///< steps done
  std::string doing;      ///< "loading", "step", "saving", ...
  bool operator==(const Heartbeat&) const = default;
};

/// One optimiser step, from rank 0.
struct Step {
  std::int64_t step = 0;  ///< steps done, this one included
  double loss = 0;
  double learning_rate = 0;
  double gradient_norm = 0;
  double step_time_s = 0;
  std::int64_t samples = 0;  ///< in this step
  std::int64_t tokens = 0;   ///< in this step; 0 where the data has none
  bool skipped = false;      ///< a number was not finite, and no weight was changed
  bool operator==(const Step&) const = default;
};

/// A checkpoint is complete on disk, from rank 0.
struct CheckpointSaved {
  std::int64_t step = 0;
  std::string path;
  double seconds = 0;
  bool operator==(const CheckpointSaved&) const = default;
};

/// Validation, from rank 0.
struct Metric {
  std::int64_t step = 0;
  std::map<std::string, double> values;
  bool operator==(const Metric&) const = default;
};

enum class ErrorClass {
  out_of_memory,       ///< of the device, or of the slot's limit
  host_out_of_memory,  ///< of the machine
  unsupported,         ///< this technique cannot run this job
  data,
  numerical,
  bad_configuration,
  disk_full,
  device_lost,  ///< the device does not answer any more
  peer_lost,    ///< another rank went away: that rank's end is the cause
  internal,
};

/// The rank cannot go on; it ends after sending this.
struct Error {
  ErrorClass error_class = ErrorClass::internal;
  std::string message;
  /// out_of_memory: what the rank had and the least it wanted besides; 0 where the allocator does not say.
  std::int64_t needed_bytes = 0;
  bool operator==(const Error&) const = default;
};

/// The rank has done what it was asked; it ends after sending this.
struct Finished {
  std::int64_t steps = 0;               ///< steps done since the beginning of the job
  std::map<std::string, double> times;  ///< "start_s", "load_s", "save_s", ...
  std::int64_t memory_peak_bytes = 0;
  std::int64_t host_memory_peak_bytes = 0;
  std::map<std::string, double> metrics;  ///< last validation
  /// Of the configuration, with what the technique measured and chose filled in: with these in `assign` the
  /// next attempt trains the same way without measuring again.
  Json knobs = Json::object();
  bool operator==(const Finished&) const = default;
};

/// Trouble that a rank lived with, from the rank that had it.
struct Warning {
  std::int64_t step = 0;  ///< steps done: those that could not be saved, or from which it goes on
  std::string about;      ///< "checkpoint_not_saved", "checkpoint_damaged"
  ErrorClass error_class = ErrorClass::internal;
  std::string message;
  bool operator==(const Warning&) const = default;
};

using FromRank = std::variant<Ready, Heartbeat, Step, CheckpointSaved, Metric, Warning, Error, Finished>;

std::string to_string(Mode mode);
std::string to_string(ErrorClass error_class);

/// {"type": "assign", ...}. Exact both ways; numbers that are not finite travel as "nan", "inf" and "-inf".
Json to_json(const ToRank& message);
Json to_json(const FromRank& message);

/// Errors: Kind::input, naming the message's type and the member.
Result<ToRank> to_rank_from_json(const Json& json);
Result<FromRank> from_rank_from_json(const Json& json);

}  // namespace saturn::worker

// The directory of a run: where everything lies, who holds it, and the journal inside.

#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/clock.h"
#include "saturn/base/files.h"
#include "saturn/base/result.h"
#include "saturn/journal/event.h"
#include "saturn/journal/run_state.h"

namespace saturn::journal {

/// Names of what lies in a run directory. Job names are path-safe (the batch reader sees to it).
class RunPaths {
 public:
  explicit RunPaths(std::string root) : root_(std::move(root)) {}

  const std::string& root() const { return root_; }
  std::string events() const { return root_ + "/events.jsonl"; }
  std::string lock() const { return root_ + "/lock"; }
  std::string profile() const { return root_ + "/profile.json"; }
  std::string summary() const { return root_ + "/summary.json"; }
  std::string report() const { return root_ + "/report.html"; }
  std::string control() const { return root_ + "/control"; }
  std::string trials() const { return root_ + "/trials"; }
  std::string batch(int number) const;  ///< batch.000.toml
  std::string plan(int number) const;   ///< plan.000.json
  std::string job(const std::string& name) const { return root_ + "/jobs/" + name; }
  std::string log(const std::string& name, int rank = 0) const;
  std::string metrics(const std::string& name) const { return job(name) + "/metrics.jsonl"; }
  std::string model(const std::string& name) const { return job(name) + "/model"; }

  /// Highest number of batch.NNN.toml or plan.NNN.json present; -1 where there is none.
  int last_batch() const;
  int last_plan() const;

 private:
  std::string root_;
};

/// "runs/<batch name>" under the current directory.
std::string default_run_directory(const std::string& batch_name);

/// What reading a journal found.
struct JournalContent {
  std::vector<Event> events;
  std::uint64_t good_bytes = 0;  ///< up to the end of the last whole line
  bool torn = false;             ///< bytes of an unfinished line follow
};

/// Reads events.jsonl; only its last line may be torn. An absent file is an empty journal.
///
/// Errors: Kind::input at "path:line:1" where a line before the last was changed, or the format is of another
/// version.
Result<JournalContent> read_journal(const std::string& path);

/// Folds the journal of `paths` without taking the lock. Errors: also Kind::input where there is no journal.
Result<RunState> read_run_state(const RunPaths& paths);

/// Whether a live controller holds the directory.
bool is_locked(const RunPaths& paths);

/// Holds the directory: the lock, the open journal, and the state folded from it. Only a holder appends.
class RunDirectory {
 public:
  /// Creates the directory where it is absent, locks it, repairs a torn last line and folds the journal.
  ///
  /// Errors: Kind::machine when another controller holds it (names pid and host) or it cannot be written;
  ///         Kind::disk_full; Kind::input for a journal that is not ours.
  static Result<RunDirectory> open(const std::string& root, const Clock& clock);

  /// Appends run_started: from here on this controller runs the directory's jobs. Once.
  Result<Event> begin();

  const RunPaths& paths() const { return paths_; }
  const RunState& state() const { return state_; }
  bool repaired() const { return repaired_; }

  /// Run time goes on from where the last controller left it; it stands still until this is called.
  void start_clock();
  double time_s() const;

  /// Stamps, writes and fsyncs one event, then folds it into the state. `kind`, `job`, `attempt` and
  /// `details` count.
  ///
  /// Errors: Kind::disk_full, Kind::machine; the line is then cut off again, and the state is unchanged.
  Result<Event> append(Event event);

  /// Makes jobs/<name>, and refuses a link that was planted there.
  Result<void> make_job_directory(const std::string& name);

  /// Moves jobs/<name> to replaced/<name>.NNN, so that a new beginning finds nothing. Good where it is
  /// absent.
  Result<void> set_aside_job(const std::string& name);

 private:
  RunDirectory(std::string root, const Clock& clock) : paths_(std::move(root)), clock_(&clock) {}

  RunPaths paths_;
  const Clock* clock_;
  FileDescriptor lock_;
  FileDescriptor events_;
  std::uint64_t size_ = 0;
  RunState state_;
  bool repaired_ = false;
  double base_s_ = 0.0;
  std::optional<double> started_at_s_;
};

}  // namespace saturn::journal

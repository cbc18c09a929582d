// The state of a run: a pure fold over its events. What status, summary and the run loop itself look at.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "saturn/journal/event.h"
#include "saturn/journal/job_state.h"
#include "saturn/plan/plan.h"

namespace saturn::journal {

/// A rank's process, recorded so that a later controller can tell it from a stranger with the same pid.
struct RankProcess {
  int pid = 0;
  std::uint64_t start_ticks = 0;  ///< field 22 of /proc/<pid>/stat
};

/// What the steps of an attempt took, without the first one.
struct StepPace {
  double typical_s = 0.0;      ///< median of the latest ones
  double spread_s = 0.0;       ///< median absolute deviation of them, scaled to a standard deviation
  double drift = 0.0;          ///< latest half over the half before, minus 1
  std::int64_t num_timed = 0;  ///< 0: nothing is known yet
};

/// What a search decided of a job at a rung.
enum class RungDecision {
  go_on,    ///< "continue"
  pause,    ///< it waits there with its checkpoint
  promote,  ///< it goes on after having waited
  stop,
};

const char* to_string(RungDecision decision);
std::optional<RungDecision> rung_decision_from(const std::string& name);

struct RungRecord {
  std::int64_t rung = 0;  ///< step at which jobs are compared
  std::int64_t step = 0;  ///< at which this one was validated for it; later than `rung` only after a crash
  std::optional<double> value;  ///< nothing: not finite
  RungDecision decision = RungDecision::go_on;
  std::string reason;
  std::int64_t seq = 0;  ///< of the event at which it came to the rung: their order
};

/// One launch of a job.
struct Attempt {
  int number = 0;
  std::string technique;
  int num_devices = 0;
  int num_ranks = 0;
  std::string device_class;
  std::vector<plan::Device> devices;
  Json knobs = Json::object();
  std::string trial;
  std::int64_t from_step = 0;
  std::int64_t to_step = 0;
  std::string resume_from;
  double predicted_s = 0.0;
  double predicted_step_s = 0.0;   ///< by the profile; 0 = not known
  double predicted_start_s = 0.0;  ///< from launch to the beginning of the first step
  std::vector<RankProcess> ranks;

  double start_s = 0.0;
  std::optional<double> first_step_s;  ///< run time at the end of the first step
  std::optional<double> end_s;         ///< absent while it runs
  std::int64_t last_step = 0;
  StepPace pace;
  double save_s = 0.0;                ///< longest of its checkpoints
  bool moves = false;                 ///< it was asked to stop in order to go on under another assignment
  bool requested = false;             ///< it was asked to stop: its end is no failure
  bool by_search = false;             ///< the search asked for that
  JobState next = JobState::pending;  ///< what the job is after a stop that was asked for
  std::string error_class;            ///< empty unless it failed
  std::string message;
};

struct Checkpoint {
  std::string path;  ///< relative to the job's directory
  std::int64_t step = 0;
  double save_s = 0.0;
};

/// A configuration that is not tried again for this job.
struct Struck {
  std::string trial;
  std::string technique;
  int num_devices = 0;
  std::string reason;
};

struct JobRecord {
  std::string name;
  std::string result_digest;
  std::int64_t num_steps = 0;
  JobState state = JobState::pending;
  std::string reason;  ///< why it is in this state, where that needs saying

  std::vector<Attempt> attempts;  ///< since the last reset
  int first_attempt = 1;          ///< number of attempts[0], or of the next one
  std::optional<Checkpoint> checkpoint;
  std::vector<RungRecord> rungs;  ///< ascending
  bool held_by_search = false;    ///< it is paused or stopped_early by a decision of the search
  std::vector<Struck> struck;
  std::set<std::int64_t> skipped_steps;  ///< whose loss or gradients were not finite
  int num_failed_saves = 0;
  double not_before_s = 0.0;  ///< run time before which no attempt starts (back-off)

  std::int64_t step = 0;  ///< last journaled step
  double step_time_s = 0.0;
  std::optional<double> train_loss;
  std::map<std::string, double> metrics;  ///< last value of each: validation_loss, unigram_loss, ...
  std::int64_t memory_peak_bytes = 0;
  std::int64_t host_memory_peak_bytes = 0;

  const Attempt* last_attempt() const { return attempts.empty() ? nullptr : &attempts.back(); }
  /// Run time its attempts took together; `now_s` ends a running one.
  double time_s(double now_s) const;
  /// Attempts that ended by a failure since the last reset.
  int num_failures() const;
  /// Steps up to `step` that were skipped.
  int num_skipped(std::int64_t step) const;
  /// Times introspection moved it since the last reset.
  int num_moves() const;
};

/// A batch whose jobs joined the run after its own.
struct Addition {
  std::string file;  ///< the copy in the run directory
  std::string path;  ///< where the user's file is
  std::string digest;
};

/// A job that a program proposed, in the order in which it did.
struct Proposal {
  std::int64_t number = 0;  ///< from 0
  Json parameters = Json::object();
  std::string job;
};

struct PlanRecord {
  std::string file;
  std::string digest;
  double origin_s = 0.0;
  double makespan_s = 0.0;
  double lower_bound_s = 0.0;
  std::string reason;
  double time_s = 0.0;
};

/// What introspection found and decided.
struct IntrospectionRecord {
  double time_s = 0.0;
  std::string trigger;
  std::string decision;  ///< keep, rearrange, move
  std::string reason;
  double kept_s = 0.0;             ///< until the end, had the plan in force gone on
  double planned_s = 0.0;          ///< until the end, under what was decided
  double cost_s = 0.0;             ///< of all moves together, contained in `planned_s`
  std::vector<std::string> moved;  ///< jobs
};

struct RunState {
  std::string batch_name;
  std::string batch_file;  ///< the copy in the run directory
  std::string batch_path;  ///< where the user's file is
  std::string batch_digest;
  std::vector<Addition> additions;
  std::vector<Proposal> proposals;
  std::vector<JobRecord> jobs;        ///< of the batch in force, in its order, then those that were added
  std::vector<plan::Device> drained;  ///< devices that take no new attempts
  std::vector<PlanRecord> plans;
  std::vector<IntrospectionRecord> introspections;
  std::size_t num_plans_before = 0;  ///< plans of earlier controllers
  int controller_pid = 0;            ///< of the last controller
  std::string controller_host;
  bool ended = false;   ///< the last controller ended orderly
  std::string outcome;  ///< of the last controller, once ended
  int exit_code = 0;
  std::int64_t next_seq = 0;
  double time_s = 0.0;  ///< of the last event

  JobRecord* find(const std::string& job);
  const JobRecord* find(const std::string& job) const;
  bool all_final() const;
  /// -1 where the job was not proposed.
  std::int64_t number_of_proposal(const std::string& job) const;
  /// The plan in force when the last controller began to run jobs; null where it has none yet.
  const PlanRecord* first_plan_of_last_controller() const;
};

/// Moves `state` on by one event.
///
/// Errors: Kind::input at `where` when the event cannot follow (a gap in seq, an impossible change of state,
/// a missing detail): the journal was edited.
Result<void> apply(RunState& state, const Event& event, const std::string& where = "events.jsonl");

Result<RunState> fold(const std::vector<Event>& events, const std::string& where = "events.jsonl");

}  // namespace saturn::journal

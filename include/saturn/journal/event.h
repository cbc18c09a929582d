// One line of events.jsonl: what happened, when, and to which job. This is the format's description.
//
// A journal is a text file of JSON objects, one a line, each ended by a newline and never changed afterwards:
//
//     {"seq":7,"time_s":12.25,"unix_s":1763716000.5,"event":"progress","job":"a","attempt":2,
//      "step":41,"loss":3.0625,"step_time_s":0.31,"crc32c":"9a0c1f2e"}              (as one line)
//
// seq      counts from 0 without gaps
// time_s   seconds of run time: it stands still while no controller runs jobs, and never goes back
// unix_s   the wall clock, for people only: it may jump
// event    one of EventKind, below, which says what else the line holds; job and attempt where it is of one
// crc32c   CRC-32C in eight hexadecimal digits of every byte of the line before `,"crc32c"`; always last
//
// The first line is a run_started, which names the format: "saturn.events/1". The number grows whenever a
// kind or a key is added that an older reader could not do without; a reader refuses every other number,
// before it looks at anything else. The last line alone may be torn (no newline, or a wrong checksum):
// whoever takes the lock cuts it off, and nobody else writes.

#pragma once

#include <cstdint>
#include <string>

#include "saturn/base/json.h"
#include "saturn/base/result.h"

namespace saturn::journal {

/// Named by the first event of every journal; a reader refuses other versions.
inline constexpr const char* kEventsFormat = "saturn.events/1";

/// What is in `details` of each kind; [] repeats, ? may be absent. Events of a job also carry `job`, and
/// `attempt` where they belong to one.
enum class EventKind {
  run_started,     ///< format, saturn, pid, host: a controller took the directory
  batch_accepted,  ///< file, path, digest, name, jobs [{name, result_digest, num_steps, reset?}]
  planned,         ///< file, digest, origin_s, makespan_s, lower_bound_s, reason
  introspected,    ///< trigger, old_plan, new_plan?, kept_s?, rearranged_s?, moved_s?, planned_s, cost_s,
                 ///< margin_s, decision (keep, rearrange, move), reason, moves [{job, from, to, cost_s}],
                 ///< estimates [{job, step_time_s, planned_step_time_s, num_timed, straggles}]
  attempt_started,  ///< technique, num_devices, num_ranks, device_class, node, devices [0 or "node:0"],
                    ///< knobs, trial, from_step, to_step, resume_from, predicted_s, predicted_step_s?,
                    ///< predicted_start_s?, ranks [{pid, start_ticks}]
  training,         ///< step: the first step of the attempt, or the first after a save
  progress,         ///< step, loss, step_time_s, pace {}?: now and then while training
  saving,           ///< step
  checkpoint,       ///< step, path, save_s
  metric,           ///< step, values {}
  proposed,  ///< number, parameters {}, name, result_digest, num_steps: a program proposed this job, which joins
             ///< the batch
  searched,  ///< rung, step, value?, decision (continue, pause, promote, stop), reason: what the search found
             ///< of the job at the rung, and decided
  stopping,  ///< reason, move?, search?, next? (pending, paused, stopped_early or cancelled: what the job is
             ///< once its ranks have ended)
  attempt_ended,  ///< next (a JobState), class, message, step, retry_after_s?, drop_checkpoint?, metrics {}?,
                  ///< times {}?, pace {}?, memory_peak_bytes?, host_memory_peak_bytes?
  skipped,        ///< step, loss?, gradient_norm?: a number was not finite, and no weight was changed
  warning,  ///< step, about (checkpoint_not_saved; checkpoint_damaged: it goes on from `path`, of `step`),
            ///< class, message, path?: trouble that the rank lives with
  struck,  ///< technique, num_devices, num_ranks, knobs, trial, reason: this configuration is not tried again
  job_changed,  ///< happened (a JobEvent of pause, resume, cancel, stop_early, reset, fail), reason, search?
  requested,    ///< id, verb, target?, accepted, answer: what somebody asked of the run, and what came of it
  batch_added,  ///< file, path, digest, jobs [{name, result_digest, num_steps}]: these jobs join the batch
  device_changed,  ///< node, device, happened (drained, returned), reason
  run_ended,       ///< outcome (done, failed, interrupted, stopped), exit_code
};

struct Event {
  std::int64_t seq = 0;  ///< from 0, without gaps
  double time_s = 0.0;   ///< seconds of run time: stands still while no controller runs the plan
  double unix_s = 0.0;
  EventKind kind = EventKind::run_started;
  std::string job;  ///< empty where the event is of the run
  int attempt = 0;  ///< from 1; 0 where it belongs to no attempt
  Json details = Json::object();
};

const char* to_string(EventKind kind);

/// The line without its newline; `crc32c`, last, covers the text before it.
std::string to_line(const Event& event);

/// Errors: Kind::input at `where` when the line is torn, changed or of an unknown kind.
Result<Event> event_from_line(std::string_view line, const std::string& where);

/// Whether the line ends in the checksum of what is before it: it was written to its end.
bool is_whole(std::string_view line);

/// Errors: Kind::input at `where` when the first line of a journal names another format than ours, however
/// that is checked; good where it names none.
Result<void> refuse_other_format(std::string_view first_line, const std::string& where);

}  // namespace saturn::journal

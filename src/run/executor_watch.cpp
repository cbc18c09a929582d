// What the ranks say, and what becomes of an attempt whose processes have ended.

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>

#include "run/executor.h"
#include "run/logs.h"
#include "saturn/base/files.h"
#include "saturn/base/units.h"
#include "saturn/checkpoint/manifest.h"
#include "saturn/checkpoint/shelf.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobRecord;
using journal::JobState;

constexpr double kProgressEveryS = 10.0;
constexpr double kLogsEveryS = 10.0;
constexpr double kPeerGraceS = 1.0;
constexpr double kLongestGapS = 2.0;  // between two looks; after a longer one this process itself was stopped

// A path in the job's directory as the journal keeps it.
std::string relative_to(const std::string& directory, const std::string& path) {
  const std::string relative = std::filesystem::path(path).lexically_relative(directory).string();
  return relative.empty() ? path : relative;
}

std::size_t num_lines(const std::string& path) {
  const Result<std::string> text = read_whole(path);
  return text.ok() ? static_cast<std::size_t>(std::count(text->begin(), text->end(), '\n')) : 0;
}

void put_finite(Json& details, const char* key, double value) {
  if (std::isfinite(value)) details[key] = value;
}

Json finite_values(const std::map<std::string, double>& values) {
  Json object = Json::object();
  for (const auto& [name, value] : values) put_finite(object, name.c_str(), value);
  return object;
}

void put_pace(Json& details, const journal::StepPace& pace) {
  if (pace.num_timed == 0) return;
  details["pace"] = {{"typical_s", pace.typical_s},
                     {"spread_s", pace.spread_s},
                     {"drift", pace.drift},
                     {"num_timed", pace.num_timed}};
}

bool is_saving(const std::string& doing) {
  return doing == "saving" || doing == "writing the model";
}

}  // namespace

Result<void> Executor::handle(const worker::WorkerEvent& event) {
  const auto at = std::find_if(live_.begin(), live_.end(),
                               [&](const auto& live) { return live->attempt == event.attempt; });
  if (at == live_.end()) return {};
  Live& live = **at;
  if (const auto* ended = std::get_if<worker::Ended>(&event.what)) {
    live.signs[static_cast<std::size_t>(event.rank)].ended = true;
    handle_death(live, event.rank, *ended);
    return {};
  }
  return handle_message(live, event.rank, std::get<worker::FromRank>(event.what));
}

Result<void> Executor::handle_message(Live& live, int rank, const worker::FromRank& message) {
  if (const auto* beat = std::get_if<worker::Heartbeat>(&message)) {
    Sign& sign = live.signs[static_cast<std::size_t>(rank)];
    sign.beat_s = around_.clock->now_s();
    sign.step = beat->step;
    sign.doing = beat->doing;
    return rank == 0 ? handle_beat(live, *beat) : Result<void>();
  }
  live.last_sign_s = around_.clock->now_s();
  if (const auto* step = std::get_if<worker::Step>(&message)) return handle_step(live, *step);
  if (const auto* saved = std::get_if<worker::CheckpointSaved>(&message)) {
    Event checkpoint{.kind = EventKind::checkpoint, .job = live.job, .attempt = live.number};
    checkpoint.details["step"] = saved->step;
    checkpoint.details["path"] = relative_to(directory_.paths().job(live.job), saved->path);
    checkpoint.details["save_s"] = saved->seconds;
    live.save_s = std::max(live.save_s, saved->seconds);
    return append(std::move(checkpoint));
  }
  if (const auto* warning = std::get_if<worker::Warning>(&message)) {
    Event told{.kind = EventKind::warning, .job = live.job, .attempt = live.number};
    told.details["step"] = warning->step;
    told.details["about"] = warning->about;
    told.details["class"] = worker::to_string(warning->error_class);
    told.details["message"] = warning->message;
    if (warning->about == "checkpoint_damaged")
      told.details["path"] = join_path(checkpoint::kShelf, checkpoint::name_of_step(warning->step));
    return append(std::move(told));
  }
  if (const auto* metric = std::get_if<worker::Metric>(&message)) {
    Event measured{.kind = EventKind::metric, .job = live.job, .attempt = live.number};
    measured.details["step"] = metric->step;
    measured.details["values"] = finite_values(metric->values);
    SATURN_TRY_VOID(append(std::move(measured)));
    return reach_rung(live, *metric);
  }
  if (const auto* error = std::get_if<worker::Error>(&message)) return handle_error(live, rank, *error);
  if (const auto* finished = std::get_if<worker::Finished>(&message)) {
    live.signs[static_cast<std::size_t>(rank)].finished = true;
    live.memory_peak_bytes = std::max(live.memory_peak_bytes, finished->memory_peak_bytes);
    live.host_memory_peak_bytes += finished->host_memory_peak_bytes;
    if (rank == 0) {
      live.finished = *finished;
      live.step = finished->steps;
    }
  }
  return {};
}

// The first that is a cause counts, not what its peers say of it.
Result<void> Executor::handle_error(Live& live, int rank, const worker::Error& error) {
  const bool consequence = error.error_class == worker::ErrorClass::peer_lost;
  if (error.error_class == worker::ErrorClass::device_lost) {
    const std::size_t each = live.devices.size() / live.signs.size();
    const std::size_t first = static_cast<std::size_t>(rank) * each;
    for (std::size_t i = first; i < first + each; ++i) live.lost.push_back(live.devices[i]);
  }
  if (!live.error || (live.error->error_class == worker::ErrorClass::peer_lost && !consequence))
    live.error = error;
  return {};
}

Result<void> Executor::handle_step(Live& live, const worker::Step& step) {
  const double now_s = around_.clock->now_s();
  live.step = step.step;
  live.step_time_s = step.step_time_s;
  live.longest_step_s = std::max(live.longest_step_s, step.step_time_s);
  if (!step.skipped) live.loss = step.loss;
  live.step_times.add(step.step_time_s);
  live.signs.front().step = step.step;
  if (step.skipped) {
    Event skipped{.kind = EventKind::skipped, .job = live.job, .attempt = live.number};
    skipped.details["step"] = step.step;
    put_finite(skipped.details, "loss", step.loss);
    put_finite(skipped.details, "gradient_norm", step.gradient_norm);
    SATURN_TRY_VOID(append(std::move(skipped)));
  }
  const JobState state = record_of(live).state;
  const bool first = live.steps_done++ == 0;
  const bool resumed = state == JobState::saving;
  if (first || resumed || now_s - live.last_progress_s >= kProgressEveryS) {
    live.last_progress_s = now_s;
    Event event{.kind = first || resumed ? EventKind::training : EventKind::progress,
                .job = live.job,
                .attempt = live.number};
    event.details["step"] = step.step;
    put_finite(event.details, "loss", step.loss);
    put_finite(event.details, "step_time_s", step.step_time_s);
    put_pace(event.details, live.step_times.pace());
    SATURN_TRY_VOID(append(std::move(event)));
  }
  around_.observer->on_step(live.job,
                            {.step = step.step,
                             .loss = step.loss,
                             .learning_rate = step.learning_rate,
                             .step_time_s = step.step_time_s,
                             .samples = step.samples,
                             .tokens = step.tokens},
                            directory_.state());
  return {};
}

Result<void> Executor::handle_beat(Live& live, const worker::Heartbeat& beat) {
  const bool got_on = beat.doing != live.doing || beat.step > live.step;
  live.doing = beat.doing;
  live.step = std::max(live.step, beat.step);
  if (got_on) live.last_sign_s = around_.clock->now_s();
  const JobState state = record_of(live).state;
  if (!is_saving(beat.doing) || (state != JobState::training && state != JobState::starting)) return {};
  Event saving{.kind = EventKind::saving, .job = live.job, .attempt = live.number};
  saving.details["step"] = live.step;
  return append(std::move(saving));
}

void Executor::handle_death(Live& live, int rank, const worker::Ended& ended) {
  --live.num_living;
  live.host_memory_died |= ended.out_of_host_memory;
  // One that has said all it had to say may be taken apart badly, or so slowly that it is helped.
  const bool finished = live.signs[static_cast<std::size_t>(rank)].finished;
  const bool badly = !finished && (ended.exit_code != 0 || ended.signal != 0);
  const bool by_signal =
      ended.signal == SIGTERM || ended.signal == SIGINT || ended.signal == SIGHUP || ended.signal == SIGQUIT;
  if (badly && !ended.asked && live.death.empty()) live.killed_from_outside = by_signal;
  if (badly && !ended.asked && live.death.empty())
    live.death = "rank " + std::to_string(rank) + " ended with " + ended.reason;
  // Its peers wait for something that will not come.
  if (live.num_living > 0 && badly && !live.killed) {
    live.killed = true;
    around_.launcher->stop(live.attempt, kPeerGraceS);
  }
}

// ---- Hangs

void Executor::look_for_hangs() {
  const double now_s = around_.clock->now_s();
  // Nobody is to blame for the time that this process did not run.
  const double gap_s = now_s - looked_for_hangs_s_;
  looked_for_hangs_s_ = now_s;
  const double forgiven_s = gap_s > kLongestGapS ? gap_s : 0.0;
  for (const auto& live : live_) {
    live->last_sign_s += forgiven_s;
    for (Sign& sign : live->signs) {
      if (sign.beat_s) *sign.beat_s += forgiven_s;
    }
    if (live->killed) continue;
    const double silent_s = now_s - live->last_sign_s;
    const bool stands_still = silent_s >= hang_limit_s(live->doing, live->trial, live->longest_step_s);
    const bool is_silent = std::any_of(live->signs.begin(), live->signs.end(), [&](const Sign& sign) {
      return !sign.ended && sign.beat_s && now_s - *sign.beat_s >= kSilenceLimitS;
    });
    if (!stands_still && !is_silent) continue;
    live->hang =
        (is_silent ? "" : "no progress for " + format_duration(silent_s) + ": ") + stuck_rank(*live, now_s);
    live->killed = true;
    around_.launcher->stop(live->attempt, kPeerGraceS);
  }
}

// The rank that does not run, else the one that is behind the others, and what it was doing.
std::string Executor::stuck_rank(const Live& live, double now_s) const {
  const Sign* worst = nullptr;
  bool is_silent = false;
  for (const Sign& sign : live.signs) {
    if (sign.ended) continue;
    if (sign.beat_s && now_s - *sign.beat_s >= kSilenceLimitS) {
      worst = &sign;
      is_silent = true;
      break;
    }
    if (worst == nullptr || sign.step < worst->step) worst = &sign;
  }
  if (worst == nullptr) return "none of its ranks lives";
  const std::string rank = "rank " + std::to_string(worst - live.signs.data());
  const std::string doing =
      (worst->doing.empty() ? " before it began" : " while in " + in_quotes(worst->doing)) + ", after step " +
      std::to_string(worst->step);
  if (is_silent)
    return rank + " gives no sign of life for " + format_duration(now_s - *worst->beat_s) + doing;
  return rank + " stands still" + doing;
}

// A rank that prints without end must not fill the disk that its checkpoints need.
void Executor::keep_logs_short() {
  const double now_s = around_.clock->now_s();
  if (now_s - logs_seen_s_ < kLogsEveryS) return;
  logs_seen_s_ = now_s;
  for (const auto& live : live_) {
    for (const std::string& log : live->logs) {
      const Result<bool> cut = shorten_log(log);
      if (!cut.ok()) around_.observer->on_note("warning: " + cut.faults().front().what);
      if (cut.ok() && *cut)
        around_.observer->on_note("warning: job " + in_quotes(live->job) + " prints a lot; its log was cut");
    }
  }
}

// ---- The end of an attempt

AttemptEnd Executor::end_of(const Live& live) const {
  AttemptEnd end{
      .finished = live.finished.has_value(), .step = live.step, .made_progress = live.steps_done > 0};
  if (live.error && live.error->error_class != worker::ErrorClass::peer_lost) {
    end.error_class = worker::to_string(live.error->error_class);
    end.message = live.error->message;
  } else if (live.host_memory_died) {
    end.error_class = worker::to_string(worker::ErrorClass::host_out_of_memory);
    end.message = "the system ended a rank for want of host memory";
  } else if (!live.hang.empty()) {
    end.error_class = "hang";
    end.message = live.hang;
  } else if (!live.death.empty()) {
    end.error_class = live.killed_from_outside ? "killed" : "rank_lost";
    end.message = live.death;
  } else if (!live.finished && !stopping_) {
    end.error_class = "rank_lost";
    end.message = live.error ? live.error->message : "its ranks ended without a word";
  }
  return end;
}

Result<void> Executor::conclude_the_dead() {
  for (auto at = live_.begin(); at != live_.end();) {
    if ((*at)->num_living > 0) {
      ++at;
      continue;
    }
    const std::unique_ptr<Live> live = std::move(*at);
    at = live_.erase(at);
    SATURN_TRY_VOID(conclude(*live));
  }
  return {};
}

Result<void> Executor::conclude(const Live& live) {
  const AttemptEnd end = end_of(live);
  const Verdict verdict = verdict_on(end, record_of(live), execution_.batch.run);
  Event ended{.kind = EventKind::attempt_ended, .job = live.job, .attempt = live.number};
  Json& details = ended.details;
  details["next"] = journal::to_string(verdict.next);
  details["class"] = verdict.next == JobState::done ? "" : end.error_class;
  details["message"] = verdict.message;
  details["step"] = end.step;
  if (verdict.retry_after_s > 0.0) details["retry_after_s"] = verdict.retry_after_s;
  if (verdict.drop_checkpoint) details["drop_checkpoint"] = true;
  std::map<std::string, double> metrics;
  if (live.loss) metrics["train_loss"] = *live.loss;
  if (live.finished) {
    for (const auto& [name, value] : live.finished->metrics) metrics[name] = value;
    details["times"] = finite_values(live.finished->times);
    details["memory_peak_bytes"] = live.memory_peak_bytes;
    details["host_memory_peak_bytes"] = live.host_memory_peak_bytes;
  }
  details["metrics"] = finite_values(metrics);
  put_pace(details, live.step_times.pace());
  SATURN_TRY_VOID(append(std::move(ended)));
  stall_planned_ = false;
  looked_at_step_s_.erase(live.attempt);
  if (journal::is_final(verdict.next)) look_reason_ = "job " + in_quotes(live.job) + " ended";

  if (verdict.next == JobState::failed) {
    failed_.insert(live.job);
    failures_.push_back(failure_of(live, end.error_class, verdict.message));
    re_plan_reason_ = "job " + in_quotes(live.job) + " failed";
  }
  for (const plan::Device& device : verdict.drain ? live.lost : std::vector<plan::Device>())
    SATURN_TRY_VOID(drain_device(device, "job " + in_quotes(live.job) + ": " + end.message));
  if (verdict.strike) SATURN_TRY_VOID(strike(live, end.error_class + ": " + end.message));
  return {};
}

// The configuration is not tried again; the job goes on under another, if there is one.
Result<void> Executor::strike(const Live& live, const std::string& reason) {
  const journal::Attempt attempt = *record_of(live).last_attempt();
  Event struck{.kind = EventKind::struck, .job = live.job};
  struck.details = {{"technique", attempt.technique}, {"num_devices", attempt.num_devices},
                    {"num_ranks", attempt.num_ranks}, {"knobs", attempt.knobs},
                    {"trial", attempt.trial},         {"reason", reason}};
  SATURN_TRY_VOID(append(std::move(struck)));
  const std::set<std::string> alone = {live.job};
  Remainder own = remainder();
  own.selected = &alone;
  const Result<plan::PlanProblem> left = remaining_problem(own);
  re_plan_reason_ = "job " + in_quotes(live.job) + " cannot run as " + attempt.technique + " x" +
                    std::to_string(attempt.num_devices);
  if (left.ok()) return {};
  return fail_job(live.job, left.faults().front().expected);
}

Diagnostic Executor::failure_of(const Live& live, const std::string& error_class,
                                const std::string& message) const {
  const JobRecord& record = record_of(live);
  const std::string log = directory_.paths().log(live.job);
  const batch::Batch& batch = execution_.batch;
  const bool again = record.num_failures() > 1;
  std::string expected = "a job that trains to its last step";
  if (again) {
    const auto at = batch.positions.find("run.max_restarts");
    expected = "at most " + std::to_string(batch.run.max_restarts) + " restarts (max_restarts" +
               (at == batch.positions.end() ? "" : ", " + at->second.text()) + ")";
  }
  const std::int64_t step = resume_step(record);
  return {.kind = error_class == "disk_full" ? Kind::disk_full : Kind::job_failed,
          .where = position(log, static_cast<int>(std::max<std::size_t>(1, num_lines(log))), 1),
          .what = "job " + in_quotes(live.job) + " failed at step " + std::to_string(record.step) + " (" +
                  error_class + "): " + message,
          .expected = expected,
          .fix = "read the log above that line; `saturn run " + batch.path + " --retry-failed` " +
                 (step > 0 ? "continues from step " + std::to_string(step) : "begins it again")};
}

}  // namespace saturn::run

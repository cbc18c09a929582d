// Attempts as small state machines whose next change of state is a point in virtual time.

#include "saturn/worker/scripted_launcher.h"

#include <poll.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <limits>

namespace saturn::worker {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();
constexpr double kSameTimeS = 1e-9;  // the clock moves by differences, which round
constexpr double kHeartbeatS = 1.0;

std::string text_at(const Json& object, const char* key) {
  if (!object.is_object()) return "";
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

std::string checkpoint_path(const std::string& job_directory, std::int64_t step) {
  std::array<char, 32> name{};
  std::snprintf(name.data(), name.size(), "/checkpoints/step-%06lld", static_cast<long long>(step));
  return job_directory + name.data();
}

}  // namespace

struct ScriptedLauncher::Attempt {
  enum class Phase { starting, loading, stepping, saving, measuring, failing, hanging, stopped };

  LaunchRequest request;
  Script script;
  double launched_s = 0;
  Phase phase = Phase::starting;
  double next_s = 0;  // when the phase ends
  std::int64_t done = 0;
  std::int64_t target = 0;
  bool save = false;
  bool end = false;
  std::optional<std::int64_t> stop_at = {};
  int stop_signal = 0;
  bool over = false;  // its last event has been given

  const Assign& assign() const { return request.ranks.front(); }
  int num_ranks() const { return static_cast<int>(request.ranks.size()); }

  void begin(Phase next, double now_s, double seconds) {
    phase = next;
    next_s = now_s + seconds;
  }
  double step_time_s(std::int64_t step) const {
    return script.step_time_s_of ? script.step_time_s_of(step) : script.step_time_s;
  }
  double loss(std::int64_t step) const {
    return script.loss_of ? script.loss_of(step) : 1.0 / static_cast<double>(step);
  }
  std::map<std::string, double> metrics(std::int64_t step) const {
    return script.metrics_of ? script.metrics_of(step) : script.metrics;
  }
  bool validates_now() const {
    const std::vector<std::int64_t>& at = assign().evaluate_at;
    return std::find(at.begin(), at.end(), done) != at.end();
  }
  bool must_stop() const { return end || (stop_at && done >= *stop_at); }
};

ScriptedLauncher::ScriptedLauncher(FakeClock& clock, std::vector<ScriptRow> table)
    : clock_(clock), table_(std::move(table)) {}
ScriptedLauncher::ScriptedLauncher(FakeClock& clock, std::function<Script(const LaunchRequest&)> script_of)
    : clock_(clock), script_of_(std::move(script_of)) {}
ScriptedLauncher::~ScriptedLauncher() = default;

Script ScriptedLauncher::script_of(const LaunchRequest& request) {
  if (script_of_) return script_of_(request);
  const Assign& assign = request.ranks.front();
  const std::string job = text_at(assign.job, "name");
  const std::string technique = text_at(assign.configuration, "technique");
  int num_devices = 0;
  for (const Assign& rank : request.ranks) num_devices += static_cast<int>(rank.devices.size());
  const int launch = ++num_launches_[{job, assign.mode}];
  for (const ScriptRow& row : table_) {
    const bool matches = (row.job.empty() || row.job == job) &&
                         (row.technique.empty() || row.technique == technique) &&
                         (row.num_devices == 0 || row.num_devices == num_devices) &&
                         (row.launch == 0 || row.launch == launch) && (!row.mode || *row.mode == assign.mode);
    if (matches) return row.script;
  }
  SATURN_CHECK(false, "the script's table has a row for every attempt");
  return {};
}

Result<std::vector<RankProcess>> ScriptedLauncher::launch(LaunchRequest request) {
  SATURN_CHECK(!request.ranks.empty() && !request.attempt.empty(),
               "an attempt has a name and at least one rank");
  SATURN_CHECK(!living_.contains(request.attempt), "an attempt's name is not used again while it lives");
  std::vector<RankProcess> processes;
  std::set<std::pair<std::string, int>> owned;
  for (std::size_t rank = 0; rank < request.ranks.size(); ++rank) {
    Assign& assign = request.ranks[rank];
    assign.rank = static_cast<int>(rank);
    assign.num_ranks = static_cast<int>(request.ranks.size());
    for (const devices::Device& device : assign.devices) owned.emplace(assign.node, device.index);
    processes.push_back({.rank = assign.rank, .pid = next_pid_++});
  }
  for (const auto& [name, other] : living_) {
    for (const Assign& assign : other.request.ranks) {
      for (const devices::Device& device : assign.devices) {
        if (!owned.contains({assign.node, device.index})) continue;
        overlaps_.push_back(request.attempt + " and " + name + " on " + assign.node + ":" +
                            std::to_string(device.index));
      }
    }
  }

  Attempt attempt{.request = request, .script = script_of(request), .launched_s = clock_.now_s()};
  const Assign& assign = attempt.assign();
  attempt.done = assign.mode == Mode::train ? assign.from_step : 0;
  attempt.target = assign.mode == Mode::train    ? assign.to_step
                   : assign.mode == Mode::trial  ? assign.warmup_steps + assign.trial_steps
                   : assign.mode == Mode::verify ? assign.trial_steps
                                                 : std::numeric_limits<std::int64_t>::max();
  if (assign.memory_limit_bytes > 0 && attempt.script.memory_peak_bytes > assign.memory_limit_bytes) {
    attempt.script.fault = ScriptedFault{.after_step = attempt.done,
                                         .error_class = ErrorClass::out_of_memory,
                                         .message = "the script needs more memory than the limit",
                                         .needed_bytes = attempt.script.memory_peak_bytes};
  }
  attempt.begin(Attempt::Phase::starting, clock_.now_s(), attempt.script.start_s);
  launched_.push_back(request);
  living_.emplace(request.attempt, std::move(attempt));
  return processes;
}

void ScriptedLauncher::send(const std::string& attempt, int rank, const ToRank& message) {
  const auto found = living_.find(attempt);
  if (found == living_.end() || rank < 0 || rank >= found->second.num_ranks()) return;
  if (std::holds_alternative<SaveCheckpoint>(message)) found->second.save = true;
  if (std::holds_alternative<End>(message)) found->second.end = true;
  if (const auto* stop = std::get_if<StopAtStep>(&message)) found->second.stop_at = stop->step;
}

void ScriptedLauncher::send_all(const std::string& attempt, const ToRank& message) {
  send(attempt, 0, message);
}

void ScriptedLauncher::set_wake_fds(std::vector<int> fds) {
  wake_fds_ = std::move(fds);
}

void ScriptedLauncher::stop(const std::string& attempt, double grace_s) {
  const auto found = living_.find(attempt);
  if (found == living_.end()) return;
  found->second.stop_signal = grace_s > 0 ? 15 : 9;
  found->second.begin(Attempt::Phase::stopped, clock_.now_s(), 0);
}

void ScriptedLauncher::set_num_standby(int count) {
  num_standby_ = count;
}
int ScriptedLauncher::num_living() const {
  int num_ranks = 0;
  for (const auto& [name, attempt] : living_) num_ranks += attempt.num_ranks();
  return num_ranks;
}

// The end of one phase: what is said, and which phase follows.
void ScriptedLauncher::advance_attempt(Attempt& attempt, std::vector<WorkerEvent>& events) {
  using Phase = Attempt::Phase;
  const double now_s = clock_.now_s();
  const Script& script = attempt.script;
  const Assign& assign = attempt.assign();

  const auto say = [&](int rank, std::variant<FromRank, Ended> what) {
    events.push_back(
        {.attempt = attempt.request.attempt, .rank = rank, .time_s = now_s, .what = std::move(what)});
  };
  const auto say_all = [&](const FromRank& message) {
    for (int rank = 0; rank < attempt.num_ranks(); ++rank) say(rank, message);
  };
  const auto end_all = [&](const Ended& ended) {
    for (int rank = 0; rank < attempt.num_ranks(); ++rank) say(rank, ended);
    attempt.over = true;
  };
  const auto finish = [&] {
    const std::map<std::string, double> metrics = attempt.metrics(attempt.done);
    if (assign.mode == Mode::train && !metrics.empty() && attempt.done >= attempt.target) {
      say(0, FromRank(Metric{.step = attempt.done, .values = metrics}));
    }
    Finished finished{.steps = attempt.done,
                      .times = {{"start_s", script.start_s}},
                      .memory_peak_bytes = script.memory_peak_bytes,
                      .host_memory_peak_bytes = script.host_memory_peak_bytes};
    if (const auto knobs = assign.configuration.find("knobs"); knobs != assign.configuration.end())
      finished.knobs = *knobs;
    finished.knobs.update(script.tuned_knobs);
    if (assign.mode == Mode::trial || !assign.resume_from.empty()) finished.times["load_s"] = script.load_s;
    if (assign.mode == Mode::trial) finished.times["save_s"] = script.save_s;
    if (attempt.done >= attempt.target) finished.metrics = metrics;
    say_all(finished);
    end_all({.exit_code = 0, .reason = "exit code 0"});
  };
  const auto next_step = [&] {
    if (script.fault && attempt.done >= script.fault->after_step) {
      const bool hangs = script.fault->kind == ScriptedFault::Kind::hang;
      const bool freezes = script.fault->kind == ScriptedFault::Kind::freeze;
      if (freezes) say_all(Heartbeat{.step = attempt.done, .doing = "step"});
      return hangs || freezes
                 ? attempt.begin(Phase::hanging, now_s, kHeartbeatS)
                 : attempt.begin(Phase::failing, now_s, attempt.step_time_s(attempt.done + 1) / 2);
    }
    if (attempt.stop_at && attempt.done >= *attempt.stop_at)
      return assign.mode == Mode::trial
                 ? attempt.begin(Phase::measuring, now_s, script.save_s + script.load_s)
                 : attempt.begin(Phase::saving, now_s, script.save_s);
    if (attempt.end) return finish();
    if (attempt.done < attempt.target) {
      return attempt.begin(Phase::stepping, now_s, attempt.step_time_s(attempt.done + 1));
    }
    if (assign.mode == Mode::trial)
      return attempt.begin(Phase::measuring, now_s, script.save_s + script.load_s);
    finish();
  };

  switch (attempt.phase) {
    case Phase::starting:
      say_all(Ready{.pid = 0, .phase = "assigned"});
      attempt.begin(Phase::loading, now_s, assign.resume_from.empty() ? 0.0 : script.load_s);
      return;
    case Phase::loading:
      if (script.falls_back_to && !assign.resume_from.empty()) {
        attempt.done = *script.falls_back_to;
        say(0, FromRank(Warning{.step = attempt.done,
                                .about = "checkpoint_damaged",
                                .error_class = ErrorClass::data,
                                .message = assign.resume_from + " is damaged"}));
      }
      if (attempt.validates_now())
        say(0, FromRank(Metric{.step = attempt.done, .values = attempt.metrics(attempt.done)}));
      return next_step();
    case Phase::stepping: {
      const double seconds = attempt.step_time_s(++attempt.done);
      const bool last = attempt.done >= attempt.target;
      if (attempt.done % std::max<std::int64_t>(assign.log_every, 1) == 0 || last) {
        const double loss = attempt.loss(attempt.done);
        say(0, FromRank(Step{.step = attempt.done,
                             .loss = loss,
                             .step_time_s = seconds,
                             .skipped = !std::isfinite(loss)}));
      }
      if (attempt.validates_now() && !last)
        say(0, FromRank(Metric{.step = attempt.done, .values = attempt.metrics(attempt.done)}));
      const bool due = assign.checkpoint_every > 0 && attempt.done % assign.checkpoint_every == 0 && !last;
      const bool saves = assign.mode == Mode::train && (due || attempt.save) && !attempt.must_stop();
      return saves ? attempt.begin(Phase::saving, now_s, script.save_s) : next_step();
    }
    case Phase::saving:
      attempt.save = false;
      if (script.save_fails_of && script.save_fails_of(attempt.done)) {
        say(0, FromRank(Warning{.step = attempt.done,
                                .about = "checkpoint_not_saved",
                                .error_class = ErrorClass::disk_full,
                                .message = "no space left on device"}));
        return attempt.must_stop() ? finish() : next_step();
      }
      say(0, FromRank(CheckpointSaved{.step = attempt.done,
                                      .path = checkpoint_path(assign.job_directory, attempt.done),
                                      .seconds = script.save_s}));
      return attempt.must_stop() ? finish() : next_step();
    case Phase::measuring:
      return finish();
    case Phase::hanging:
      for (int rank = 0; rank < attempt.num_ranks(); ++rank) {
        const bool silent = script.fault->kind == ScriptedFault::Kind::freeze && rank == script.fault->rank;
        if (!silent) say(rank, FromRank(Heartbeat{.step = attempt.done, .doing = "step"}));
      }
      return attempt.begin(Phase::hanging, now_s, kHeartbeatS);
    case Phase::stopped:
      return end_all({.signal = attempt.stop_signal,
                      .asked = true,
                      .reason = "signal " + std::to_string(attempt.stop_signal)});
    case Phase::failing:
      break;
  }

  const ScriptedFault& fault = *script.fault;
  if (fault.kind == ScriptedFault::Kind::error) {
    say_all(Error{
        .error_class = fault.error_class, .message = fault.message, .needed_bytes = fault.needed_bytes});
    return end_all({.exit_code = 1, .reason = "exit code 1"});
  }
  say(fault.rank, Ended{.signal = fault.signal, .reason = "signal " + std::to_string(fault.signal)});
  for (int rank = 0; rank < attempt.num_ranks(); ++rank) {
    if (rank == fault.rank) continue;
    say(rank,
        FromRank(Error{.error_class = ErrorClass::peer_lost, .message = "a peer closed the connection"}));
    say(rank, Ended{.exit_code = 1, .reason = "exit code 1"});
  }
  attempt.over = true;
}

std::vector<WorkerEvent> ScriptedLauncher::poll(double timeout_s) {
  const double deadline_s = timeout_s < 0 ? kNever : clock_.now_s() + timeout_s;
  std::vector<pollfd> wakers;
  for (const int fd : wake_fds_) wakers.push_back({fd, POLLIN, 0});
  std::vector<WorkerEvent> events;
  while (events.empty()) {
    if (::poll(wakers.data(), wakers.size(), 0) > 0) break;
    double next_s = kNever;
    for (const auto& [name, attempt] : living_) next_s = std::min(next_s, attempt.next_s);
    SATURN_CHECK(next_s < kNever || deadline_s < kNever, "something goes on when poll waits without end");
    const double until_s = std::min(next_s, deadline_s);
    if (until_s > clock_.now_s()) clock_.advance_s(until_s - clock_.now_s());
    if (next_s > deadline_s) break;
    for (auto& [name, attempt] : living_) {
      if (attempt.next_s <= clock_.now_s() + kSameTimeS) advance_attempt(attempt, events);
    }
    std::erase_if(living_, [](const auto& entry) { return entry.second.over; });
  }
  return events;
}

}  // namespace saturn::worker

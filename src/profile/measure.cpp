// The trial runner: what the search asks for, on the machine's devices, each trial a process group of its
// own.
//
// Devices that jobs share with others in the run (CPU slots, shares of a GPU) are measured one trial at a
// time with every other slot kept busy; whole GPUs disturb each other little, so trials on disjoint ones run
// side by side.

#include "saturn/profile/measure.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <numeric>
#include <set>

#include "profile/search.h"
#include "saturn/base/files.h"
#include "saturn/base/statistics.h"
#include "saturn/base/units.h"
#include "saturn/profile/attempt_end.h"
#include "saturn/profile/ranks.h"

namespace saturn::profile {
namespace {

constexpr double kPollS = 0.25;
constexpr double kStopGraceS = 1.0;
constexpr double kTimedS = 1.0;     // short steps are timed for about this long
constexpr int kMaxTrialSteps = 64;  // ... but never more of them
constexpr double kHopeless = 1.25;  // times as slow as the best beside it: the batch's own steps are enough
constexpr double kSlotFlops = 2.0e10;  // of a CPU slot's thread: only sizes the timing, never enters a result

struct Slot {
  std::string node;
  devices::Device device;
  std::string held_by;  // attempt; empty = free
};

bool is_shared(const devices::Device& device) {
  return device.kind == "cpu" || device.num_shares > 1;
}

// One trial that runs.
struct Running : AttemptEnd {
  Trial trial;
  std::string attempt;
  std::string directory;
  int warmup_steps = 0;
  int trial_steps = 0;
  double launched_s = 0.0;
  double deadline_s = 0.0;
  double first_step_s = 0.0;  // when its report came; 0 before
  std::vector<double> step_times_s;
  int num_steps_seen = 0;
  double finished_s = 0.0;
  double ended_s = 0.0;
  std::int64_t memory_peak_bytes = 0;
  std::int64_t host_memory_peak_bytes = 0;
  bool stopped = false;
  bool timing_is_over = false;
  int num_living = 0;
};

// Work that only keeps another slot busy.
struct Load {
  std::string attempt;
  std::string job_class;
  std::size_t slot = 0;
  double launched_s = 0.0;
  bool stepping = false;
  bool ending = false;
};

class Measurement {
 public:
  Measurement(const MeasureRequest& request, worker::Launcher& launcher, const Clock& clock,
              ProfileObserver& observer)
      : request_(request),
        batch_(*request.batch),
        launcher_(launcher),
        clock_(clock),
        observer_(observer),
        search_(batch_, *request.machine) {}

  Result<Profile> run();

 private:
  void take_over_previous();
  void lay_out_slots();
  Result<void> start_what_can();
  bool make_room(const Trial& trial, std::vector<std::size_t>& slots);
  bool others_are_busy(const Trial& trial, const std::vector<std::size_t>& slots);
  Result<void> start_load(std::size_t slot, const Trial& trial);
  void end_load(Load& load);
  std::string load_directory(std::size_t slot) const {
    return join_path(request_.trials_directory, "load-" + std::to_string(slot));
  }
  Result<void> start_trial(Trial trial, const std::vector<std::size_t>& slots);
  void handle(const worker::WorkerEvent& event);
  void handle(Running& running, const worker::WorkerEvent& event);
  bool has_been_timed(const Running& running) const;
  void check_deadlines();
  Result<void> settle();
  Trial concluded(const Running& running) const;
  void tidy(const Running& running, const Trial& trial) const;
  void stop_everything();
  bool budget_is_spent() const;
  bool something_is_left() const;
  int num_ranks_of_next(const Running& running) const;
  double eta_s() const;
  const batch::Job& job_of(const Trial& trial) const;
  int num_timed_steps(const batch::Job& job, const batch::Configuration& configuration) const;
  Result<void> keep();

  const MeasureRequest& request_;
  const batch::Batch& batch_;
  worker::Launcher& launcher_;
  const Clock& clock_;
  ProfileObserver& observer_;

  Profile profile_;
  Search search_;
  std::vector<Slot> slots_;
  std::vector<std::unique_ptr<Running>> running_;
  std::vector<std::unique_ptr<Load>> loads_;
  double began_s_ = 0.0;
  int num_trials_ = 0;
  int num_ended_ = 0;
  bool is_over_ = false;  // the budget is spent: no trial starts any more
  int num_loads_started_ = 0;
  std::set<std::string> cannot_load_;  // classes whose load ended by itself or never stepped
};

// ---- What is there already

void Measurement::take_over_previous() {
  const Conditions now = conditions_of(batch_, *request_.machine);
  profile_.machine = *request_.machine;
  profile_.conditions = now;
  profile_.made_from = {{.name = batch_.path, .digest = batch_.digest}};
  const bool holds = request_.previous != nullptr && request_.previous->conditions == now;
  int num_failed = 0;
  for (const Trial& trial : wanted_trials(batch_, *request_.machine)) {
    const Trial* const before = holds ? request_.previous->find_id(trial.id) : nullptr;
    if (before == nullptr || before->source == Source::interpolated) continue;
    if (before->outcome == Outcome::failed) {
      ++num_failed;
      continue;
    }
    Trial kept = *before;
    kept.jobs = trial.jobs;
    search_.conclude(kept);
    profile_.trials.push_back(std::move(kept));
    for (const Correction& correction : request_.previous->corrections) {
      if (correction.trial == trial.id) profile_.corrections.push_back(correction);
    }
  }
  num_trials_ = search_.num_expected();
  if (num_trials_ == 0) {
    observer_.on_note("every trial is in profile.json already");
  } else if (request_.previous == nullptr) {
    observer_.on_note("measuring about " + std::to_string(num_trials_) +
                      (num_trials_ == 1 ? " trial" : " trials") + ": there is no profile yet");
  } else {
    std::string why;
    for (const std::string& reason : what_is_stale(*request_.previous, batch_, *request_.machine))
      why += (why.empty() ? "" : "; ") + reason;
    if (why.empty()) {
      why = num_failed > 0 ? std::to_string(num_failed) + " failed the last time"
                           : "a budget left no time for them";
    }
    observer_.on_note("measuring about " + std::to_string(num_trials_) + " of " +
                      std::to_string(num_trials_ + static_cast<int>(profile_.trials.size())) +
                      " trials, as to the profile there is: " + why);
  }
  observer_.on_begin(num_trials_, static_cast<int>(profile_.trials.size()));
}

void Measurement::lay_out_slots() {
  for (const devices::Node& node : request_.machine->nodes) {
    for (const devices::Device& device : node.devices)
      slots_.push_back({.node = node.name, .device = device});
  }
}

const batch::Job& Measurement::job_of(const Trial& trial) const {
  const auto at = std::find_if(batch_.jobs.begin(), batch_.jobs.end(),
                               [&](const batch::Job& job) { return job.name == trial.jobs.front(); });
  SATURN_CHECK(at != batch_.jobs.end(), "a wanted trial names jobs of its batch");
  return *at;
}

// ---- Starting

// Free slots of one node for `trial`, ending loads that stand in the way. False while there is no room.
bool Measurement::make_room(const Trial& trial, std::vector<std::size_t>& slots) {
  const batch::Configuration& wants = trial.configuration;
  for (const devices::Node& node : request_.machine->nodes) {
    if (node.device_class != wants.device_class) continue;
    slots.clear();
    bool shared = false;
    for (std::size_t i = 0; i < slots_.size(); ++i) {
      if (slots_[i].node != node.name) continue;
      shared |= is_shared(slots_[i].device);
      const bool by_load =
          std::any_of(loads_.begin(), loads_.end(), [&](const auto& load) { return load->slot == i; });
      const bool free = slots_[i].held_by.empty() || by_load;
      if (free && static_cast<int>(slots.size()) < wants.num_devices) slots.push_back(i);
    }
    if (static_cast<int>(slots.size()) < wants.num_devices) continue;
    // A shared node times one trial at a time.
    const bool busy = shared && std::any_of(running_.begin(), running_.end(), [&](const auto& running) {
                        return std::any_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
                          return slot.node == node.name && slot.held_by == running->attempt;
                        });
                      });
    if (busy) continue;
    bool clear = true;
    for (const auto& load : loads_) {
      if (std::find(slots.begin(), slots.end(), load->slot) == slots.end()) continue;
      end_load(*load);
      clear = false;
    }
    return clear;
  }
  return false;
}

// Whether every shared slot beside `slots` is kept busy by the trial's class; starts and ends loads until it
// is so.
bool Measurement::others_are_busy(const Trial& trial, const std::vector<std::size_t>& slots) {
  bool busy = true;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    if (slots_[i].node != slots_[slots.front()].node || !is_shared(slots_[i].device)) continue;
    if (std::find(slots.begin(), slots.end(), i) != slots.end()) continue;
    const auto at =
        std::find_if(loads_.begin(), loads_.end(), [&](const auto& load) { return load->slot == i; });
    if (at != loads_.end()) {
      if ((*at)->job_class != trial.job_class) end_load(**at);
      busy &= (*at)->stepping && !(*at)->ending;
    } else if (!cannot_load_.contains(trial.job_class)) {
      // A class that cannot load a slot is timed without; its own trial says what is wrong with it.
      if (start_load(i, trial).ok()) {
        busy = false;
      } else {
        cannot_load_.insert(trial.job_class);
      }
    }
  }
  return busy;
}

Result<void> Measurement::start_load(std::size_t slot, const Trial& trial) {
  const batch::Job& job = job_of(trial);
  const batch::Configuration single{.technique = "single", .device_class = slots_[slot].device.device_class};
  Load load{.attempt = "load-" + std::to_string(num_loads_started_++),
            .job_class = trial.job_class,
            .slot = slot,
            .launched_s = clock_.now_s()};
  worker::LaunchRequest request{
      .attempt = load.attempt,
      .ranks = deal(job, batch_.data.at(job.data), single, slots_[slot].node, {slots_[slot].device})};
  worker::Assign& assign = request.ranks.front();
  assign.mode = worker::Mode::load;
  assign.job_directory = load_directory(slot);
  assign.log_path = assign.job_directory + "/log.txt";
  SATURN_TRY_VOID(make_directories(assign.job_directory));
  SATURN_TRY_VOID(launcher_.launch(std::move(request)));
  slots_[slot].held_by = load.attempt;
  loads_.push_back(std::make_unique<Load>(std::move(load)));
  return {};
}

void Measurement::end_load(Load& load) {
  if (load.ending) return;
  load.ending = true;
  launcher_.stop(load.attempt, kStopGraceS);
}

// Enough steps to time short ones for about a second, whatever the batch asks for at least.
int Measurement::num_timed_steps(const batch::Job& job, const batch::Configuration& configuration) const {
  const int asked = batch_.profile.trial_steps;
  if (configuration.device_class != "cpu") return asked;
  const double flops = batch::flops_per_sample(job.model, batch_.data.at(job.data)) * job.batch_size;
  const double step_s = flops / (kSlotFlops * configuration.num_devices);
  const double steps = step_s > 0.0 ? std::ceil(kTimedS / step_s) : 0.0;
  return std::max(asked, static_cast<int>(std::min<double>(steps, kMaxTrialSteps)));
}

Result<void> Measurement::start_trial(Trial trial, const std::vector<std::size_t>& slots) {
  const batch::Job& job = job_of(trial);
  auto running = std::make_unique<Running>();
  running->attempt = "trial-" + trial.id;
  running->directory = join_path(request_.trials_directory, trial.id);
  running->warmup_steps = batch_.profile.warmup_steps;
  running->trial_steps = num_timed_steps(job, trial.configuration);
  std::error_code ignored;
  std::filesystem::remove_all(running->directory, ignored);  // what an interrupted profile left
  SATURN_TRY_VOID(make_directories(running->directory));

  std::vector<devices::Device> devices;
  for (const std::size_t slot : slots) {
    devices.push_back(slots_[slot].device);
    slots_[slot].held_by = running->attempt;
  }
  std::size_t num_others = 0;
  for (const auto& load : loads_) num_others += slots_[load->slot].node == slots_[slots.front()].node ? 1 : 0;
  trial.concurrency = num_others == 0
                          ? "alone"
                          : std::to_string(num_others) + " other slot" + (num_others > 1 ? "s" : "") +
                                " busy with single x1 of the same class";

  worker::LaunchRequest request{
      .attempt = running->attempt,
      .ranks = deal(job, batch_.data.at(job.data), trial.configuration, slots_[slots.front()].node, devices)};
  for (std::size_t rank = 0; rank < request.ranks.size(); ++rank) {
    worker::Assign& assign = request.ranks[rank];
    assign.mode = worker::Mode::trial;
    assign.job_directory = running->directory;
    assign.log_path =
        running->directory + (rank == 0 ? "/log.txt" : "/log.rank-" + std::to_string(rank) + ".txt");
    assign.warmup_steps = running->warmup_steps;
    assign.trial_steps = running->trial_steps;
  }
  running->num_living = static_cast<int>(request.ranks.size());
  running->launched_s = clock_.now_s();
  running->deadline_s = running->launched_s + batch_.profile.trial_timeout_s;
  running->trial = std::move(trial);
  observer_.on_trial_started(running->trial);
  SATURN_TRY_VOID(launcher_.launch(std::move(request)));
  // A new standby would load its library while this trial is timed: it is asked for when the timing is over.
  launcher_.set_num_standby(0);
  running_.push_back(std::move(running));
  return {};
}

Result<void> Measurement::start_what_can() {
  std::set<std::string> blocked;  // classes of devices for which a trial before this one waits
  for (std::size_t group = 0; group < search_.num_groups(); ++group) {
    const Trial* const next = search_.next(group);
    if (next == nullptr || blocked.contains(next->configuration.device_class)) continue;
    std::vector<std::size_t> slots;
    if (!make_room(*next, slots) || !others_are_busy(*next, slots)) {
      blocked.insert(next->configuration.device_class);
      continue;
    }
    search_.start(next->id);
    SATURN_TRY_VOID(start_trial(*next, slots));
  }
  return {};
}

// ---- Watching

void Measurement::handle(const worker::WorkerEvent& event) {
  for (const auto& running : running_) {
    if (running->attempt == event.attempt) return handle(*running, event);
  }
  for (auto at = loads_.begin(); at != loads_.end(); ++at) {
    Load& load = **at;
    if (load.attempt != event.attempt) continue;
    if (const auto* message = std::get_if<worker::FromRank>(&event.what)) {
      const auto* const beat = std::get_if<worker::Heartbeat>(message);
      load.stepping |= std::holds_alternative<worker::Step>(*message) || (beat != nullptr && beat->step > 0);
      return;
    }
    if (!load.ending) cannot_load_.insert(load.job_class);
    slots_[load.slot].held_by.clear();
    loads_.erase(at);
    return;
  }
}

void Measurement::handle(Running& running, const worker::WorkerEvent& event) {
  if (const auto* ended = std::get_if<worker::Ended>(&event.what)) {
    --running.num_living;
    running.ended_s = event.time_s;
    running.host_memory_died |= ended->out_of_host_memory;
    if (running.death.empty() && !ended->asked && (ended->exit_code != 0 || ended->signal != 0))
      running.death = "rank " + std::to_string(event.rank) + " ended with " + ended->reason;
    // The others wait for a peer that is gone; one that is done has only been quicker than they.
    const bool lost = ended->exit_code != 0 || ended->signal != 0;
    if (lost && running.num_living > 0 && !running.finished && !running.stopped) {
      running.stopped = true;
      launcher_.stop(running.attempt, kStopGraceS);
    }
    return;
  }
  const auto& message = std::get<worker::FromRank>(event.what);
  if (const auto* step = std::get_if<worker::Step>(&message)) {
    if (event.rank != 0) return;
    ++running.num_steps_seen;
    if (running.first_step_s <= 0.0) running.first_step_s = event.time_s;
    if (running.num_steps_seen > running.warmup_steps) running.step_times_s.push_back(step->step_time_s);
    const int num_steps = running.warmup_steps + running.trial_steps;
    observer_.on_trial_step(running.trial, running.num_steps_seen, num_steps);
    if (running.timing_is_over) return;
    running.timing_is_over = running.num_steps_seen == num_steps || has_been_timed(running);
    if (!running.timing_is_over) return;
    if (running.num_steps_seen < num_steps)
      launcher_.send_all(running.attempt, worker::StopAtStep{.step = step->step});
    // The next trial's processes load their library while this one is saved and loaded.
    if (!is_over_) launcher_.set_num_standby(num_ranks_of_next(running));
  } else if (const auto* error = std::get_if<worker::Error>(&message)) {
    running.hear(*error);
  } else if (const auto* finished = std::get_if<worker::Finished>(&message)) {
    running.memory_peak_bytes = std::max(running.memory_peak_bytes, finished->memory_peak_bytes);
    running.host_memory_peak_bytes += finished->host_memory_peak_bytes;
    if (event.rank == 0) {
      running.finished = *finished;
      running.finished_s = event.time_s;
    }
  }
}

// Whether more steps would tell nothing: they have been timed for long enough, or it cannot win any more.
bool Measurement::has_been_timed(const Running& running) const {
  const std::vector<double>& times = running.step_times_s;
  if (static_cast<int>(times.size()) < batch_.profile.trial_steps) return false;
  if (std::accumulate(times.begin(), times.end(), 0.0) >= kTimedS) return true;
  const Trial* const rival = search_.best_beside(running.trial.id);
  return rival != nullptr && median(times) > kHopeless * rival->step_time_s;
}

void Measurement::check_deadlines() {
  for (const auto& running : running_) {
    if (running->stopped || clock_.now_s() < running->deadline_s) continue;
    running->timed_out = true;
    running->stopped = true;
    launcher_.stop(running->attempt, kStopGraceS);
  }
  for (const auto& load : loads_) {
    if (load->stepping || load->ending || clock_.now_s() < load->launched_s + batch_.profile.trial_timeout_s)
      continue;
    cannot_load_.insert(load->job_class);
    end_load(*load);
  }
}

// ---- Concluding

Trial Measurement::concluded(const Running& running) const {
  Trial trial = running.trial;
  const std::string log = running.directory + "/log.txt";
  const auto failed = [&](Outcome outcome, const std::string& reason) {
    trial.outcome = outcome;
    trial.reason = reason;
    return trial;
  };
  if (const auto failure = failure_of(running, batch_.profile.trial_timeout_s, log)) {
    trial.needed_bytes = failure->needed_bytes;
    return failed(failure->outcome, failure->reason);
  }
  if (running.step_times_s.empty()) return failed(Outcome::failed, "it timed no step; see " + log);

  trial.outcome = Outcome::ok;
  if (!running.finished->knobs.empty()) trial.configuration.knobs = running.finished->knobs;
  trial.step_time_s = median(running.step_times_s);
  trial.step_time_spread_s = robust_deviation(running.step_times_s);
  if (trial.step_time_s <= 0.0) return failed(Outcome::failed, "its steps took no time; see " + log);
  trial.samples_per_s = job_of(trial).batch_size / trial.step_time_s;
  trial.memory_peak_bytes = running.memory_peak_bytes;
  trial.disk_bytes = static_cast<std::int64_t>(time_of(*running.finished, "disk_bytes"));
  trial.host_memory_peak_bytes = running.host_memory_peak_bytes;
  // What the first steps cost beyond a usual one belongs to the start.
  trial.start_time_s = std::max(0.0, running.first_step_s - running.launched_s - trial.step_time_s);
  trial.save_time_s = time_of(*running.finished, "save_s");
  trial.load_time_s = time_of(*running.finished, "load_s");
  trial.evaluate_time_s = time_of(*running.finished, "evaluate_s");
  trial.end_time_s =
      time_of(*running.finished, "export_s") + std::max(0.0, running.ended_s - running.finished_s);
  return trial;
}

// The log of what failed stays; scratch files never do.
void Measurement::tidy(const Running& running, const Trial& trial) const {
  std::error_code ignored;
  if (trial.outcome == Outcome::ok) {
    std::filesystem::remove_all(running.directory, ignored);
    return;
  }
  std::vector<std::filesystem::path> scratch;
  for (const auto& entry : std::filesystem::directory_iterator(running.directory, ignored)) {
    if (!entry.path().filename().string().starts_with("log.")) scratch.push_back(entry.path());
  }
  for (const std::filesystem::path& path : scratch) std::filesystem::remove_all(path, ignored);
}

Result<void> Measurement::keep() {
  return request_.keep ? request_.keep(profile_) : Result<void>();
}

// Every trial whose processes have all ended becomes a result.
Result<void> Measurement::settle() {
  for (auto at = running_.begin(); at != running_.end();) {
    const Running& running = **at;
    if (running.num_living > 0) {
      ++at;
      continue;
    }
    for (Slot& slot : slots_) {
      if (slot.held_by == running.attempt) slot.held_by.clear();
    }
    const Trial trial = concluded(running);
    tidy(running, trial);
    search_.conclude(trial);
    profile_.trials.push_back(trial);
    ++num_ended_;
    num_trials_ = num_ended_ + (is_over_ ? 0 : search_.num_expected());
    observer_.on_trial_ended(trial, num_ended_, num_trials_, eta_s());
    at = running_.erase(at);
    SATURN_TRY_VOID(keep());
  }
  return {};
}

double Measurement::eta_s() const {
  if (num_ended_ == 0) return -1.0;
  return (clock_.now_s() - began_s_) / num_ended_ * (num_trials_ - num_ended_);
}

bool Measurement::something_is_left() const {
  if (is_over_) return false;
  for (std::size_t group = 0; group < search_.num_groups(); ++group) {
    if (search_.next(group) != nullptr) return true;
  }
  return false;
}

// Of the trial that will probably follow the running ones.
int Measurement::num_ranks_of_next(const Running& running) const {
  for (std::size_t group = 0; group < search_.num_groups(); ++group) {
    if (const Trial* const next = search_.next(group)) return next->configuration.num_ranks;
  }
  const bool another_of_its_group = search_.num_expected() > static_cast<int>(running_.size());
  return another_of_its_group ? running.trial.configuration.num_ranks : 0;
}

bool Measurement::budget_is_spent() const {
  const double budget_s = request_.budget_s.value_or(batch_.profile.budget_s);
  return budget_s > 0.0 && clock_.now_s() - began_s_ >= budget_s;
}

void Measurement::stop_everything() {
  launcher_.set_num_standby(0);
  for (const auto& running : running_) launcher_.stop(running->attempt, kStopGraceS);
  for (const auto& load : loads_) end_load(*load);
  while (launcher_.num_living() > 0) {
    for (const worker::WorkerEvent& event : launcher_.poll(kPollS)) handle(event);
  }
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    std::error_code ignored;
    std::filesystem::remove_all(load_directory(slot), ignored);
  }
}

Result<Profile> Measurement::run() {
  began_s_ = clock_.now_s();
  take_over_previous();
  lay_out_slots();
  if (something_is_left()) launcher_.set_num_standby(static_cast<int>(slots_.size()));
  Result<void> going;
  bool interrupted = false;
  while (going.ok() && (something_is_left() || !running_.empty())) {
    if (request_.stop && request_.stop()) {
      interrupted = true;
      break;
    }
    if (something_is_left() && budget_is_spent()) {
      const int num_running = static_cast<int>(running_.size());
      observer_.on_note("the budget is spent: about " + std::to_string(search_.num_expected() - num_running) +
                        " trials are left out");
      is_over_ = true;
      num_trials_ = num_ended_ + num_running;
    }
    if (!is_over_) going = start_what_can();
    if (!going.ok()) break;
    for (const worker::WorkerEvent& event : launcher_.poll(kPollS)) handle(event);
    check_deadlines();
    observer_.on_tick(clock_.now_s() - began_s_);
    going = settle();
  }
  stop_everything();
  if (!going.ok()) return std::move(going).faults();
  if (interrupted) {
    return Diagnostic{.kind = Kind::interrupted,
                      .what = "interrupted after " + std::to_string(num_ended_) + " of " +
                              std::to_string(num_trials_) + " trials; what was measured is kept"};
  }
  search_.finish(profile_);
  SATURN_TRY_VOID(keep());
  return profile_;
}

}  // namespace

Result<Profile> measure(const MeasureRequest& request, worker::Launcher& launcher, const Clock& clock,
                        ProfileObserver& observer) {
  return Measurement(request, launcher, clock, observer).run();
}

}  // namespace saturn::profile

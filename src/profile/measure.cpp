// The trial runner: what is worth measuring, on the machine's devices, each trial a process group of its own.

#include "saturn/profile/measure.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <set>

#include "profile/search.h"
#include "profile/slots.h"
#include "profile/trial_run.h"
#include "profile/worth.h"
#include "saturn/base/files.h"
#include "saturn/base/statistics.h"
#include "saturn/base/units.h"
#include "saturn/profile/job_time.h"
#include "saturn/profile/ranks.h"

namespace saturn::profile {
namespace {

constexpr double kPollS = 0.25;
constexpr double kMostWidening = 4.0;  // of the cost model's margins

std::string counted(int count, const char* what) {
  return std::to_string(count) + " " + what + (count == 1 ? "" : "s");
}

class Measurement {
 public:
  Measurement(const MeasureRequest& request, std::map<std::string, std::int64_t> num_steps,
              worker::Launcher& launcher, const Clock& clock, ProfileObserver& observer)
      : request_(request),
        batch_(*request.batch),
        launcher_(launcher),
        clock_(clock),
        observer_(observer),
        search_(batch_, *request.machine),
        workload_(workload_of(batch_, num_steps)),
        worth_(batch_, std::move(num_steps), request.gap),
        slots_(batch_, *request.machine, launcher, clock, request.trials_directory) {}

  Result<Profile> run();

 private:
  void take_over_previous();
  void take(const Trial& wanted, Trial known);
  void tell_what_is_there(int num_failed) const;
  void reconsider();
  Result<void> start_what_can();
  Result<void> start(const Trial& trial, const std::vector<std::size_t>& places);
  void handle(const worker::WorkerEvent& event);
  void handle_step(TrialRun& run);
  void check_deadlines();
  Result<void> settle();
  void compare(const TrialRun& run, const Trial& trial);
  void stop_everything();
  std::optional<double> left_of_budget_s() const;
  bool fits_the_budget(const Trial& trial) const;
  bool something_is_left() const { return !is_over_ && !choice_.is_settled && !choice_.order.empty(); }
  int num_expected() const;
  int num_ranks_of_next(const TrialRun& run) const;
  double eta_s() const;
  Decision decision() const;
  void add_interpolated();
  Result<void> keep() { return request_.keep ? request_.keep(profile_) : Result<void>(); }

  const MeasureRequest& request_;
  const batch::Batch& batch_;
  worker::Launcher& launcher_;
  const Clock& clock_;
  ProfileObserver& observer_;

  Profile profile_;
  Search search_;
  std::string workload_;
  Worth worth_;
  Slots slots_;
  std::optional<CostModel> model_;
  Choice choice_;
  bool choice_is_old_ = true;
  std::vector<std::unique_ptr<TrialRun>> running_;
  double began_s_ = 0.0;
  int num_ended_ = 0;
  bool is_over_ = false;  // the budget is spent: no trial starts any more
  double widening_ = 1.0;
  std::vector<double> errors_;  // of what the cost model said before
  int num_missed_ = 0;
};

// ---- What is there already

void Measurement::take(const Trial& wanted, Trial known) {
  known.jobs = wanted.jobs;
  search_.conclude(known);
  const bool is_corrected = request_.cache != nullptr && known.outcome == Outcome::ok;
  if (is_corrected) {
    if (std::optional<Correction> correction = request_.cache->correction_of(profile_.conditions, known))
      profile_.corrections.push_back(*std::move(correction));
  }
  profile_.trials.push_back(std::move(known));
}

void Measurement::take_over_previous() {
  const Conditions now = conditions_of(batch_, *request_.machine);
  profile_.machine = *request_.machine;
  profile_.conditions = now;
  profile_.made_from = {{.name = batch_.path, .digest = batch_.digest}};
  const bool holds = request_.previous != nullptr && request_.previous->conditions == now;
  int num_failed = 0;
  for (const Trial& wanted : wanted_trials(batch_, *request_.machine)) {
    const Trial* const before = holds ? request_.previous->find_id(wanted.id) : nullptr;
    if (before != nullptr && before->is_measured()) {
      if (before->outcome != Outcome::failed) {
        take(wanted, *before);
        continue;
      }
      ++num_failed;
    }
    if (request_.cache == nullptr) continue;
    if (std::optional<Trial> kept = request_.cache->find(
            now, wanted.id, [&](const std::string& ignored) { observer_.on_note(ignored); }))
      take(wanted, *std::move(kept));
  }
  reconsider();
  tell_what_is_there(num_failed);
  observer_.on_begin(num_expected(), static_cast<int>(profile_.trials.size()));
}

void Measurement::tell_what_is_there(int num_failed) const {
  const auto num_shared = std::count_if(profile_.trials.begin(), profile_.trials.end(),
                                        [](const Trial& trial) { return trial.source == Source::shared; });
  if (num_shared > 0) {
    observer_.on_note(counted(static_cast<int>(num_shared), "trial") + " of other batches on this hardware " +
                      (num_shared == 1 ? "is" : "are") + " used");
  }
  if (!something_is_left()) {
    observer_.on_note(request_.previous == nullptr ? "nothing is left to measure"
                                                   : "every trial that matters is in profile.json already");
    return;
  }
  std::string why;
  if (request_.previous != nullptr) {
    for (const std::string& reason : what_is_stale(*request_.previous, batch_, *request_.machine))
      why += (why.empty() ? "" : "; ") + reason;
    if (why.empty()) {
      why = num_failed > 0 ? std::to_string(num_failed) + " failed the last time"
                           : "more may be worth a trial than there was time or need for";
    }
  } else {
    why = "there is no profile yet";
  }
  observer_.on_note("measuring: " + why);
}

// ---- What is worth a trial

void Measurement::reconsider() {
  if (!choice_is_old_) return;
  choice_is_old_ = false;
  model_.emplace(profile_.trials, widening_);
  if (request_.gap > 0.0 && !request_.everything) {
    choice_ = worth_.choose(profile_, search_.open(), widening_);
    return;
  }
  choice_ = {};
  for (std::size_t group = 0; group < search_.num_groups(); ++group) {
    if (const Trial* const next = search_.next(group)) choice_.order.push_back(next->id);
  }
}

std::optional<double> Measurement::left_of_budget_s() const {
  const double budget_s = request_.budget_s.value_or(batch_.profile.budget_s);
  if (budget_s <= 0.0) return std::nullopt;
  return budget_s - (clock_.now_s() - began_s_);
}

bool Measurement::fits_the_budget(const Trial& trial) const {
  const std::optional<double> left_s = left_of_budget_s();
  return !left_s ||
         (*left_s > 0.0 && shortest_trial_s(trial, batch_.profile, profile_.trials, *model_) <= *left_s);
}

// ---- Starting

Result<void> Measurement::start_what_can() {
  std::set<std::string> blocked;  // classes of devices for which a trial before this one waits
  bool anything_fits = false;
  for (const std::string& id : std::vector<std::string>(choice_.order)) {
    const Trial& next = search_.candidate(id);
    if (!fits_the_budget(next)) continue;
    anything_fits = true;
    if (blocked.contains(next.configuration.device_class) || search_.is_group_busy(id)) continue;
    std::vector<std::size_t> places;
    if (!slots_.prepare(next, places)) {
      blocked.insert(next.configuration.device_class);
      continue;
    }
    search_.start(id);
    std::erase(choice_.order, id);
    SATURN_TRY_VOID(start(next, places));
  }
  if (anything_fits || choice_.order.empty()) return {};
  observer_.on_note("the budget is spent: what is left is estimated where that can be done");
  is_over_ = true;
  return {};
}

Result<void> Measurement::start(const Trial& trial, const std::vector<std::size_t>& places) {
  const batch::Job& job = job_of(batch_, trial);
  auto run = std::make_unique<TrialRun>();
  run->trial = trial;
  run->trial.concurrency = slots_.beside(places);
  run->expected = model_->estimate(trial);
  run->attempt = "trial-" + trial.id;
  run->directory = join_path(request_.trials_directory, trial.id);
  run->warmup_steps = batch_.profile.warmup_steps;
  run->fewest_steps = batch_.profile.trial_steps;
  run->trial_steps =
      num_timed_steps(job, batch_.data.at(job.data), trial.configuration, batch_.profile.trial_steps);
  std::error_code ignored;
  std::filesystem::remove_all(run->directory, ignored);  // what an interrupted profile left
  SATURN_TRY_VOID(make_directories(run->directory));
  slots_.hold(places, run->attempt);

  worker::LaunchRequest request{.attempt = run->attempt,
                                .ranks = deal(job, batch_.data.at(job.data), trial.configuration,
                                              slots_.node_of(places), slots_.devices_of(places))};
  for (std::size_t rank = 0; rank < request.ranks.size(); ++rank) {
    worker::Assign& assign = request.ranks[rank];
    assign.mode = worker::Mode::trial;
    assign.job_directory = run->directory;
    assign.log_path =
        run->directory + (rank == 0 ? "/log.txt" : "/log.rank-" + std::to_string(rank) + ".txt");
    assign.warmup_steps = run->warmup_steps;
    assign.trial_steps = run->trial_steps;
  }
  run->num_living = static_cast<int>(request.ranks.size());
  run->launched_s = clock_.now_s();
  run->deadline_s = run->launched_s + batch_.profile.trial_timeout_s;
  observer_.on_trial_started(run->trial);
  SATURN_TRY_VOID(launcher_.launch(std::move(request)));
  // A new standby would load its library while this trial is timed: it is asked for when the timing is over.
  launcher_.set_num_standby(0);
  running_.push_back(std::move(run));
  return {};
}

// ---- Watching

void Measurement::handle(const worker::WorkerEvent& event) {
  if (slots_.handle(event)) return;
  for (const auto& run : running_) {
    if (run->attempt != event.attempt) continue;
    switch (run->hear_event(event)) {
      case TrialRun::Heard::nothing:
        break;
      case TrialRun::Heard::step_of_rank_0:
        handle_step(*run);
        break;
      case TrialRun::Heard::lost_a_rank:
        run->stopped = true;
        launcher_.stop(run->attempt, kStopGraceS);
        break;
    }
    return;
  }
}

void Measurement::handle_step(TrialRun& run) {
  const int num_steps = run.warmup_steps + run.trial_steps;
  observer_.on_trial_step(run.trial, run.num_steps_seen, num_steps);
  if (run.timing_is_over) return;
  const bool hurry = left_of_budget_s().value_or(1.0) <= 0.0;
  const Trial* const rival = request_.everything ? nullptr : search_.rival_of(run.trial.id);
  run.timing_is_over = run.num_steps_seen == num_steps || run.has_been_timed(rival, hurry);
  if (!run.timing_is_over) return;
  if (run.num_steps_seen < num_steps)
    launcher_.send_all(run.attempt, worker::StopAtStep{.step = run.last_step});
  // The next trial's processes load their library while this one is saved and loaded.
  if (!is_over_) launcher_.set_num_standby(num_ranks_of_next(run));
}

void Measurement::check_deadlines() {
  for (const auto& run : running_) {
    if (run->stopped || clock_.now_s() < run->deadline_s) continue;
    run->timed_out = true;
    run->stopped = true;
    launcher_.stop(run->attempt, kStopGraceS);
  }
  slots_.check_deadlines();
}

// ---- Concluding

// What the cost model had said against what came out.
void Measurement::compare(const TrialRun& run, const Trial& trial) {
  if (!run.expected || trial.outcome != Outcome::ok) return;
  errors_.push_back(std::abs(trial.step_time_s / run.expected->step_s - 1.0));
  const double by = missed(*run.expected, trial.step_time_s);
  if (by <= 1.0) return;
  ++num_missed_;
  widening_ = std::min(kMostWidening, widening_ * by);
}

// Every trial whose processes have all ended becomes a result.
Result<void> Measurement::settle() {
  for (auto at = running_.begin(); at != running_.end();) {
    const TrialRun& run = **at;
    if (run.num_living > 0) {
      ++at;
      continue;
    }
    slots_.release(run.attempt);
    const Trial trial = run.concluded(job_of(batch_, run.trial), batch_.profile.trial_timeout_s);
    run.tidy(trial);
    compare(run, trial);
    search_.conclude(trial);
    profile_.trials.push_back(trial);
    if (request_.cache != nullptr && trial.outcome != Outcome::failed) {
      // That other batches must measure it again is no reason to lose it here.
      const Result<void> kept = request_.cache->keep(profile_.conditions, profile_.machine, trial);
      if (!kept.ok()) observer_.on_note("not kept for other batches: " + kept.faults().front().what);
    }
    choice_is_old_ = true;
    ++num_ended_;
    at = running_.erase(at);
    observer_.on_trial_ended(trial, num_ended_, num_ended_ + num_expected(), eta_s());
    SATURN_TRY_VOID(keep());
  }
  return {};
}

// Trials to come, at least: what one of them says decides on others.
int Measurement::num_expected() const {
  const int num_running = static_cast<int>(running_.size());
  if (is_over_ || choice_.is_settled) return num_running;
  if (request_.gap <= 0.0 || request_.everything) return search_.num_expected();
  return num_running + static_cast<int>(choice_.order.size());
}

double Measurement::eta_s() const {
  if (num_ended_ == 0) return -1.0;
  return (clock_.now_s() - began_s_) / num_ended_ * num_expected();
}

// Of the trial that will probably follow the running ones.
int Measurement::num_ranks_of_next(const TrialRun& run) const {
  if (!choice_.order.empty()) return search_.candidate(choice_.order.front()).configuration.num_ranks;
  const bool another_may_come = search_.num_expected() > static_cast<int>(running_.size());
  return another_may_come ? run.trial.configuration.num_ranks : 0;
}

void Measurement::stop_everything() {
  launcher_.set_num_standby(0);
  for (const auto& run : running_) launcher_.stop(run->attempt, kStopGraceS);
  slots_.end_loads();
  while (launcher_.num_living() > 0) {
    for (const worker::WorkerEvent& event : launcher_.poll(kPollS)) handle(event);
  }
  slots_.remove_directories();
}

Decision Measurement::decision() const {
  Decision decision{.gap = request_.gap,
                    .measured_s = choice_.measured_s,
                    .optimistic_s = choice_.optimistic_s,
                    .is_proved = choice_.is_proved,
                    .num_predicted = static_cast<int>(errors_.size()),
                    .num_missed = num_missed_,
                    .typical_error = errors_.empty() ? 0.0 : median(errors_),
                    .workload = workload_};
  if (is_over_) {
    decision.why = Decision::Why::budget;
    decision.reason = "the budget was spent";
  } else if (choice_.is_settled && !search_.open().empty()) {
    decision.why = Decision::Why::settled;
    decision.reason =
        "were every configuration that was left out as quick as its lower bound, the plan would take " +
        format_duration(choice_.optimistic_s) + " and not " + format_duration(choice_.measured_s) +
        ": less than " + format_percent(request_.gap) + " is to be gained" +
        (choice_.is_proved ? ", which is proved" : "");
  } else {
    decision.reason = request_.everything ? "everything that may fit was measured"
                                          : "nothing is left that could be quicker than what was measured";
  }
  return decision;
}

// The best candidate of every technique on so many devices, of which nothing was measured there.
void Measurement::add_interpolated() {
  using Way = std::tuple<std::string, std::string, std::string, int>;
  const auto way_of = [](const Trial& trial) {
    const batch::Configuration& one = trial.configuration;
    return Way(trial.job_class, one.technique, one.device_class, one.num_devices);
  };
  std::set<Way> known;
  for (const Trial& trial : profile_.trials) known.insert(way_of(trial));
  std::map<Way, const Trial*> best;
  for (const Untried& untried : profile_.untried) {
    if (untried.why == Untried::Why::failing || known.contains(way_of(untried.trial))) continue;
    const Trial*& chosen = best[way_of(untried.trial)];
    if (chosen == nullptr || untried.trial.predicted_step_time_s < chosen->predicted_step_time_s)
      chosen = &untried.trial;
  }
  for (const auto& [way, trial] : best) {
    const std::optional<Estimate> estimate = model_->estimate(*trial);
    if (!estimate) continue;
    Trial guess = as_if_measured(*trial, estimate->step_s, profile_.trials, /*kindest=*/false);
    guess.step_time_low_s = estimate->low_s;
    guess.step_time_high_s = estimate->high_s;
    guess.concurrency = "not run";
    profile_.trials.push_back(std::move(guess));
  }
}

Result<Profile> Measurement::run() {
  began_s_ = clock_.now_s();
  if (request_.everything) search_.try_everything();
  take_over_previous();
  if (something_is_left()) launcher_.set_num_standby(slots_.size());
  Result<void> going;
  bool interrupted = false;
  while (going.ok() && (something_is_left() || !running_.empty())) {
    if (request_.stop && request_.stop()) {
      interrupted = true;
      break;
    }
    if (something_is_left()) going = start_what_can();
    if (!going.ok()) break;
    for (const worker::WorkerEvent& event : launcher_.poll(kPollS)) handle(event);
    check_deadlines();
    observer_.on_tick(clock_.now_s() - began_s_);
    going = settle();
    if (going.ok() && !is_over_) reconsider();
  }
  stop_everything();
  if (!going.ok()) return std::move(going).faults();
  if (interrupted) {
    return Diagnostic{.kind = Kind::interrupted,
                      .what = "interrupted after " + counted(num_ended_, "trial") +
                              "; what was measured is kept, and the same command goes on"};
  }
  reconsider();
  profile_.decision = decision();
  const bool settled = profile_.decision->why == Decision::Why::settled;
  search_.finish(profile_, settled ? Untried::Why::settled : Untried::Why::budget,
                 settled ? "no plan gains more than " + format_percent(request_.gap) + " by it"
                         : "the budget was spent");
  add_interpolated();
  SATURN_TRY_VOID(keep());
  return profile_;
}

}  // namespace

double usual_gap(const batch::Batch& batch) {
  return batch.run.introspect_every_s > 0.0 || !batch.search.method.empty() ? 0.0 : kWorthwhileGap;
}

Result<Profile> measure(const MeasureRequest& request, worker::Launcher& launcher, const Clock& clock,
                        ProfileObserver& observer) {
  SATURN_TRY(auto num_steps, num_steps_of(*request.batch));
  return Measurement(request, std::move(num_steps), launcher, clock, observer).run();
}

}  // namespace saturn::profile

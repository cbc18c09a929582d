// A planning problem as a rehearsal: its jobs in strides, its configurations as trials, and a truth to play.

#include "saturn/simulate/simulate.h"

#include <signal.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "saturn/base/digest.h"
#include "saturn/base/statistics.h"
#include "saturn/plan/solve.h"
#include "saturn/run/planner.h"
#include "saturn/worker/scripted_launcher.h"
#include "simulate/stage.h"

namespace saturn::simulate {
namespace {

constexpr std::int64_t kStrides = 64;  // of every job: a step of the simulation is so many of the job's
constexpr double kPolls = 400.0;       // of the run loop over the planned makespan, where nothing happens
constexpr int kMostRestarts = 200;     // the machine's failures, not the job's
constexpr double kDayS = 86400.0;
constexpr double kPublishedS = 60.0;  // for CBC on the published formulation

// How a policy plans where the clock may not decide.
plan::SolveOptions options_of(const Settings& settings, std::int64_t iterations, std::uint64_t seed) {
  return {.policy = settings.policy,
          .time_limit_s = settings.policy == "published" ? kPublishedS : std::numeric_limits<double>::max(),
          .iterations = iterations,
          .seed = seed,
          .num_threads = 1,
          .proves = false,
          .baselines = false};
}

std::uint64_t word_of(const std::string& text) {
  return mix_text(text.size(), text);
}

// What the planner is told of a configuration: its time in strides.
profile::Trial trial_of(const plan::Job& job, const plan::Configuration& configuration,
                        const Settings& settings) {
  profile::Trial trial =
      trial_taking(configuration.time_s / static_cast<double>(kStrides), job, configuration);
  trial.start_time_s = configuration.start_cost_s > 0.0 ? configuration.start_cost_s : settings.start_s;
  trial.save_time_s = trial.load_time_s = settings.save_s;
  return trial;
}

Result<run::Rehearsal> rehearsal_of(const plan::PlanProblem& problem, const Settings& settings) {
  run::Rehearsal rehearsal;
  rehearsal.batch.name = rehearsal.batch.path = problem.name;
  rehearsal.batch.seed = settings.seed;
  rehearsal.batch.run.max_moves = settings.max_moves;
  rehearsal.batch.run.max_restarts = kMostRestarts;
  if (settings.truth.failures_per_day > 0.0) rehearsal.batch.run.checkpoint_every = kStrides / 16;
  rehearsal.batch.data["simulated"].name = "simulated";
  rehearsal.machine = rehearsal.profile.machine = machine_of(problem);
  Diagnostics faults;
  for (const plan::Job& job : problem.jobs) {
    if (job.running || !job.after.empty() || job.release_s > 0.0 || job.deadline_s) {
      faults.push_back(
          {.where = problem.name,
           .what = "job " + in_quotes(job.name) + " runs already, waits for others or has a deadline",
           .expected = "jobs that are free to start at once"});
      continue;
    }
    batch::Job entry;
    entry.name = job.name;
    entry.data = "simulated";
    rehearsal.batch.jobs.push_back(std::move(entry));
    rehearsal.num_steps[job.name] = kStrides;
    std::vector<std::string>& trials = rehearsal.trials_of[job.name];
    for (const plan::Configuration& configuration : job.configurations) {
      profile::Trial trial = trial_of(job, configuration, settings);
      // A table may list a configuration twice: the faster one counts.
      const auto same = std::find_if(rehearsal.profile.trials.begin(), rehearsal.profile.trials.end(),
                                     [&](const profile::Trial& known) { return known.id == trial.id; });
      if (same != rehearsal.profile.trials.end()) {
        same->step_time_s = std::min(same->step_time_s, trial.step_time_s);
        continue;
      }
      trials.push_back(trial.id);
      rehearsal.profile.trials.push_back(std::move(trial));
    }
  }
  if (!faults.empty()) return faults;
  return rehearsal;
}

// How an attempt goes in truth.
worker::Script script_of(const worker::LaunchRequest& request, const profile::Profile& profile,
                         const Settings& settings, std::uint64_t seed) {
  const worker::Assign& assign = request.ranks.front();
  const std::string job = assign.job["name"].get<std::string>();
  const profile::Trial& trial = trial_launched(request, profile);

  const Truth& truth = settings.truth;
  const std::uint64_t job_key = mix_key(seed, word_of(job));
  const std::uint64_t key = mix_key(seed, word_of(trial.id));
  const double typical_s =
      trial.step_time_s * factor_of(truth.job_error, job_key) * factor_of(truth.configuration_error, key);
  const double drift = truth.drift * normal_of(mix_key(job_key, 1));
  worker::Script script{
      .start_s = trial.start_time_s, .load_s = trial.load_time_s, .save_s = trial.save_time_s};
  script.step_time_s_of = [=, noise = truth.step_noise](std::int64_t step) {
    const double done = static_cast<double>(step) / static_cast<double>(kStrides);
    return typical_s * std::max(0.1, 1.0 + drift * done) *
           factor_of(noise, mix_key(key, static_cast<std::uint64_t>(step)));
  };
  if (truth.failures_per_day > 0.0) {
    const double rate_per_s = truth.failures_per_day / kDayS * trial.configuration.num_devices;
    const double after_s =
        -std::log(1.0 - Random(mix_key(key, word_of(request.attempt))).uniform()) / rate_per_s;
    const double strides = std::min(after_s / typical_s, static_cast<double>(kStrides));
    // By a signal from outside: it is the machine, and says nothing of the step it comes at.
    script.fault = worker::ScriptedFault{.kind = worker::ScriptedFault::Kind::death,
                                         .after_step = assign.from_step + static_cast<std::int64_t>(strides),
                                         .signal = SIGTERM};
    // What lives past its last step does not fail.
    if (script.fault->after_step >= assign.to_step) script.fault.reset();
  }
  return script;
}

}  // namespace

Distribution::Distribution(std::vector<double> values) : sorted(std::move(values)) {
  std::sort(sorted.begin(), sorted.end());
}

double Distribution::mean() const {
  double sum = 0.0;
  for (const double value : sorted) sum += value;
  return sorted.empty() ? 0.0 : sum / static_cast<double>(sorted.size());
}

double Distribution::at(double share) const {
  if (sorted.empty()) return 0.0;
  const double last = static_cast<double>(sorted.size() - 1);
  return sorted[static_cast<std::size_t>(std::lround(std::clamp(share, 0.0, 1.0) * last))];
}

Result<Simulation> Simulation::prepare(const plan::PlanProblem& problem, const Settings& settings) {
  if (Diagnostics faults = plan::validate(problem); !faults.empty()) return faults;
  Simulation simulation;
  simulation.settings_ = settings;
  simulation.longest_wait_s_ = std::max(0.25, plan::quick_bound_s(problem) / kPolls);
  SATURN_TRY(simulation.rehearsal_, rehearsal_of(problem, settings));
  SATURN_TRY(const plan::PlanProblem whole, run::whole_problem(simulation.rehearsal_));
  SATURN_TRY(simulation.first_plan_,
             plan::solve(whole, options_of(settings, settings.first_iterations, settings.seed)));
  return simulation;
}

Result<Outcome> Simulation::run(bool introspects, std::uint64_t seed) const {
  run::Rehearsal rehearsal = rehearsal_;
  rehearsal.batch.run.introspect_every_s = introspects ? settings_.introspect_every_s : 0.0;
  const bool draws = settings_.policy == "random";
  if (!draws) rehearsal.first_plan = &first_plan_;
  const Scratch scratch;
  if (scratch.path().empty()) {
    return Diagnostic{.kind = Kind::machine,
                      .what = "no directory can be made for the simulation's journal",
                      .expected = "a place for files in /dev/shm or $TMPDIR"};
  }
  FakeClock clock;
  worker::ScriptedLauncher launcher(clock, [&](const worker::LaunchRequest& request) {
    return script_of(request, rehearsal.profile, settings_, seed);
  });
  const std::unique_ptr<run::Planner> planner =
      make_repeatable_planner(options_of(settings_, settings_.iterations, draws ? seed : settings_.seed));
  journal::SilentRunObserver observer;
  SATURN_TRY(journal::RunDirectory directory, journal::RunDirectory::open(scratch.path() + "/run", clock));
  SATURN_TRY(const run::Rehearsed rehearsed, run::rehearse(rehearsal, directory,
                                                           {.launcher = &launcher,
                                                            .clock = &clock,
                                                            .planner = planner.get(),
                                                            .observer = &observer,
                                                            .longest_wait_s = longest_wait_s_}));
  Outcome outcome{.planned_s = rehearsed.first_plan.makespan_s,
                  .num_looks = static_cast<int>(rehearsed.state.introspections.size())};
  for (const journal::JobRecord& record : rehearsed.state.jobs) {
    if (record.state != journal::JobState::done) {
      return Diagnostic{.kind = Kind::infeasible,
                        .where = rehearsal.batch.name,
                        .what = "job " + in_quotes(record.name) + " does not end: devices failed under it " +
                                std::to_string(record.num_failures()) + " times",
                        .expected = "failures that are rarer than checkpoints",
                        .fix = "lower the rate of failures, or shorten the jobs"};
    }
    for (const journal::Attempt& attempt : record.attempts)
      outcome.makespan_s = std::max(outcome.makespan_s, attempt.end_s.value_or(0.0));
    outcome.num_moves += record.num_moves();
    outcome.num_failures += record.num_failures();
  }
  return outcome;
}

}  // namespace saturn::simulate

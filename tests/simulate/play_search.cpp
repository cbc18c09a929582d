// A problem's jobs as a batch with [search], its configurations as trials, and curves for losses.

#include "tests/simulate/play_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <optional>

#include "saturn/base/nearest.h"
#include "saturn/base/random.h"
#include "saturn/run/planner.h"
#include "saturn/run/rehearse.h"
#include "saturn/worker/scripted_launcher.h"
#include "simulate/stage.h"

namespace saturn::simulate {
namespace {

run::Rehearsal rehearsal_of(const plan::PlanProblem& problem, const SearchSettings& settings) {
  run::Rehearsal rehearsal;
  rehearsal.batch.name = rehearsal.batch.path = problem.name;
  rehearsal.batch.seed = settings.seed;
  rehearsal.batch.run.max_moves = settings.max_moves;
  rehearsal.batch.search = settings.search;
  rehearsal.batch.data["simulated"].name = "simulated";
  rehearsal.machine = machine_of(problem);
  rehearsal.profile.machine = rehearsal.machine;
  for (const plan::Job& job : problem.jobs) {
    batch::Job entry;
    entry.name = job.name;
    entry.data = "simulated";
    rehearsal.batch.jobs.push_back(std::move(entry));
    rehearsal.num_steps[job.name] = job.last_step;
    for (const plan::Configuration& one : job.configurations) {
      profile::Trial trial = trial_taking(one.time_s / static_cast<double>(job.last_step), job, one);
      trial.start_time_s = settings.start_s;
      trial.save_time_s = trial.load_time_s = settings.save_s;
      rehearsal.trials_of[job.name].push_back(trial.id);
      rehearsal.profile.trials.push_back(std::move(trial));
    }
  }
  return rehearsal;
}

worker::Script script_of(const worker::LaunchRequest& request, const run::Rehearsal& rehearsal,
                         const SearchSettings& settings) {
  const std::string job = request.ranks.front().job["name"].get<std::string>();
  const profile::Trial& trial = trial_launched(request, rehearsal.profile);
  worker::Script script{.start_s = trial.start_time_s,
                        .load_s = trial.load_time_s,
                        .save_s = trial.save_time_s,
                        .step_time_s = trial.step_time_s};
  script.metrics_of = [job, num_steps = rehearsal.num_steps.at(job),
                       seed = settings.seed](std::int64_t step) {
    return std::map<std::string, double>{{"validation_loss", loss_of(job, step, num_steps, seed)}};
  };
  return script;
}

}  // namespace

double loss_of(const std::string& job, std::int64_t step, std::int64_t num_steps, std::uint64_t seed) {
  Random random(mix_key(seed, mix_text(0, job)));
  const double floor = 0.2 + 0.6 * random.uniform();
  const double rate = 0.5 + random.uniform();
  const double share = static_cast<double>(step) / static_cast<double>(num_steps);
  return floor + (1.0 - floor) / std::pow(1.0 + 20.0 * share, rate);
}

Result<SearchOutcome> simulate_search(const plan::PlanProblem& problem, const SearchSettings& settings) {
  if (Diagnostics faults = plan::validate(problem); !faults.empty()) return faults;
  const run::Rehearsal rehearsal = rehearsal_of(problem, settings);
  const Scratch scratch;
  if (scratch.path().empty()) {
    return Diagnostic{.kind = Kind::machine,
                      .what = "no directory can be made for the simulation's journal",
                      .expected = "a place for files in $TMPDIR"};
  }
  FakeClock clock;
  worker::ScriptedLauncher launcher(
      clock, [&](const worker::LaunchRequest& request) { return script_of(request, rehearsal, settings); });
  const std::unique_ptr<run::Planner> planner =
      make_repeatable_planner({.time_limit_s = std::numeric_limits<double>::max(),
                               .iterations = settings.iterations,
                               .seed = settings.seed,
                               .num_threads = 1,
                               .proves = false,
                               .baselines = false});
  journal::SilentRunObserver observer;
  SATURN_TRY(journal::RunDirectory directory, journal::RunDirectory::open(scratch.path() + "/run", clock));
  SATURN_TRY(const run::Rehearsed rehearsed,
             run::rehearse(rehearsal, directory,
                           {.launcher = &launcher,
                            .clock = &clock,
                            .planner = planner.get(),
                            .observer = &observer,
                            .longest_wait_s = std::max(1.0, plan::quick_bound_s(problem) / 400.0)}));
  SearchOutcome outcome;
  double best = std::numeric_limits<double>::infinity();
  for (const journal::JobRecord& record : rehearsed.state.jobs) {
    SATURN_CHECK(journal::is_final(record.state), "a simulated search comes to its end");
    double end_s = 0.0;
    for (const journal::Attempt& attempt : record.attempts) {
      end_s = attempt.end_s.value_or(0.0);
      outcome.num_steps += attempt.last_step - attempt.from_step;
    }
    outcome.makespan_s = std::max(outcome.makespan_s, end_s);
    if (record.state != journal::JobState::done) continue;
    ++outcome.num_done;
    const double loss = loss_of(record.name, record.num_steps, record.num_steps, settings.seed);
    if (loss >= best) continue;
    best = loss;
    outcome.best_job = record.name;
    outcome.best_s = end_s;
  }
  return outcome;
}

Result<plan::PlanProblem> at_width(plan::PlanProblem problem, int num_devices) {
  Diagnostics faults;
  for (plan::Job& job : problem.jobs) {
    std::erase_if(job.configurations,
                  [&](const plan::Configuration& one) { return one.num_devices != num_devices; });
    const auto fastest = std::min_element(job.configurations.begin(), job.configurations.end(),
                                          [](const plan::Configuration& a, const plan::Configuration& b) {
                                            return plan::duration_s(a) < plan::duration_s(b);
                                          });
    if (fastest == job.configurations.end()) {
      faults.push_back({.where = problem.name,
                        .what = "job " + in_quotes(job.name) + " has no configuration of " +
                                std::to_string(num_devices) + " devices",
                        .expected = "a width that every job has"});
      continue;
    }
    job.configurations = {*fastest};
  }
  if (!faults.empty()) return faults;
  return problem;
}

}  // namespace saturn::simulate

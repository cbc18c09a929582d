// The model of a job's time, and the planner's problem made with it.

#include "saturn/profile/job_time.h"

#include <algorithm>
#include <set>

#include "saturn/batch/check_devices.h"
#include "saturn/batch/identity.h"
#include "saturn/batch/samples.h"

namespace saturn::profile {
namespace {

// Multiples of `every` in (from, to].
std::int64_t num_multiples(std::int64_t every, std::int64_t from, std::int64_t to) {
  return every > 0 && to > from ? to / every - from / every : 0;
}

bool is_struck(const Remaining& remaining, const std::string& trial) {
  const std::vector<std::string>& struck = remaining.struck_trials;
  return std::find(struck.begin(), struck.end(), trial) != struck.end();
}

// Ids of the trials that the job itself allows on this machine; a trial's list of jobs is of the batch it was
// made for.
std::set<std::string> allowed_for(const batch::Job& job, const std::string& job_class,
                                  const devices::Machine& machine) {
  std::set<std::string> allowed;
  for (const batch::DeviceGroup& group : batch::device_groups(machine)) {
    for (const batch::Configuration& configuration : batch::configurations_of(job, group))
      allowed.insert(trial_id(job_class, configuration));
  }
  return allowed;
}

std::set<std::string> as_listed(const std::vector<std::string>& trials) {
  return {trials.begin(), trials.end()};
}

// What each trial of the job's class came to, for the message that none of them fits.
Diagnostic nothing_fits(const batch::Job& job, const std::vector<const Trial*>& trials,
                        const Remaining& remaining) {
  std::string tried;
  bool any_memory = false;
  for (const Trial* const trial : trials) {
    if (!tried.empty()) tried += ", ";
    tried += batch::to_text(trial->configuration) + " ";
    any_memory |= trial->outcome == Outcome::out_of_memory;
    switch (trial->outcome) {
      case Outcome::ok:
        tried += is_struck(remaining, trial->id) ? "failed during the run" : "is wider than any node";
        break;
      case Outcome::out_of_memory:
        tried += "ran out of memory";
        break;
      case Outcome::unsupported:
        tried += "is not supported (" + trial->reason + ")";
        break;
      case Outcome::failed:
        tried += "failed (" + trial->reason + ")";
        break;
    }
  }
  return {.kind = Kind::infeasible,
          .where = job.positions.empty() ? "" : job.position_of("batch_size").text(),
          .what = "no trial of job " + in_quotes(job.name) + " fits on this machine",
          .expected = tried.empty() ? "at least one that finishes; none was measured"
                                    : "at least one that finishes; " + tried,
          .fix = any_memory ? "lower batch_size from " + std::to_string(job.batch_size) +
                                  ", raise micro_batches, or allow more techniques and devices"
                            : "read the logs under the run directory's trials/, then `saturn profile` again"};
}

std::vector<plan::Node> nodes_of(const devices::Machine& machine) {
  std::vector<plan::Node> nodes;
  for (const devices::Node& node : machine.nodes) {
    if (node.devices.empty()) continue;
    plan::Node entry{.name = node.name,
                     .device_class = node.device_class,
                     .num_devices = static_cast<int>(node.devices.size()),
                     .shares_per_gpu = node.devices.front().num_shares};
    if (node.host_memory_bytes > 0) entry.host_memory_bytes = node.host_memory_bytes;
    nodes.push_back(std::move(entry));
  }
  return nodes;
}

// Knobs of one technique on the same devices compete: what another choice of them beats in every respect is
// of no use to a plan. `kept` is the trial that must stay.
void leave_out_dominated(std::vector<plan::Configuration>& configurations, const std::string& kept) {
  const auto beats = [](const plan::Configuration& a, const plan::Configuration& b) {
    const bool rivals = a.technique == b.technique && a.num_devices == b.num_devices &&
                        a.num_ranks == b.num_ranks && a.device_class == b.device_class;
    const bool no_worse = a.time_s <= b.time_s && a.start_cost_s <= b.start_cost_s &&
                          a.host_memory_bytes <= b.host_memory_bytes && a.disk_bytes <= b.disk_bytes;
    const bool better = a.time_s < b.time_s || a.start_cost_s < b.start_cost_s ||
                        a.host_memory_bytes < b.host_memory_bytes || a.disk_bytes < b.disk_bytes;
    return rivals && no_worse && better;
  };
  const std::vector<plan::Configuration> all = configurations;
  std::erase_if(configurations, [&](const plan::Configuration& one) {
    return one.trial != kept && std::any_of(all.begin(), all.end(), [&](const plan::Configuration& other) {
             return beats(other, one);
           });
  });
}

bool some_node_holds(const std::vector<plan::Node>& nodes, const batch::Configuration& configuration) {
  return std::any_of(nodes.begin(), nodes.end(), [&](const plan::Node& node) {
    return node.device_class == configuration.device_class && node.num_devices >= configuration.num_devices;
  });
}

void pin(plan::Job& job, const RunningNow& running) {
  const auto at =
      std::find_if(job.configurations.begin(), job.configurations.end(),
                   [&](const plan::Configuration& known) { return known.trial == running.trial; });
  if (at == job.configurations.end() || running.devices.empty()) return;
  plan::Running pinned{.node = running.devices.front().node,
                       .configuration = static_cast<int>(at - job.configurations.begin()),
                       .remaining_s = running.remaining_s,
                       .may_move = running.may_move};
  for (const plan::Device& device : running.devices) pinned.devices.push_back(device.index);
  job.running = std::move(pinned);
}

}  // namespace

JobTime job_time(const batch::Job& job, const batch::RunSettings& run, const Trial& trial,
                 std::int64_t from_step, std::int64_t num_steps) {
  const std::int64_t steps = std::max<std::int64_t>(0, num_steps - from_step);
  // The evaluation at the end is there even where the last step is not a multiple; never twice.
  const bool ends_on_multiple = job.evaluate_every > 0 && num_steps % job.evaluate_every == 0;
  const std::int64_t evaluations =
      num_multiples(job.evaluate_every, from_step, num_steps) + (ends_on_multiple && steps > 0 ? 0 : 1);
  const std::int64_t checkpoints = num_multiples(run.checkpoint_every, from_step, num_steps - 1);
  return {.start_s = trial.start_time_s + (from_step > 0 ? trial.load_time_s : 0.0),
          .work_s = static_cast<double>(steps) * trial.step_time_s +
                    static_cast<double>(evaluations) * trial.evaluate_time_s +
                    static_cast<double>(checkpoints) * trial.save_time_s + trial.end_time_s};
}

Result<std::map<std::string, std::int64_t>> num_steps_of(const batch::Batch& batch) {
  std::map<std::string, std::int64_t> samples;  // of each data source, cut once
  std::map<std::string, std::int64_t> steps;
  Diagnostics faults;
  for (const auto& [name, data] : batch.data) {
    const Result<batch::Split> split = batch::split_of(data);
    if (split.ok()) {
      samples[name] = split->num_training_samples;
    } else {
      faults.insert(faults.end(), split.faults().begin(), split.faults().end());
    }
  }
  if (!faults.empty()) return faults;
  for (const batch::Job& job : batch.jobs)
    steps[job.name] = batch::steps_of(job, batch.data.at(job.data), samples.at(job.data));
  return steps;
}

Result<plan::PlanProblem> to_plan_problem(const batch::Batch& batch, const Profile& measured,
                                          const std::map<std::string, std::int64_t>& num_steps,
                                          const std::map<std::string, Remaining>& remaining, double origin_s,
                                          const TrialsOf* trials_of) {
  const Profile profile = corrected(measured, {});
  plan::PlanProblem problem{.name = batch.path, .nodes = nodes_of(profile.machine), .origin_s = origin_s};
  SATURN_TRY(problem.objective, plan::objective_from(batch.plan.objective));
  Diagnostics faults;
  for (const batch::Job& job : batch.jobs) {
    const auto stated = remaining.find(job.name);
    const Remaining left = stated == remaining.end() ? Remaining{} : stated->second;
    if (left.finished) continue;
    const std::string job_class = trials_of ? "" : batch::speed_class(job, batch.data.at(job.data));
    plan::Job entry{.name = job.name,
                    .release_s = left.release_s,
                    .first_step = left.from_step,
                    .last_step = num_steps.at(job.name)};
    const std::set<std::string> allowed =
        trials_of ? as_listed(trials_of->at(job.name)) : allowed_for(job, job_class, profile.machine);
    const double stop_cost_s = left.running && left.running->may_move ? left.running->stop_cost_s : 0.0;
    std::vector<const Trial*> trials;
    for (const Trial& trial : profile.trials) {
      if (!trials_of && trial.job_class != job_class) continue;
      if (allowed.contains(trial.id)) trials.push_back(&trial);
    }
    // What was only estimated serves where nothing else is left, and then by the most it may take.
    const bool has_measured = std::any_of(trials.begin(), trials.end(), [&](const Trial* trial) {
      return trial->outcome == Outcome::ok && trial->is_measured() && !is_struck(left, trial->id) &&
             some_node_holds(problem.nodes, trial->configuration);
    });
    for (const Trial* const known : trials) {
      const Trial& trial = *known;
      const bool runs_there = left.running && left.running->trial == trial.id;
      if (trial.outcome != Outcome::ok || (is_struck(left, trial.id) && !runs_there)) continue;
      if (!some_node_holds(problem.nodes, trial.configuration)) continue;
      if (has_measured && !trial.is_measured() && !runs_there) continue;
      Trial own = trial;
      if (own.step_time_high_s > 0.0) own.step_time_s = own.step_time_high_s;
      own.step_time_s *= left.running ? left.running->slowdown : 1.0;
      const std::int64_t end = left.expected_end > 0 ? left.expected_end : num_steps.at(job.name);
      const JobTime time = job_time(job, batch.run, own, left.from_step, end);
      entry.configurations.push_back({.technique = trial.configuration.technique,
                                      .num_devices = trial.configuration.num_devices,
                                      .num_ranks = trial.configuration.num_ranks,
                                      .device_class = trial.configuration.device_class,
                                      .time_s = time.work_s,
                                      .start_cost_s = stop_cost_s + time.start_s,
                                      .host_memory_bytes = trial.host_memory_peak_bytes,
                                      .disk_bytes = trial.disk_bytes,
                                      .trial = trial.id,
                                      .knobs = trial.configuration.knobs});
    }
    leave_out_dominated(entry.configurations, left.running ? left.running->trial : "");
    if (entry.configurations.empty()) {
      faults.push_back(nothing_fits(job, trials, left));
      continue;
    }
    if (left.running) pin(entry, *left.running);
    problem.jobs.push_back(std::move(entry));
  }
  if (!faults.empty()) return faults;
  return problem;
}

}  // namespace saturn::profile

// What a profile holds, which trials a batch wants, and why a profile does not do.

#include "saturn/profile/profile.h"

#include <algorithm>
#include <map>

#include "profile/search.h"
#include "saturn/base/digest.h"
#include "saturn/base/version.h"
#include "saturn/batch/check_devices.h"
#include "saturn/batch/identity.h"

namespace saturn::profile {
namespace {

std::string brief(const Trial& trial) {
  return batch::to_text(trial.configuration) + " of " + trial.job_class;
}

// A candidate with what its technique expects of it.
Trial predicted(const batch::Job& job, const batch::DataSource& data, const std::string& id,
                const std::string& job_class, const batch::Configuration& configuration) {
  const batch::TechniqueSpec* const spec = batch::find_technique(configuration.technique);
  return {.id = id,
          .job_class = job_class,
          .configuration = configuration,
          .predicted_step_time_s = spec->predicted_step_time_s(job, data, configuration),
          .predicted_memory_bytes = spec->predicted_memory_bytes(job, data, configuration)};
}

}  // namespace

std::string trial_id(const std::string& job_class, const batch::Configuration& asked) {
  std::string id = job_class + "-" + asked.technique + "-x" + std::to_string(asked.num_devices);
  if (asked.num_ranks != asked.num_devices) id += "r" + std::to_string(asked.num_ranks);
  if (asked.device_class != "cpu") id += "-" + asked.device_class;
  if (!asked.knobs.empty()) id += "-" + digest_of(to_line(asked.knobs)).substr(0, 6);
  return id;
}

const Trial* Profile::find_id(const std::string& id) const {
  const auto it =
      std::find_if(trials.begin(), trials.end(), [&](const Trial& trial) { return trial.id == id; });
  return it == trials.end() ? nullptr : &*it;
}

Conditions conditions_of(const batch::Batch& batch, const devices::Machine& machine) {
  return {.fingerprint = devices::fingerprint(machine),
          .saturn = version(),
          .training_version = kTrainingVersion,
          .warmup_steps = batch.profile.warmup_steps,
          .trial_steps = batch.profile.trial_steps};
}

std::vector<Trial> wanted_trials(const batch::Batch& batch, const devices::Machine& machine) {
  std::vector<Trial> wanted;
  std::map<std::string, std::size_t> by_id;
  const std::vector<batch::DeviceGroup> groups = batch::device_groups(machine);
  for (const batch::Job& job : batch.jobs) {
    const std::string job_class = batch::speed_class(job, batch.data.at(job.data));
    for (const batch::DeviceGroup& group : groups) {
      for (const batch::Configuration& configuration : batch::configurations_of(job, group)) {
        const std::string id = trial_id(job_class, configuration);
        const auto [at, is_new] = by_id.emplace(id, wanted.size());
        if (is_new) wanted.push_back(predicted(job, batch.data.at(job.data), id, job_class, configuration));
        wanted[at->second].jobs.push_back(job.name);
      }
    }
  }
  std::stable_sort(wanted.begin(), wanted.end(), [](const Trial& a, const Trial& b) {
    return a.configuration.num_devices < b.configuration.num_devices;
  });
  return wanted;
}

std::string workload_of(const batch::Batch& batch, const std::map<std::string, std::int64_t>& num_steps) {
  std::vector<std::string> jobs;
  for (const batch::Job& job : batch.jobs) {
    jobs.push_back(batch::speed_class(job, batch.data.at(job.data)) + " " +
                   std::to_string(num_steps.at(job.name)) + " " + std::to_string(job.evaluate_every));
  }
  std::sort(jobs.begin(), jobs.end());
  Json what = {{"objective", batch.plan.objective}, {"checkpoint_every", batch.run.checkpoint_every}};
  what["jobs"] = jobs;
  return digest_of(to_line(what)).substr(0, 12);
}

std::vector<std::string> what_is_stale(const Profile& profile, const batch::Batch& batch,
                                       const devices::Machine& machine) {
  std::vector<std::string> reasons;
  const Conditions now = conditions_of(batch, machine);
  const Conditions& then = profile.conditions;
  if (then.fingerprint != now.fingerprint)
    reasons.push_back("it was measured on other devices than this machine has");
  if (then.saturn != now.saturn || then.training_version != now.training_version)
    reasons.push_back("it was measured with saturn " + then.saturn + ", this is " + now.saturn);
  if (then.warmup_steps != now.warmup_steps || then.trial_steps != now.trial_steps) {
    reasons.push_back("it timed " + std::to_string(then.trial_steps) + " steps after " +
                      std::to_string(then.warmup_steps) + " of warm-up, the batch asks for " +
                      std::to_string(now.trial_steps) + " after " + std::to_string(now.warmup_steps));
  }
  if (!reasons.empty()) return reasons;

  // What a search that knows this profile would still measure.
  Search search(batch, machine);
  for (const Trial& trial : profile.trials) {
    if (trial.is_measured()) search.conclude(trial);
  }
  std::vector<const Trial*> missing;
  for (std::size_t group = 0; group < search.num_groups(); ++group) {
    const Trial* const next = search.next(group);
    const bool was_left =
        next != nullptr &&
        std::any_of(profile.untried.begin(), profile.untried.end(), [&](const Untried& left) {
          const bool on_purpose = left.why == Untried::Why::budget || left.why == Untried::Why::settled;
          return on_purpose && left.trial.id == next->id;
        });
    if (next != nullptr && !was_left) missing.push_back(next);
  }
  if (missing.empty()) return reasons;
  std::string lacks = "it has no trial of " + brief(*missing.front());
  if (missing.size() > 1) {
    lacks += ", nor of others in " + std::to_string(missing.size()) + " groups of one class and width";
  }
  reasons.push_back(std::move(lacks));
  return reasons;
}

}  // namespace saturn::profile

// profile.json, strictly both ways.

#include <algorithm>
#include <array>
#include <set>

#include "saturn/base/nearest.h"
#include "saturn/profile/profile.h"

namespace saturn::profile {
namespace {

constexpr std::array kOutcomes = {"ok", "out_of_memory", "unsupported", "failed"};
constexpr std::array kWhys = {"slower", "budget", "failing"};
constexpr std::array kSources = {"measured", "shared", "interpolated"};

template <std::size_t N>
std::size_t one_of(JsonReader& reader, const char* key, const std::array<const char*, N>& names) {
  const std::string value = reader.string(key);
  for (std::size_t i = 0; i < N; ++i) {
    if (value == names[i]) return i;
  }
  const std::vector<std::string> known(names.begin(), names.end());
  reader.fault(key, in_quotes(value) + " stands here", "one of " + listed(known), did_you_mean(value, known));
  return 0;
}

double not_negative(JsonReader& reader, const char* key) {
  const double value = reader.number(key);
  if (value < 0.0) reader.fault(key, std::string(key) + " is negative", "0 or more");
  return std::max(value, 0.0);
}

std::int64_t count(JsonReader& reader, const char* key, std::int64_t least) {
  const std::int64_t value = reader.integer(key);
  if (value < least) {
    reader.fault(key, std::string(key) + " = " + std::to_string(value), std::to_string(least) + " or more");
    return least;
  }
  return value;
}

std::vector<std::string> strings(JsonReader& reader, const char* key) {
  std::vector<std::string> values;
  for (const Json& value : reader.array(key)) {
    if (value.is_string()) {
      values.push_back(value.get<std::string>());
    } else {
      reader.fault(key, "an element is not a string", "an array of strings");
    }
  }
  return values;
}

Json to_json(const Trial& trial) {
  Json json = Json::object();
  json["id"] = trial.id;
  json["job_class"] = trial.job_class;
  json["jobs"] = trial.jobs;
  json["technique"] = trial.configuration.technique;
  json["num_devices"] = trial.configuration.num_devices;
  json["num_ranks"] = trial.configuration.num_ranks;
  json["device_class"] = trial.configuration.device_class;
  json["knobs"] = trial.configuration.knobs;
  json["outcome"] = name_of(trial.outcome);
  json["reason"] = trial.reason;
  json["step_time_s"] = trial.step_time_s;
  json["step_time_spread_s"] = trial.step_time_spread_s;
  json["samples_per_s"] = trial.samples_per_s;
  json["memory_peak_bytes"] = trial.memory_peak_bytes;
  json["host_memory_peak_bytes"] = trial.host_memory_peak_bytes;
  if (trial.disk_bytes > 0) json["disk_bytes"] = trial.disk_bytes;
  json["start_time_s"] = trial.start_time_s;
  json["save_time_s"] = trial.save_time_s;
  json["load_time_s"] = trial.load_time_s;
  json["evaluate_time_s"] = trial.evaluate_time_s;
  json["end_time_s"] = trial.end_time_s;
  json["source"] = name_of(trial.source);
  json["concurrency"] = trial.concurrency;
  json["needed_bytes"] = trial.needed_bytes;
  json["predicted_step_time_s"] = trial.predicted_step_time_s;
  json["predicted_memory_bytes"] = trial.predicted_memory_bytes;
  return json;
}

Json to_json(const Untried& untried) {
  const Trial& trial = untried.trial;
  return {{"id", trial.id},
          {"job_class", trial.job_class},
          {"jobs", trial.jobs},
          {"technique", trial.configuration.technique},
          {"num_devices", trial.configuration.num_devices},
          {"num_ranks", trial.configuration.num_ranks},
          {"device_class", trial.configuration.device_class},
          {"knobs", trial.configuration.knobs},
          {"why", kWhys[static_cast<std::size_t>(untried.why)]},
          {"reason", untried.reason},
          {"predicted_step_time_s", trial.predicted_step_time_s},
          {"predicted_memory_bytes", trial.predicted_memory_bytes}};
}

Json to_json(const Correction& correction) {
  Json json = {{"trial", correction.trial},
               {"step_factor", correction.step_factor},
               {"spread", correction.spread},
               {"num_steps", correction.num_steps}};
  if (correction.start_s) json["start_s"] = *correction.start_s;
  if (correction.save_s) json["save_s"] = *correction.save_s;
  return json;
}

Correction correction_from_json(JsonReader reader) {
  Correction correction{.trial = reader.string("trial")};
  correction.step_factor = not_negative(reader, "step_factor");
  if (correction.step_factor <= 0.0) reader.fault("step_factor", "a factor of 0", "more than 0");
  correction.spread = not_negative(reader, "spread");
  correction.num_steps = count(reader, "num_steps", 0);
  if (reader.has("start_s")) correction.start_s = not_negative(reader, "start_s");
  if (reader.has("save_s")) correction.save_s = not_negative(reader, "save_s");
  reader.finish();
  return correction;
}

// The names of a trial, measured or not, and what was asked for.
void read_names(JsonReader& reader, Trial& trial) {
  trial.id = reader.string("id");
  trial.job_class = reader.string("job_class");
  trial.jobs = strings(reader, "jobs");
  trial.configuration.technique = reader.string("technique");
  trial.configuration.num_devices = static_cast<int>(count(reader, "num_devices", 1));
  trial.configuration.num_ranks = static_cast<int>(count(reader, "num_ranks", 1));
  trial.configuration.device_class = reader.string("device_class");
  trial.configuration.knobs = reader.object("knobs");
}

// Absent in what other programs write.
void read_predictions(JsonReader& reader, Trial& trial) {
  if (reader.has("predicted_step_time_s"))
    trial.predicted_step_time_s = not_negative(reader, "predicted_step_time_s");
  if (reader.has("predicted_memory_bytes"))
    trial.predicted_memory_bytes = count(reader, "predicted_memory_bytes", 0);
}

Trial trial_from_json(JsonReader reader) {
  Trial trial;
  read_names(reader, trial);
  trial.outcome = static_cast<Outcome>(one_of(reader, "outcome", kOutcomes));
  trial.reason = reader.string("reason");
  trial.step_time_s = not_negative(reader, "step_time_s");
  if (trial.outcome == Outcome::ok && trial.step_time_s <= 0.0)
    reader.fault("step_time_s", "a trial that is ok has no step time", "more than 0");
  trial.step_time_spread_s = not_negative(reader, "step_time_spread_s");
  trial.samples_per_s = not_negative(reader, "samples_per_s");
  trial.memory_peak_bytes = count(reader, "memory_peak_bytes", 0);
  trial.host_memory_peak_bytes = count(reader, "host_memory_peak_bytes", 0);
  if (reader.has("disk_bytes")) trial.disk_bytes = count(reader, "disk_bytes", 0);
  trial.start_time_s = not_negative(reader, "start_time_s");
  trial.save_time_s = not_negative(reader, "save_time_s");
  trial.load_time_s = not_negative(reader, "load_time_s");
  trial.evaluate_time_s = not_negative(reader, "evaluate_time_s");
  trial.end_time_s = not_negative(reader, "end_time_s");
  trial.source = static_cast<Source>(one_of(reader, "source", kSources));
  trial.concurrency = reader.string("concurrency");
  if (reader.has("needed_bytes")) trial.needed_bytes = count(reader, "needed_bytes", 0);
  read_predictions(reader, trial);
  reader.finish();
  return trial;
}

Untried untried_from_json(JsonReader reader) {
  Untried untried;
  read_names(reader, untried.trial);
  untried.why = static_cast<Untried::Why>(one_of(reader, "why", kWhys));
  untried.reason = reader.string("reason");
  read_predictions(reader, untried.trial);
  reader.finish();
  return untried;
}

}  // namespace

const char* name_of(Outcome outcome) {
  return kOutcomes[static_cast<std::size_t>(outcome)];
}

const char* name_of(Source source) {
  return kSources[static_cast<std::size_t>(source)];
}

Json to_json(const Profile& profile) {
  Json document = artefact_header(kProfileFormat, profile.made_from);
  document["machine"] = devices::to_json(profile.machine);
  Json& conditions = document["conditions"] = Json::object();
  conditions["fingerprint"] = profile.conditions.fingerprint;
  conditions["saturn"] = profile.conditions.saturn;
  conditions["training_version"] = profile.conditions.training_version;
  conditions["warmup_steps"] = profile.conditions.warmup_steps;
  conditions["trial_steps"] = profile.conditions.trial_steps;
  Json& trials = document["trials"] = Json::array();
  for (const Trial& trial : profile.trials) trials.push_back(to_json(trial));
  Json& untried = document["untried"] = Json::array();
  for (const Untried& one : profile.untried) untried.push_back(to_json(one));
  if (profile.corrections.empty()) return document;
  Json& corrections = document["corrections"] = Json::array();
  for (const Correction& correction : profile.corrections) corrections.push_back(to_json(correction));
  return document;
}

Result<Profile> profile_from_json(const Json& document, const std::string& path) {
  Diagnostics faults;
  JsonReader reader(document, path, "", faults);
  Profile profile;
  reader.any("format");
  reader.any("saturn");
  for (const auto& [name, digest] : reader.object("made_from").items()) {
    if (digest.is_string()) {
      profile.made_from.push_back({.name = name, .digest = digest.get<std::string>()});
    } else {
      reader.fault("made_from", "the digest of " + in_quotes(name) + " is not a string", "a digest");
    }
  }
  profile.machine = devices::machine_from_json(reader.child("machine"));
  JsonReader conditions = reader.child("conditions");
  profile.conditions.fingerprint = conditions.string("fingerprint");
  profile.conditions.saturn = conditions.string("saturn");
  profile.conditions.training_version = static_cast<int>(conditions.integer("training_version"));
  profile.conditions.warmup_steps = static_cast<int>(count(conditions, "warmup_steps", 0));
  profile.conditions.trial_steps = static_cast<int>(count(conditions, "trial_steps", 1));
  conditions.finish();

  std::set<std::string> ids;
  const Json& trials = reader.array("trials");
  for (std::size_t i = 0; i < trials.size(); ++i) {
    JsonReader entry = reader.child("trials", i);
    profile.trials.push_back(trial_from_json(entry));
    if (!ids.insert(profile.trials.back().id).second)
      entry.fault("id", in_quotes(profile.trials.back().id) + " is there twice", "one trial for each id");
  }
  const Json& untried = reader.array_or_empty("untried");
  for (std::size_t i = 0; i < untried.size(); ++i)
    profile.untried.push_back(untried_from_json(reader.child("untried", i)));
  const Json& corrections = reader.array_or_empty("corrections");
  for (std::size_t i = 0; i < corrections.size(); ++i)
    profile.corrections.push_back(correction_from_json(reader.child("corrections", i)));
  reader.finish();
  if (!faults.empty()) return faults;
  return profile;
}

Result<Profile> read_profile(const std::string& path) {
  SATURN_TRY(const Json document, read_artefact(path, kProfileFormat));
  return profile_from_json(document, path);
}

}  // namespace saturn::profile

// profile.json, strictly both ways.

#include <algorithm>
#include <array>
#include <set>

#include "profile/trial_json.h"
#include "saturn/base/nearest.h"
#include "saturn/profile/profile.h"

namespace saturn::profile {
namespace {

constexpr std::array kOutcomes = {"ok", "out_of_memory", "unsupported", "failed"};
constexpr std::array kWhys = {"slower", "budget", "failing", "settled"};
constexpr std::array kDecisions = {"complete", "settled", "budget"};
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

Json to_json(const Decision& decision) {
  return {{"why", name_of(decision.why)},
          {"reason", decision.reason},
          {"gap", decision.gap},
          {"measured_s", decision.measured_s},
          {"optimistic_s", decision.optimistic_s},
          {"is_proved", decision.is_proved},
          {"num_predicted", decision.num_predicted},
          {"num_missed", decision.num_missed},
          {"typical_error", decision.typical_error},
          {"workload", decision.workload}};
}

Decision decision_from_json(JsonReader reader) {
  Decision decision;
  decision.why = static_cast<Decision::Why>(one_of(reader, "why", kDecisions));
  decision.reason = reader.string("reason");
  decision.gap = not_negative(reader, "gap");
  decision.measured_s = not_negative(reader, "measured_s");
  decision.optimistic_s = not_negative(reader, "optimistic_s");
  decision.is_proved = reader.boolean_or("is_proved", false);
  decision.num_predicted = static_cast<int>(count(reader, "num_predicted", 0));
  decision.num_missed = static_cast<int>(count(reader, "num_missed", 0));
  decision.typical_error = not_negative(reader, "typical_error");
  decision.workload = reader.string("workload");
  reader.finish();
  return decision;
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
  if (trial.step_time_high_s > 0.0) {
    json["step_time_low_s"] = trial.step_time_low_s;
    json["step_time_high_s"] = trial.step_time_high_s;
  }
  return json;
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
  if (reader.has("step_time_low_s")) trial.step_time_low_s = not_negative(reader, "step_time_low_s");
  if (reader.has("step_time_high_s")) trial.step_time_high_s = not_negative(reader, "step_time_high_s");
  const bool is_bounded =
      trial.step_time_low_s <= trial.step_time_s && trial.step_time_s <= trial.step_time_high_s;
  if (trial.step_time_high_s > 0.0 && !is_bounded)
    reader.fault("step_time_s", "it is not between step_time_low_s and step_time_high_s",
                 "low <= time <= high");
  reader.finish();
  return trial;
}

Json to_json(const Conditions& conditions) {
  return {{"fingerprint", conditions.fingerprint},
          {"saturn", conditions.saturn},
          {"training_version", conditions.training_version},
          {"warmup_steps", conditions.warmup_steps},
          {"trial_steps", conditions.trial_steps}};
}

Conditions conditions_from_json(JsonReader reader) {
  Conditions conditions{.fingerprint = reader.string("fingerprint"), .saturn = reader.string("saturn")};
  conditions.training_version = static_cast<int>(reader.integer("training_version"));
  conditions.warmup_steps = static_cast<int>(count(reader, "warmup_steps", 0));
  conditions.trial_steps = static_cast<int>(count(reader, "trial_steps", 1));
  reader.finish();
  return conditions;
}

const char* name_of(Outcome outcome) {
  return kOutcomes[static_cast<std::size_t>(outcome)];
}

const char* name_of(Source source) {
  return kSources[static_cast<std::size_t>(source)];
}

const char* name_of(Decision::Why why) {
  return kDecisions[static_cast<std::size_t>(why)];
}

Json to_json(const Profile& profile) {
  Json document = artefact_header(kProfileFormat, profile.made_from);
  document["machine"] = devices::to_json(profile.machine);
  document["conditions"] = to_json(profile.conditions);
  Json& trials = document["trials"] = Json::array();
  for (const Trial& trial : profile.trials) trials.push_back(to_json(trial));
  Json& untried = document["untried"] = Json::array();
  for (const Untried& one : profile.untried) untried.push_back(to_json(one));
  if (!profile.corrections.empty()) {
    Json& corrections = document["corrections"] = Json::array();
    for (const Correction& correction : profile.corrections) corrections.push_back(to_json(correction));
  }
  if (profile.decision) document["decision"] = to_json(*profile.decision);
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
  profile.conditions = conditions_from_json(reader.child("conditions"));

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
  if (reader.has("decision")) profile.decision = decision_from_json(reader.child("decision"));
  reader.finish();
  if (!faults.empty()) return faults;
  return profile;
}

Result<Profile> read_profile(const std::string& path) {
  SATURN_TRY(const Json document, read_artefact(path, kProfileFormat));
  return profile_from_json(document, path);
}

}  // namespace saturn::profile

// summary.json: drawn from the folded state, so that it can be made again from the journal at any time.

#include "saturn/journal/summary.h"

#include <algorithm>
#include <cmath>

namespace saturn::journal {
namespace {

constexpr std::string_view kValidationPrefix = "validation_";

std::string technique_of(const Attempt& attempt) {
  return attempt.technique + " x" + std::to_string(attempt.num_devices);
}

JobSummary summarise(const JobRecord& record, double now_s) {
  JobSummary job{.name = record.name,
                 .state = record.state,
                 .reason = record.state == JobState::done ? "" : record.reason,
                 .steps = record.step,
                 .num_steps = record.num_steps,
                 .attempts = static_cast<int>(record.attempts.size()),
                 .time_s = record.time_s(now_s),
                 .train_loss = record.train_loss,
                 .num_skipped_steps = static_cast<int>(record.skipped_steps.size()),
                 .num_failed_saves = record.num_failed_saves,
                 .rungs = record.rungs};
  for (const Attempt& attempt : record.attempts) {
    const std::string technique = technique_of(attempt);
    if (std::find(job.techniques.begin(), job.techniques.end(), technique) == job.techniques.end())
      job.techniques.push_back(technique);
  }
  if (const Attempt* const last = record.last_attempt()) {
    job.devices = last->devices;
    if (record.state == JobState::done) {
      job.predicted_time_s = last->predicted_s;
      job.last_attempt_s = *last->end_s - last->start_s;
    }
  }
  for (const auto& [name, value] : record.metrics)
    job.validation[name.starts_with(kValidationPrefix) ? name.substr(kValidationPrefix.size()) : name] =
        value;
  if (record.state == JobState::done) job.model_dir = "jobs/" + record.name + "/model";
  return job;
}

// What jobs are compared by: validation loss where there is one.
std::optional<double> quality(const JobSummary& job) {
  if (job.state != JobState::done) return std::nullopt;
  const auto loss = job.validation.find("loss");
  if (loss != job.validation.end()) return loss->second;
  return job.train_loss;
}

void put(Json& object, const char* key, const std::optional<double>& value) {
  object[key] = value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}

std::optional<double> optional_number(JsonReader& reader, const char* key) {
  return reader.any(key).is_null() ? std::nullopt : std::optional(reader.number(key));
}

Json to_json(const std::vector<plan::Device>& devices) {
  Json list = Json::array();
  for (const plan::Device& device : devices) list.push_back(device.node + ":" + std::to_string(device.index));
  return list;
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

Json to_json(const RungRecord& rung) {
  Json entry = {{"rung", rung.rung}, {"step", rung.step}};
  put(entry, "value", rung.value);
  entry["decision"] = to_string(rung.decision);
  entry["reason"] = rung.reason;
  return entry;
}

RungRecord rung_from_json(JsonReader reader) {
  RungRecord rung{.rung = reader.integer("rung"), .step = reader.integer("step")};
  rung.value = optional_number(reader, "value");
  const std::string decision = reader.string("decision");
  if (const std::optional<RungDecision> known = rung_decision_from(decision)) {
    rung.decision = *known;
  } else {
    reader.fault("decision", in_quotes(decision) + " is no decision", "continue, pause, promote or stop");
  }
  rung.reason = reader.string("reason");
  reader.finish();
  return rung;
}

JobSummary job_from_json(JsonReader reader) {
  JobSummary job;
  job.name = reader.string("name");
  const std::string state = reader.string("state");
  if (const std::optional<JobState> known = job_state_from(state)) {
    job.state = *known;
  } else {
    reader.fault("state", in_quotes(state) + " is not a state", "one of the states of a job");
  }
  job.steps = reader.integer("steps");
  job.num_steps = reader.integer("num_steps");
  job.attempts = static_cast<int>(reader.integer("attempts"));
  job.techniques = strings(reader, "techniques");
  for (const std::string& device : strings(reader, "devices")) {
    const std::size_t colon = device.rfind(':');
    if (colon == std::string::npos) continue;
    job.devices.push_back({.node = device.substr(0, colon), .index = std::atoi(device.c_str() + colon + 1)});
  }
  job.time_s = reader.number("time_s");
  job.last_attempt_s = optional_number(reader, "last_attempt_s");
  job.predicted_time_s = optional_number(reader, "predicted_time_s");
  job.train_loss = optional_number(reader, "train_loss");
  for (const auto& [name, value] : reader.object("validation").items()) {
    if (value.is_number()) job.validation[name] = value.get<double>();
  }
  job.num_skipped_steps = static_cast<int>(reader.integer_or("num_skipped_steps", 0));
  job.num_failed_saves = static_cast<int>(reader.integer_or("num_failed_saves", 0));
  const Json& rungs = reader.array_or_empty("rungs");
  for (std::size_t i = 0; i < rungs.size(); ++i)
    job.rungs.push_back(rung_from_json(reader.child("rungs", i)));
  job.model_dir = reader.string("model_dir");
  job.reason = reader.string("reason");
  reader.finish();
  return job;
}

IntrospectionSummary introspection_from_json(JsonReader reader) {
  IntrospectionSummary one;
  one.time_s = reader.number("time_s");
  one.decision = reader.string("decision");
  one.trigger = reader.string("trigger");
  one.reason = reader.string("reason");
  one.moved = strings(reader, "moved");
  one.cost_s = reader.number("cost_s");
  one.predicted_gain_s = optional_number(reader, "predicted_gain_s");
  one.realised_gain_s = optional_number(reader, "realised_gain_s");
  reader.finish();
  return one;
}

std::string counted(int count, const std::string& noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

}  // namespace

std::string JobSummary::trouble() const {
  std::string text;
  if (num_skipped_steps > 0) text = counted(num_skipped_steps, "step") + " skipped";
  if (num_failed_saves > 0)
    text += (text.empty() ? "" : ", ") + counted(num_failed_saves, "checkpoint") + " not saved";
  return text;
}

std::optional<double> Summary::prediction_error() const {
  if (!predicted_makespan_s || makespan_s <= 0.0) return std::nullopt;
  return *predicted_makespan_s / makespan_s - 1.0;
}

Summary summarise(const RunState& state) {
  Summary summary{.batch = state.batch_name,
                  .outcome = state.ended ? state.outcome : "running",
                  .num_plans = static_cast<int>(state.plans.size())};
  double origin_s = state.time_s;
  double end_s = 0.0;
  for (const JobRecord& record : state.jobs) {
    summary.jobs.push_back(summarise(record, state.time_s));
    for (const Attempt& attempt : record.attempts) {
      origin_s = std::min(origin_s, attempt.start_s);
      end_s = std::max(end_s, attempt.end_s.value_or(state.time_s));
    }
  }
  // The prediction in force when the last controller began to run jobs; what it re-planned later is no
  // prediction.
  if (const PlanRecord* const plan = state.first_plan_of_last_controller()) {
    origin_s = std::min(origin_s, plan->origin_s);
    summary.predicted_makespan_s = plan->origin_s + plan->makespan_s - origin_s;
    summary.lower_bound_s = plan->origin_s + plan->lower_bound_s - origin_s;
  }
  summary.makespan_s = std::max(0.0, end_s - origin_s);

  summary.num_looks = static_cast<int>(state.introspections.size());
  const bool whole = std::all_of(state.jobs.begin(), state.jobs.end(),
                                 [](const JobRecord& record) { return record.state == JobState::done; });
  for (const IntrospectionRecord& record : state.introspections) {
    if (record.decision == "keep") continue;
    IntrospectionSummary one{.time_s = record.time_s,
                             .decision = record.decision,
                             .trigger = record.trigger,
                             .reason = record.reason,
                             .moved = record.moved,
                             .cost_s = record.cost_s};
    if (record.kept_s > 0.0) {
      one.predicted_gain_s = record.kept_s - record.planned_s;
      if (whole) one.realised_gain_s = record.time_s + record.kept_s - end_s;
    }
    summary.introspections.push_back(std::move(one));
  }

  std::optional<double> best;
  for (const JobSummary& job : summary.jobs) {
    const std::optional<double> loss = quality(job);
    if (!loss || !std::isfinite(*loss) || (best && *loss >= *best)) continue;
    best = loss;
    summary.best_job = job.name;
  }
  return summary;
}

Json to_json(const Summary& summary) {
  Json document = artefact_header(kSummaryFormat, {});
  document["batch"] = summary.batch;
  document["outcome"] = summary.outcome;
  document["makespan_s"] = summary.makespan_s;
  put(document, "predicted_makespan_s", summary.predicted_makespan_s);
  put(document, "prediction_error", summary.prediction_error());
  document["lower_bound_s"] = summary.lower_bound_s;
  document["num_plans"] = summary.num_plans;
  document["best_job"] = summary.best_job ? Json(*summary.best_job) : Json(nullptr);
  Json& jobs = document["jobs"] = Json::array();
  for (const JobSummary& job : summary.jobs) {
    Json entry = Json::object();
    entry["name"] = job.name;
    entry["state"] = to_string(job.state);
    entry["steps"] = job.steps;
    entry["num_steps"] = job.num_steps;
    entry["attempts"] = job.attempts;
    entry["techniques"] = job.techniques;
    entry["devices"] = to_json(job.devices);
    entry["time_s"] = job.time_s;
    put(entry, "last_attempt_s", job.last_attempt_s);
    put(entry, "predicted_time_s", job.predicted_time_s);
    put(entry, "train_loss", job.train_loss);
    Json& validation = entry["validation"] = Json::object();
    for (const auto& [name, value] : job.validation) validation[name] = value;
    entry["num_skipped_steps"] = job.num_skipped_steps;
    entry["num_failed_saves"] = job.num_failed_saves;
    if (!job.rungs.empty()) {
      Json& rungs = entry["rungs"] = Json::array();
      for (const RungRecord& rung : job.rungs) rungs.push_back(to_json(rung));
    }
    entry["model_dir"] = job.model_dir;
    entry["reason"] = job.reason;
    jobs.push_back(std::move(entry));
  }
  if (summary.num_looks == 0) return document;
  document["num_looks"] = summary.num_looks;
  Json& introspections = document["introspections"] = Json::array();
  for (const IntrospectionSummary& one : summary.introspections) {
    Json entry = {{"time_s", one.time_s}, {"decision", one.decision}, {"trigger", one.trigger},
                  {"reason", one.reason}, {"moved", one.moved},       {"cost_s", one.cost_s}};
    put(entry, "predicted_gain_s", one.predicted_gain_s);
    put(entry, "realised_gain_s", one.realised_gain_s);
    introspections.push_back(std::move(entry));
  }
  return document;
}

Result<Summary> summary_from_json(const Json& document, const std::string& path) {
  Diagnostics faults;
  JsonReader reader(document, path, "", faults);
  Summary summary;
  for (const char* const header : {"format", "saturn", "made_from"}) reader.any(header);
  summary.batch = reader.string("batch");
  summary.outcome = reader.string("outcome");
  summary.makespan_s = reader.number("makespan_s");
  summary.predicted_makespan_s = optional_number(reader, "predicted_makespan_s");
  reader.any("prediction_error");  // follows from the two
  summary.lower_bound_s = reader.number("lower_bound_s");
  summary.num_plans = static_cast<int>(reader.integer("num_plans"));
  if (!reader.any("best_job").is_null()) summary.best_job = reader.string("best_job");
  const Json& jobs = reader.array("jobs");
  for (std::size_t i = 0; i < jobs.size(); ++i)
    summary.jobs.push_back(job_from_json(reader.child("jobs", i)));
  summary.num_looks = static_cast<int>(reader.integer_or("num_looks", 0));
  const Json& introspections = reader.array_or_empty("introspections");
  for (std::size_t i = 0; i < introspections.size(); ++i)
    summary.introspections.push_back(introspection_from_json(reader.child("introspections", i)));
  reader.finish();
  if (!faults.empty()) return faults;
  return summary;
}

}  // namespace saturn::journal

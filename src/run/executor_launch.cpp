// From an assignment of the plan to living ranks.

#include <algorithm>

#include "run/accept.h"
#include "run/executor.h"
#include "run/logs.h"
#include "saturn/base/files.h"
#include "saturn/profile/job_time.h"
#include "saturn/profile/ranks.h"
#include "saturn/search/rungs.h"

namespace saturn::run {
namespace {

using journal::Attempt;
using journal::Event;
using journal::EventKind;
using journal::JobRecord;

const devices::Node* node_of(const devices::Machine& machine, const std::string& name) {
  const auto at = std::find_if(machine.nodes.begin(), machine.nodes.end(),
                               [&](const devices::Node& node) { return node.name == name; });
  return at == machine.nodes.end() ? nullptr : &*at;
}

Result<std::vector<devices::Device>> devices_of(const plan::Assignment& assignment,
                                                const devices::Node& node) {
  std::vector<devices::Device> devices;
  for (const plan::Device& wanted : assignment.devices) {
    const auto at = std::find_if(node.devices.begin(), node.devices.end(),
                                 [&](const devices::Device& device) { return device.index == wanted.index; });
    if (wanted.node != node.name || at == node.devices.end()) {
      return Diagnostic{.kind = Kind::machine,
                        .what = "job " + in_quotes(assignment.job) + " is planned on device " +
                                std::to_string(wanted.index) + " of " + in_quotes(wanted.node) +
                                ", which is not here",
                        .expected = "a plan for this machine"};
    }
    devices.push_back(*at);
  }
  return devices;
}

Json devices_json(const std::vector<plan::Device>& devices) {
  const bool spans = std::any_of(devices.begin(), devices.end(), [&](const plan::Device& device) {
    return device.node != devices.front().node;
  });
  Json list = Json::array();
  for (const plan::Device& device : devices) {
    if (spans) {
      list.push_back(device.node + ":" + std::to_string(device.index));
    } else {
      list.push_back(device.index);
    }
  }
  return list;
}

}  // namespace

Result<std::vector<worker::Assign>> Executor::ranks_of(const plan::Assignment& assignment,
                                                       const JobRecord& record) const {
  const devices::Node* const node = node_of(*execution_.machine, assignment.node);
  if (node == nullptr) {
    return Diagnostic{.kind = Kind::machine,
                      .what = "job " + in_quotes(assignment.job) + " is planned on node " +
                              in_quotes(assignment.node) + ", which is not here",
                      .expected = "a plan for this machine"};
  }
  SATURN_TRY(const std::vector<devices::Device> devices, devices_of(assignment, *node));
  const batch::Job& job = job_of(assignment.job);
  const batch::Configuration configuration{.technique = assignment.technique,
                                           .num_devices = static_cast<int>(devices.size()),
                                           .num_ranks = assignment.num_ranks,
                                           .device_class = node->device_class,
                                           .knobs = assignment.knobs};
  std::vector<worker::Assign> ranks =
      profile::deal(job, execution_.batch.data.at(job.data), configuration, node->name, devices);
  const journal::RunPaths& paths = directory_.paths();
  const batch::RunSettings& settings = execution_.batch.run;
  for (worker::Assign& assign : ranks) {
    assign.mode = worker::Mode::train;
    assign.job_directory = paths.job(job.name);
    assign.log_path = paths.log(job.name, assign.rank);
    assign.resume_from = record.checkpoint ? join_path(paths.job(job.name), record.checkpoint->path) : "";
    assign.from_step = resume_step(record);
    assign.to_step = assignment.to_step;
    assign.checkpoint_every = settings.checkpoint_every;
    assign.keep_checkpoints = settings.keep_checkpoints;
    assign.max_skipped_steps = kMaxSkippedSteps;
    assign.num_skipped_steps = record.num_skipped(assign.from_step);
    assign.log_every = settings.log_every;
    assign.evaluate_at = search::validations(execution_.batch.search, record, assign.from_step);
  }
  return ranks;
}

Result<void> Executor::start(const plan::Assignment& assignment) {
  const JobRecord& record = *directory_.state().find(assignment.job);
  const batch::Job& job = job_of(assignment.job);
  const profile::Trial* const trial = execution_.profile->find_id(assignment.trial);
  auto live = std::make_unique<Live>();
  live->job = job.name;
  live->number = record.first_attempt + static_cast<int>(record.attempts.size());
  live->attempt = job.name + "#" + std::to_string(live->number);
  live->step = resume_step(record);
  live->trial = trial;
  live->devices = assignment.devices;

  SATURN_TRY(std::vector<worker::Assign> ranks, ranks_of(assignment, record));
  const std::string text = assignment.technique + " x" + std::to_string(assignment.devices.size());
  SATURN_TRY_VOID(directory_.make_job_directory(job.name));
  SATURN_TRY_VOID(write_job_description(job, execution_.batch.data.at(job.data), record.result_digest,
                                        directory_.paths().job(job.name) + "/job.json"));
  for (const worker::Assign& assign : ranks) {
    SATURN_TRY_VOID(shorten_log(assign.log_path));
    live->logs.push_back(assign.log_path);
    SATURN_TRY_VOID(write_log_heading(assign.log_path, "attempt " + std::to_string(live->number) + ", " +
                                                           text + ", from step " +
                                                           std::to_string(live->step)));
  }

  Event started{.kind = EventKind::attempt_started, .job = job.name, .attempt = live->number};
  Json& details = started.details;
  details["technique"] = assignment.technique;
  details["num_devices"] = assignment.devices.size();
  details["num_ranks"] = assignment.num_ranks;
  details["device_class"] = ranks.front().devices.front().device_class;
  details["node"] = assignment.node;
  details["devices"] = devices_json(assignment.devices);
  details["knobs"] = assignment.knobs;
  details["trial"] = assignment.trial;
  details["from_step"] = live->step;
  details["to_step"] = assignment.to_step;
  details["resume_from"] = record.checkpoint ? record.checkpoint->path : "";
  double predicted_s = assignment.duration_s;
  if (trial != nullptr) {
    // By what the run has found meanwhile; the step time is the profile's own, which corrections refer to.
    const profile::Trial* const estimate = estimates_.find_id(assignment.trial);
    const profile::JobTime time = profile::job_time(job, execution_.batch.run, estimate ? *estimate : *trial,
                                                    live->step, assignment.to_step);
    predicted_s = time.start_s + time.work_s;
    details["predicted_s"] = predicted_s;
    details["predicted_step_s"] = trial->step_time_s;
    details["predicted_start_s"] = time.start_s;
  } else {
    details["predicted_s"] = predicted_s;
  }
  Json& processes = details["ranks"] = Json::array();

  live->num_living = static_cast<int>(ranks.size());
  live->signs.resize(ranks.size());
  live->last_sign_s = around_.clock->now_s();
  live->last_progress_s = live->last_sign_s;
  const Result<std::vector<worker::RankProcess>> launched =
      around_.launcher->launch({.attempt = live->attempt, .ranks = std::move(ranks)});
  if (launched.ok()) {
    for (const worker::RankProcess& rank : *launched)
      processes.push_back({{"pid", rank.pid}, {"start_ticks", rank.start_ticks}});
  } else {
    // A system that refuses a process now may give one later: a failure like any other.
    live->num_living = 0;
    live->death = launched.faults().front().what;
  }
  live_.push_back(std::move(live));
  return append(std::move(started));
}

}  // namespace saturn::run

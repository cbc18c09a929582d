// Answers to requests, and batches that join a run.

#include "run/answers.h"

#include <algorithm>
#include <charconv>
#include <filesystem>

#include "run/accept.h"
#include "run/append.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/batch/identity.h"
#include "saturn/batch/read_batch.h"
#include "saturn/profile/job_time.h"
#include "saturn/profile/profile.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobEvent;
using journal::JobRecord;
using journal::JobState;
using Verb = journal::Request::Verb;

// The batch in force, read from its copy as if from where it lay.
Result<batch::Batch> batch_in_force(const journal::RunState& state, const journal::RunPaths& paths) {
  SATURN_TRY(std::string text, read_whole(join_path(paths.root(), state.batch_file)));
  SATURN_TRY(const batch::Batch batch, batch::read_batch_text(state.batch_path, std::move(text)));
  return with_additions(batch, state, paths);
}

Result<Answer> add_at_rest(const std::string& path, journal::RunDirectory& directory,
                           journal::RunObserver& observer) {
  if (directory.state().batch_file.empty()) return refused("the run has no batch yet: saturn run BATCH");
  const Result<batch::Batch> addition = batch::read_batch(path);
  if (!addition.ok()) return refused(brief(addition.faults()));
  const Result<batch::Batch> current = batch_in_force(directory.state(), directory.paths());
  if (!current.ok()) return refused(brief(current.faults()));
  const Result<batch::Batch> joined = join(*current, *addition, SameName::is_a_fault);
  if (!joined.ok()) return refused(brief(joined.faults()));
  SATURN_TRY(const int num_new, accept_addition(*addition, *joined, directory, observer));
  Answer answer = joined_answer(num_new);
  if (num_new > 0) answer.text += "; `saturn run " + directory.state().batch_path + "` trains them";
  return answer;
}

Result<Answer> drain_at_rest(const journal::Request& request, journal::RunDirectory& directory,
                             journal::RunObserver& observer) {
  const Result<profile::Profile> profile = profile::read_profile(directory.paths().profile());
  if (!profile.ok()) return refused("the run has no profile yet that would name its devices");
  const std::optional<plan::Device> device = device_named(request.target, profile->machine);
  if (!device)
    return refused("there is no device " + in_quotes(request.target) + "; `saturn devices` shows them");
  const bool drained = request.verb == Verb::drain;
  SATURN_TRY_VOID(change_device(*device, drained, "asked for", directory, observer));
  return Answer{.accepted = true,
                .text = text_of(*device) + (drained ? " takes no new attempts" : " may be used again")};
}

}  // namespace

std::string brief(const Diagnostics& faults) {
  const Diagnostic& first = faults.front();
  return (first.where.empty() ? "" : first.where + ": ") + first.what +
         (faults.size() > 1 ? " (and " + std::to_string(faults.size() - 1) + " more faults)" : "");
}

std::string text_of(const plan::Device& device) {
  return device.node + ":" + std::to_string(device.index);
}

std::optional<plan::Device> device_named(const std::string& text, const devices::Machine& machine) {
  for (const devices::Node& node : machine.nodes) {
    for (const devices::Device& device : node.devices) {
      const plan::Device named{.node = node.name, .index = device.index};
      if (text == text_of(named)) return named;
      if (machine.nodes.size() == 1 && text == std::to_string(device.index)) return named;
    }
  }
  return std::nullopt;
}

// ---- Answers

Answer refused(std::string why) {
  return {.accepted = false, .text = std::move(why)};
}

Answer joined_answer(int num_new) {
  if (num_new == 0) return {.accepted = true, .text = "its jobs are in the run already"};
  return {.accepted = true,
          .text = std::to_string(num_new) + (num_new == 1 ? " job has" : " jobs have") + " joined the run"};
}

std::string held_by_search(const std::string& job) {
  return "job " + in_quotes(job) +
         " waits at a rung of [search], which lets it go on once it is among the best";
}

Answer no_such_job(const journal::RunState& state, const std::string& job) {
  std::vector<std::string> names;
  for (const JobRecord& record : state.jobs) names.push_back(record.name);
  const std::string hint = did_you_mean(job, names);
  return refused("job " + in_quotes(job) + " is not in this run" + (hint.empty() ? "" : "; " + hint));
}

Result<Answer> change_job(const JobRecord& record, JobEvent happened, journal::RunDirectory& directory,
                          journal::RunObserver& observer) {
  const std::optional<JobState> next = journal::next_state(record.state, happened);
  const std::string name = in_quotes(record.name);
  const bool asks_nothing = (happened == JobEvent::pause && record.state == JobState::paused) ||
                            (happened == JobEvent::cancel && record.state == JobState::cancelled);
  if (happened == JobEvent::resume && record.held_by_search) return refused(held_by_search(record.name));
  if (asks_nothing) return Answer{.accepted = true, .text = "job " + name + " is " + to_string(record.state)};
  if (!next || (happened == JobEvent::resume && record.state != JobState::paused))
    return refused("job " + name + " is " + to_string(record.state) +
                   (happened == JobEvent::resume ? ", not paused" : ""));
  Event changed{.kind = EventKind::job_changed, .job = record.name};
  changed.details = {{"happened", to_string(happened)},
                     {"reason", happened == JobEvent::resume ? "resumed" : "asked for"}};
  SATURN_TRY_VOID(append(std::move(changed), directory, observer));
  return Answer{.accepted = true, .text = "job " + name + " is " + to_string(*next) + " now"};
}

Result<void> change_device(const plan::Device& device, bool drained, const std::string& reason,
                           journal::RunDirectory& directory, journal::RunObserver& observer) {
  Event changed{.kind = EventKind::device_changed};
  changed.details = {{"node", device.node},
                     {"device", device.index},
                     {"happened", drained ? "drained" : "returned"},
                     {"reason", reason}};
  return append(std::move(changed), directory, observer);
}

Result<void> record_answer(const journal::Request& request, const Answer& answer,
                           journal::RunDirectory& directory, journal::RunObserver& observer) {
  Event requested{.kind = EventKind::requested};
  Json& details = requested.details;
  details["id"] = request.id;
  details["verb"] = to_string(request.verb);
  if (!request.target.empty()) details["target"] = request.target;
  details["accepted"] = answer.accepted;
  details["answer"] = answer.text;
  return append(std::move(requested), directory, observer);
}

Result<Answer> answer_at_rest(const journal::Request& request, journal::RunDirectory& directory,
                              journal::RunObserver& observer) {
  SATURN_TRY_VOID(recover(directory, observer));
  const auto carry_out = [&]() -> Result<Answer> {
    switch (request.verb) {
      case Verb::stop:
        return Answer{.accepted = true, .text = "nothing runs here"};
      case Verb::add:
        return add_at_rest(request.target, directory, observer);
      case Verb::drain:
      case Verb::undrain:
        return drain_at_rest(request, directory, observer);
      case Verb::pause:
      case Verb::resume:
      case Verb::cancel:
        break;
    }
    const JobRecord* const record = directory.state().find(request.target);
    if (record == nullptr) return no_such_job(directory.state(), request.target);
    const JobEvent happened = request.verb == Verb::pause    ? JobEvent::pause
                              : request.verb == Verb::resume ? JobEvent::resume
                                                             : JobEvent::cancel;
    SATURN_TRY(Answer changed, change_job(*record, happened, directory, observer));
    if (changed.accepted && happened == JobEvent::resume)
      changed.text += "; `saturn run " + directory.state().batch_path + "` goes on";
    return changed;
  };
  SATURN_TRY(const Answer answer, carry_out());
  SATURN_TRY_VOID(record_answer(request, answer, directory, observer));
  return answer;
}

// ---- Batches that join

Result<batch::Batch> join(const batch::Batch& batch, const batch::Batch& addition, SameName same_name) {
  batch::Batch joined = batch;
  Diagnostics faults;
  for (const batch::Job& job : addition.jobs) {
    const auto same = std::find_if(batch.jobs.begin(), batch.jobs.end(),
                                   [&](const batch::Job& other) { return other.name == job.name; });
    const batch::DataSource& data = addition.data.at(job.data);
    if (same != batch.jobs.end()) {
      if (same_name == SameName::batch_counts) continue;
      SATURN_TRY(const std::string here, batch::result_digest(*same, batch.data.at(same->data)));
      SATURN_TRY(const std::string there, batch::result_digest(job, data));
      if (here == there) continue;
      faults.push_back({.where = job.position_of("name").text(),
                        .what = "job " + in_quotes(job.name) + " is in the run already, and is another",
                        .expected = "a name that no job of the run has, or the same job",
                        .fix = "rename it"});
      continue;
    }
    const auto [at, is_new] = joined.data.emplace(job.data, data);
    if (!is_new && batch::to_json(at->second) != batch::to_json(data)) {
      faults.push_back({.where = addition.path,
                        .what = "[data." + job.data + "] is in the run already, and is another",
                        .expected = "a name that no data of the run has, or the same data",
                        .fix = "rename it"});
      continue;
    }
    joined.jobs.push_back(job);
  }
  for (const batch::TechniqueLibrary& library : addition.libraries) {
    const auto same =
        std::find_if(joined.libraries.begin(), joined.libraries.end(),
                     [&](const batch::TechniqueLibrary& other) { return other.name == library.name; });
    if (same == joined.libraries.end()) {
      joined.libraries.push_back(library);
    } else if (!(*same == library)) {
      faults.push_back({.where = library.position.text(),
                        .what = "[techniques." + library.name + "] is in the run already, and is another",
                        .expected = "a name that no technique of the run has, or the same library",
                        .fix = "rename it"});
    }
  }
  if (!faults.empty()) return faults;
  return joined;
}

Result<batch::Batch> with_additions(const batch::Batch& batch, const journal::RunState& state,
                                    const journal::RunPaths& paths) {
  batch::Batch joined = batch;
  if (batch.search.method == "ask") {
    std::vector<batch::Proposal> proposals;
    for (const journal::Proposal& proposal : state.proposals)
      proposals.push_back({.number = proposal.number, .parameters = proposal.parameters});
    SATURN_TRY(joined, batch::read_batch_text(batch.path, batch.text, {}, proposals));
  }
  for (const journal::Addition& added : state.additions) {
    SATURN_TRY(std::string text, read_whole(join_path(paths.root(), added.file)));
    SATURN_TRY(const batch::Batch addition, batch::read_batch_text(added.path, std::move(text)));
    SATURN_TRY(joined, join(joined, addition, SameName::batch_counts));
  }
  return joined;
}

Result<int> accept_addition(const batch::Batch& addition, const batch::Batch& joined,
                            journal::RunDirectory& directory, journal::RunObserver& observer) {
  SATURN_TRY(const auto num_steps, profile::num_steps_of(joined));
  Json jobs = Json::array();
  std::vector<std::string> names;
  for (const batch::Job& job : joined.jobs) {
    if (directory.state().find(job.name) != nullptr) continue;
    SATURN_TRY(const std::string digest, batch::result_digest(job, joined.data.at(job.data)));
    jobs.push_back({{"name", job.name}, {"result_digest", digest}, {"num_steps", num_steps.at(job.name)}});
    names.push_back(job.name);
  }
  if (names.empty()) return 0;
  for (const std::string& name : names) SATURN_TRY_VOID(directory.set_aside_job(name));
  const std::string path = directory.paths().batch(directory.paths().last_batch() + 1);
  SATURN_TRY_VOID(write_whole(path, addition.text));
  Event added{.kind = EventKind::batch_added};
  added.details = {{"file", file_name_of(path)},
                   {"path", std::filesystem::absolute(addition.path).lexically_normal().string()},
                   {"digest", addition.digest},
                   {"jobs", std::move(jobs)}};
  SATURN_TRY_VOID(append(std::move(added), directory, observer));
  return static_cast<int>(names.size());
}

}  // namespace saturn::run

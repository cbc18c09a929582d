// Accepting a batch and recovering from a dead controller.

#include "run/accept.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "run/append.h"
#include "saturn/base/files.h"
#include "saturn/batch/identity.h"
#include "saturn/checkpoint/shelf.h"
#include "saturn/run/decide.h"
#include "saturn/worker/survivors.h"

namespace saturn::run {
namespace {

using journal::Event;
using journal::EventKind;
using journal::JobRecord;

constexpr const char* kJobFormat = "saturn.job/1";
constexpr std::size_t kMostChanges = 3;

Json description_of(const batch::Job& job, const batch::DataSource& data, const std::string& result_digest) {
  Json document = artefact_header(kJobFormat, {});
  document["result_digest"] = result_digest;
  document["job"] = batch::to_json(job);
  document["data"] = batch::to_json(data);
  return document;
}

// What does not change a result does not explain why it must be made again.
bool explains(const std::string& pointer) {
  static constexpr std::array kNot = {"/job/name",  "/job/techniques", "/job/devices",          "/job/data",
                                      "/data/name", "/data/files",     "/data/validation_files"};
  return std::none_of(kNot.begin(), kNot.end(),
                      [&](const char* prefix) { return pointer.starts_with(prefix); });
}

std::string spoken(std::string pointer) {
  pointer.erase(0, pointer.find('/', 1) + 1);
  std::replace(pointer.begin(), pointer.end(), '/', '.');
  return pointer;
}

// "optimizer.lr 0.001 -> 0.0003", from what was kept of the job when it last began.
std::string what_changed(const std::string& kept_path, const Json& now) {
  std::error_code ignored;
  if (!std::filesystem::exists(kept_path, ignored)) return "its definition changed";
  const Result<Json> then = read_artefact(kept_path, kJobFormat);
  if (!then.ok()) return "its definition changed";
  std::string changes;
  std::size_t num_changes = 0;
  const Json before = Json{{"job", (*then)["job"]}, {"data", (*then)["data"]}}.flatten();
  const Json after = Json{{"job", now["job"]}, {"data", now["data"]}}.flatten();
  const auto add = [&](const std::string& pointer, const std::string& was, const std::string& is) {
    if (!explains(pointer) || ++num_changes > kMostChanges) return;
    changes += (changes.empty() ? "" : ", ") + spoken(pointer) + " " + was + " -> " + is;
  };
  for (const auto& [pointer, value] : after.items()) {
    const auto old = before.find(pointer);
    if (old == before.end() || *old != value)
      add(pointer, old == before.end() ? "none" : old->dump(), value.dump());
  }
  for (const auto& [pointer, value] : before.items()) {
    if (!after.contains(pointer)) add(pointer, value.dump(), "none");
  }
  if (num_changes > kMostChanges) changes += " and " + std::to_string(num_changes - kMostChanges) + " more";
  return changes.empty() ? "the content of its data or of its initial weights changed" : changes;
}

// A checkpoint that the ranks had published when their controller ended before it journaled that. It must be
// gone on from: those that the journal knows may have been pruned for it.
std::optional<std::int64_t> untold_checkpoint(const JobRecord& record, const std::string& shelf) {
  const std::optional<std::int64_t> step = checkpoint::latest_in(shelf);
  if (!step || *step <= std::max(resume_step(record), record.attempts.back().from_step)) return std::nullopt;
  const bool whole = checkpoint::read_manifest(join_path(shelf, checkpoint::name_of_step(*step))).ok();
  return whole ? step : std::nullopt;
}

Result<std::string> write_batch_copy(const batch::Batch& batch, const journal::RunPaths& paths) {
  const std::string path = paths.batch(paths.last_batch() + 1);
  SATURN_TRY_VOID(write_whole(path, batch.text));
  return file_name_of(path);
}

}  // namespace

Result<void> write_job_description(const batch::Job& job, const batch::DataSource& data,
                                   const std::string& result_digest, const std::string& path) {
  return write_artefact(path, description_of(job, data, result_digest));
}

Result<void> recover(journal::RunDirectory& directory, journal::RunObserver& observer) {
  if (directory.repaired()) observer.on_note("the last line of events.jsonl was torn and has been cut off");
  std::vector<std::string> running;
  for (const JobRecord& record : directory.state().jobs) {
    if (journal::is_running(record.state)) running.push_back(record.name);
  }
  for (const std::string& name : running) {
    const JobRecord& record = *directory.state().find(name);
    const journal::Attempt& attempt = record.attempts.back();
    std::vector<worker::RankProcess> ranks;
    for (const journal::RankProcess& rank : attempt.ranks)
      ranks.push_back({.pid = rank.pid, .start_ticks = rank.start_ticks});
    const int ended = worker::end_survivors(ranks);
    if (ended > 0)
      observer.on_note("ended " + std::to_string(ended) + " processes that outlived the last controller");
    std::int64_t last_step = attempt.last_step;
    const std::string shelf = join_path(directory.paths().job(name), checkpoint::kShelf);
    if (const std::optional<std::int64_t> step = untold_checkpoint(record, shelf)) {
      last_step = std::max(last_step, *step);
      Event saved{.kind = EventKind::checkpoint, .job = name, .attempt = attempt.number};
      saved.details = {{"step", *step},
                       {"path", join_path(checkpoint::kShelf, checkpoint::name_of_step(*step))},
                       {"save_s", record.checkpoint ? record.checkpoint->save_s : 0.0}};
      SATURN_TRY_VOID(append(std::move(saved), directory, observer));
    }
    Event lost{.kind = EventKind::attempt_ended, .job = name, .attempt = attempt.number};
    // What was asked for the job before its controller died still holds.
    lost.details = {{"next", journal::to_string(attempt.next)},
                    {"class", ""},
                    {"message", "its controller ended before it"},
                    {"step", last_step}};
    SATURN_TRY_VOID(append(std::move(lost), directory, observer));
  }
  return {};
}

Result<void> accept_batch(const batch::Batch& batch, const std::map<std::string, std::int64_t>& num_steps,
                          journal::RunDirectory& directory, journal::RunObserver& observer) {
  const journal::RunPaths& paths = directory.paths();
  const std::string batch_path = std::filesystem::absolute(batch.path).lexically_normal().string();
  const journal::RunState& state = directory.state();
  bool differs = state.batch_digest != batch.digest || state.batch_path != batch_path ||
                 state.jobs.size() != batch.jobs.size();

  Json jobs = Json::array();
  std::vector<std::string> set_aside;
  for (const batch::Job& job : batch.jobs) {
    const batch::DataSource& data = batch.data.at(job.data);
    SATURN_TRY(const std::string digest, batch::result_digest(job, data));
    Json entry = {{"name", job.name}, {"result_digest", digest}, {"num_steps", num_steps.at(job.name)}};
    const JobRecord* const record = state.find(job.name);
    if (record == nullptr) {
      differs = true;
      set_aside.push_back(job.name);  // left by a batch that no longer counts
    } else if (record->result_digest != digest) {
      differs = true;
      const std::string why =
          what_changed(paths.job(job.name) + "/job.json", description_of(job, data, digest));
      entry["reset"] = why;
      if (!record->attempts.empty() || journal::is_final(record->state)) {
        observer.on_note("job " + in_quotes(job.name) + " begins again: " + why);
      }
      set_aside.push_back(job.name);
    }
    jobs.push_back(std::move(entry));
  }
  if (!differs) return {};

  for (const std::string& name : set_aside) SATURN_TRY_VOID(directory.set_aside_job(name));
  SATURN_TRY(const std::string file, write_batch_copy(batch, paths));
  Event accepted{.kind = EventKind::batch_accepted};
  accepted.details = {{"file", file},
                      {"path", batch_path},
                      {"digest", batch.digest},
                      {"name", batch.name},
                      {"jobs", std::move(jobs)}};
  return append(std::move(accepted), directory, observer);
}

}  // namespace saturn::run

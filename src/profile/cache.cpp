// Files of the cache.

#include "saturn/profile/cache.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "profile/trial_json.h"
#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/statistics.h"

namespace saturn::profile {
namespace {

constexpr const char* kTrialFormat = "saturn.trial/1";
constexpr const char* kFoundFormat = "saturn.found/1";
constexpr const char* kConditionsFormat = "saturn.conditions/1";
constexpr const char* kConditionsFile = "conditions.json";
constexpr const char* kFoundSuffix = ".found.json";
constexpr std::size_t kMostRuns = 16;
constexpr std::uint64_t kMostBytes = 1 << 20;  // of a file: larger is not ours

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

// Ids are readable and fit for a file's name but for what a library's author thinks of.
std::string file_of(const std::string& id) {
  const bool plain =
      id.size() <= 200 && !id.starts_with('.') && std::all_of(id.begin(), id.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
               c == '_' || c == '-';
      });
  return plain ? id : "id-" + digest_of(id);
}

// An artefact whose `content` is what it was when it was written.
Result<void> write_sealed(const std::string& path, const char* format, Json content) {
  Json document = artefact_header(format, {});
  document["digest"] = digest_of(to_line(content));
  document["content"] = std::move(content);
  return write_artefact(path, document);
}

Result<Json> read_sealed(const std::string& path, const char* format) {
  std::error_code ignored;
  if (std::filesystem::file_size(path, ignored) > kMostBytes)
    return Diagnostic{.where = path, .what = "the file is too large to be of the cache"};
  SATURN_TRY(Json document, read_artefact(path, format));
  const bool whole = document.contains("content") && document.contains("digest") &&
                     document["digest"] == digest_of(to_line(document["content"]));
  if (!whole) {
    return Diagnostic{.where = path,
                      .what = "the content is not what was written",
                      .expected = "the digest that the file names",
                      .fix = "rm " + path};
  }
  return std::move(document["content"]);
}

// Of one run.
struct Found {
  std::string run;
  double unix_s = 0.0;
  double step_time_s = 0.0;  // 0 = none was timed
  double spread = 0.0;
  std::int64_t num_steps = 0;
  std::optional<double> start_s;
  std::optional<double> save_s;
};

Json to_json(const Found& found) {
  Json json = {{"run", found.run},
               {"unix_s", found.unix_s},
               {"step_time_s", found.step_time_s},
               {"spread", found.spread},
               {"num_steps", found.num_steps}};
  if (found.start_s) json["start_s"] = *found.start_s;
  if (found.save_s) json["save_s"] = *found.save_s;
  return json;
}

Found found_from_json(JsonReader reader) {
  Found found{.run = reader.string("run"), .unix_s = reader.number("unix_s")};
  found.step_time_s = reader.number("step_time_s");
  found.spread = reader.number("spread");
  found.num_steps = reader.integer("num_steps");
  if (reader.has("start_s")) found.start_s = reader.number("start_s");
  if (reader.has("save_s")) found.save_s = reader.number("save_s");
  reader.finish();
  return found;
}

Result<std::vector<Found>> read_found(const std::string& path) {
  std::vector<Found> all;
  if (!exists(path)) return all;
  SATURN_TRY(const Json content, read_sealed(path, kFoundFormat));
  Diagnostics faults;
  JsonReader reader(content, path, "/content", faults);
  const Json& runs = reader.array("runs");
  for (std::size_t i = 0; i < runs.size(); ++i) all.push_back(found_from_json(reader.child("runs", i)));
  reader.finish();
  if (!faults.empty()) return faults;
  return all;
}

std::optional<double> median_of(const std::vector<Found>& all, std::optional<double> Found::*value) {
  std::vector<double> values;
  for (const Found& found : all) {
    if (found.*value) values.push_back(*(found.*value));
  }
  if (values.empty()) return std::nullopt;
  return median(std::move(values));
}

}  // namespace

TrialCache::TrialCache(std::string directory, std::string training, const Clock& clock)
    : directory_(std::move(directory)), training_(std::move(training)), clock_(clock) {}

std::optional<std::string> TrialCache::usual_directory() {
  if (const char* own = std::getenv("SATURN_TRIAL_CACHE"); own != nullptr)
    return *own == '\0' ? std::nullopt : std::optional<std::string>(own);
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/')
    return std::string(cache) + "/saturn/trials";
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return std::string(home) + "/.cache/saturn/trials";
  return std::nullopt;
}

std::string TrialCache::folder_of(const Conditions& conditions) const {
  Json what = profile::to_json(conditions);
  what["training"] = training_;
  return join_path(directory_, digest_of(to_line(what)).substr(0, 16));
}

std::optional<Trial> TrialCache::find(const Conditions& conditions, const std::string& id,
                                      const Tell& tell) const {
  const std::string path = join_path(folder_of(conditions), file_of(id) + ".json");
  if (!exists(path)) return std::nullopt;
  const auto read = [&]() -> Result<Trial> {
    SATURN_TRY(const Json content, read_sealed(path, kTrialFormat));
    Diagnostics faults;
    Trial trial = trial_from_json(JsonReader(content, path, "/content", faults));
    if (!faults.empty()) return faults;
    if (trial.id != id || !trial.is_measured())
      return Diagnostic{.where = path, .what = "it holds another trial, " + in_quotes(trial.id)};
    return trial;
  };
  Result<Trial> trial = read();
  if (!trial.ok()) {
    tell("passed over in the cache: " + path + ": " + trial.faults().front().what);
    return std::nullopt;
  }
  trial->source = Source::shared;
  return *std::move(trial);
}

Result<void> TrialCache::keep(const Conditions& conditions, const devices::Machine& machine,
                              const Trial& trial) const {
  const std::string folder = folder_of(conditions);
  const std::string description = join_path(folder, kConditionsFile);
  SATURN_TRY_VOID(make_directories(folder));
  if (!exists(description)) {
    SATURN_TRY_VOID(write_sealed(description, kConditionsFormat,
                                 {{"conditions", profile::to_json(conditions)},
                                  {"training", training_},
                                  {"machine", devices::to_json(machine)}}));
  }
  Trial kept = trial;
  kept.jobs.clear();
  kept.source = Source::measured;
  return write_sealed(join_path(folder, file_of(trial.id) + ".json"), kTrialFormat, profile::to_json(kept));
}

Result<void> TrialCache::add_found(const Conditions& conditions, const std::string& run, const Trial& trial,
                                   const Correction& found) const {
  const std::string folder = folder_of(conditions);
  SATURN_TRY_VOID(make_directories(folder));
  // Read, changed and written by one at a time.
  const std::string lock_path = join_path(folder, "lock");
  const FileDescriptor lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!lock.valid() || ::flock(lock.get(), LOCK_EX) != 0) return system_fault(lock_path, "lock", errno);
  const std::string path = join_path(folder, file_of(trial.id) + kFoundSuffix);
  Result<std::vector<Found>> before = read_found(path);
  std::vector<Found> all = before.ok() ? *std::move(before) : std::vector<Found>();  // damaged: begun again
  std::erase_if(all, [&](const Found& one) { return one.run == run; });
  all.push_back({.run = run,
                 .unix_s = clock_.unix_s(),
                 .step_time_s = found.num_steps > 0 ? found.step_factor * trial.step_time_s : 0.0,
                 .spread = found.spread,
                 .num_steps = found.num_steps,
                 .start_s = found.start_s,
                 .save_s = found.save_s});
  if (all.size() > kMostRuns) all.erase(all.begin(), all.end() - static_cast<std::ptrdiff_t>(kMostRuns));
  Json content = {{"runs", Json::array()}};
  for (const Found& one : all) content["runs"].push_back(to_json(one));
  return write_sealed(path, kFoundFormat, std::move(content));
}

std::optional<Correction> TrialCache::correction_of(const Conditions& conditions, const Trial& trial) const {
  const Result<std::vector<Found>> all =
      read_found(join_path(folder_of(conditions), file_of(trial.id) + kFoundSuffix));
  if (!all.ok() || all->empty() || !(trial.step_time_s > 0.0)) return std::nullopt;
  std::vector<double> logs, spreads;
  Correction correction{.trial = trial.id};
  for (const Found& found : *all) {
    if (!(found.step_time_s > 0.0) || !(found.num_steps > 0)) continue;
    logs.push_back(std::log(found.step_time_s / trial.step_time_s));
    spreads.push_back(found.spread);
    correction.num_steps += found.num_steps;
  }
  if (!logs.empty()) {
    const auto n = static_cast<double>(logs.size());
    const double log_factor = median(logs) * n / (n + 1.0);
    correction.spread = median(spreads);
    const double error = correction.spread / std::sqrt(static_cast<double>(correction.num_steps));
    if (std::abs(log_factor) > error) {
      correction.step_factor = std::exp(log_factor);
    } else {
      correction.num_steps = 0;
    }
  }
  correction.start_s = median_of(*all, &Found::start_s);
  correction.save_s = median_of(*all, &Found::save_s);
  if (correction.num_steps == 0 && !correction.start_s && !correction.save_s) return std::nullopt;
  return correction;
}

std::vector<CachedConditions> TrialCache::list(const Tell& tell) const {
  namespace fs = std::filesystem;
  std::vector<CachedConditions> all;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(directory_, error)) {
    const std::string folder = entry.path().string();
    const std::string path = join_path(folder, kConditionsFile);
    if (!entry.is_directory(error) || !exists(path)) continue;
    const Result<Json> content = read_sealed(path, kConditionsFormat);
    Diagnostics faults;
    CachedConditions one{.folder = folder};
    if (content.ok()) {
      JsonReader reader(*content, path, "/content", faults);
      one.conditions = conditions_from_json(reader.child("conditions"));
      reader.string("training");
      const devices::Machine machine = devices::machine_from_json(reader.child("machine"));
      reader.finish();
      one.cpu_model = machine.cpu_model;
      one.num_devices = machine.num_devices();
      for (const devices::Node& node : machine.nodes) one.device_classes.push_back(node.device_class);
    } else {
      faults = content.faults();
    }
    if (!faults.empty()) {
      tell("passed over in the cache: " + path + ": " + faults.front().what);
      continue;
    }
    for (const fs::directory_entry& file : fs::directory_iterator(entry.path(), error)) {
      const std::string name = file.path().filename().string();
      if (!name.ends_with(".json") || name == kConditionsFile) continue;
      if (name.ends_with(kFoundSuffix)) {
        ++one.num_corrected;
        continue;
      }
      const Result<Json> trial = read_sealed(file.path().string(), kTrialFormat);
      if (!trial.ok() || !trial->contains("job_class") || !(*trial)["job_class"].is_string()) {
        tell("passed over in the cache: " + file.path().string());
        continue;
      }
      ++one.num_trials;
      one.job_classes.push_back((*trial)["job_class"].get<std::string>());
      const auto age = fs::file_time_type::clock::now() - file.last_write_time(error);
      one.newest_unix_s =
          std::max(one.newest_unix_s, clock_.unix_s() - std::chrono::duration<double>(age).count());
    }
    for (std::vector<std::string>* names : {&one.job_classes, &one.device_classes}) {
      std::sort(names->begin(), names->end());
      names->erase(std::unique(names->begin(), names->end()), names->end());
    }
    all.push_back(std::move(one));
  }
  std::sort(all.begin(), all.end(), [](const CachedConditions& a, const CachedConditions& b) {
    return a.newest_unix_s > b.newest_unix_s;
  });
  return all;
}

}  // namespace saturn::profile

// A batch file to a Batch, or to every one of its faults.

#include "saturn/batch/read_batch.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>

#include "batch/batch_schema.h"
#include "batch/check_job.h"
#include "batch/check_search.h"
#include "batch/expand.h"
#include "batch/file_facts.h"
#include "batch/read_data.h"
#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/batch/check_devices.h"
#include "saturn/batch/fine_tune.h"
#include "saturn/batch/technique_spec.h"

namespace saturn::batch {
namespace {

const TomlValue kNoTable;

// The passes share what was read so far.
class BatchReader {
 public:
  BatchReader(std::string path, const TomlValue& root, const text::CorpusProgress& progress,
              const std::vector<Proposal>& proposals, Faults& faults)
      : root_(root),
        base_directory_(directory_of(path)),
        progress_(progress),
        proposals_(proposals),
        faults_(faults) {
    batch_.path = std::move(path);
  }

  Batch read() {
    check_tables();
    read_settings();
    read_devices();
    data_ = read_data(table_at("data"), base_directory_, progress_, faults_);
    read_libraries();
    read_jobs();
    check_names();
    for (auto& [name, data] : data_) batch_.data[name] = std::move(data.source);
    if (faults_.empty()) check_stated_devices();
    return std::move(batch_);
  }

 private:
  // Unknown and missing tables, and tables of the wrong form.
  void check_tables() {
    const TableSchema& schema = batch_schema();
    std::vector<std::string> names;
    for (const TableSchema& table : schema.tables) names.push_back(table.name);
    for (const TomlMember& member : root_.members) {
      const TableSchema* table = schema.find_table(member.key);
      if (table == nullptr) {
        const std::string near = did_you_mean(member.key, names);
        faults_.add(member.key_place, in_quotes(member.key) + " is not known here",
                    "some of the tables " + listed(names),
                    near.empty() ? "remove it; `saturn schema` describes each table" : near);
        continue;
      }
      const bool many = table->form == TableSchema::Form::many;
      const bool tables =
          std::all_of(member.value.elements.begin(), member.value.elements.end(),
                      [](const TomlValue& one) { return one.type == TomlValue::Type::table; });
      const bool right =
          member.value.type == (many ? TomlValue::Type::array : TomlValue::Type::table) && tables;
      if (right) {
        good_tables_[member.key] = &member.value;
        continue;
      }
      const std::string header = many ? "[[" + member.key + "]]" : "[" + member.key + "]";
      faults_.add(member.key_place, member.key + " is " + name_of(member.value.type),
                  (many ? "tables under " : "a table under ") + header,
                  "write " + header + " above its keys");
    }
    for (const TableSchema& table : schema.tables) {
      const TomlMember* member = root_.find(table.name);
      const bool empty = member != nullptr && good_tables_.contains(table.name) &&
                         member->value.members.empty() && member->value.elements.empty() &&
                         table.form != TableSchema::Form::one;
      if (!table.required || (member != nullptr && !empty)) continue;
      const std::string header = table.form == TableSchema::Form::many    ? "[[" + table.name + "]]"
                                 : table.form == TableSchema::Form::named ? "[" + table.name + ".NAME]"
                                                                          : "[" + table.name + "]";
      faults_.add(Place{1, 1}, "the batch has no " + header,
                  table.form == TableSchema::Form::one ? "a " + header + " table"
                                                       : "at least one " + header + " table",
                  "`saturn init` writes a batch to start from");
    }
  }

  const TomlValue& table_at(const std::string& name) const {
    const auto it = good_tables_.find(name);
    return it == good_tables_.end() ? kNoTable : *it->second;
  }

  template <class Target>
  void read_table(const std::string& name, Target& target) {
    const auto it = good_tables_.find(name);
    if (it == good_tables_.end()) return;
    batch_.positions[name] = faults_.at(it->second->place);
    read_keys(
        schema_of(name), *it->second,
        {.target = &target, .positions = &batch_.positions, .prefix = name + ".", .whose = "[" + name + "] "},
        faults_);
  }

  void read_settings() {
    read_table("batch", batch_);
    if (!batch_.name.empty()) {
      if (const std::string problem = name_problem(batch_.name); !problem.empty()) {
        faults_.add(batch_.positions["batch.name"],
                    "[batch] name = " + in_quotes(batch_.name) + " cannot name a folder", problem,
                    "name = \"sweep\"");
      }
    }
    read_table("profile", batch_.profile);
    read_table("plan", batch_.plan);
    read_table("run", batch_.run);
    read_table("search", batch_.search);
    settle_search(batch_.search, batch_.positions, faults_);
  }

  void read_devices() {
    devices::DevicesRequest& request = batch_.devices;
    read_table("devices", request);
    const auto positioned = [&](const char* key) { return batch_.positions[std::string("devices.") + key]; };
    request.position = batch_.positions["devices"];
    request.cpu_slots_position = positioned("cpu_slots");
    request.threads_per_slot_position = positioned("threads_per_slot");
    request.memory_per_slot_position = positioned("memory_per_slot");
    request.gpu_share_position = positioned("gpu_share");
    if (const TomlMember* nodes = table_at("devices").find("node")) read_nodes(nodes->value, request);
    if (!request.nodes.empty() && request.cpu_slots) {
      faults_.add(request.cpu_slots_position, "[devices] cpu_slots stands beside [[devices.node]]",
                  "detected slots, or described nodes", "remove cpu_slots, or the nodes");
    }
  }

  void read_nodes(const TomlValue& nodes, devices::DevicesRequest& request) {
    if (nodes.type != TomlValue::Type::array) {
      faults_.add(nodes.place, std::string("devices.node is ") + name_of(nodes.type),
                  "tables under [[devices.node]]", "write [[devices.node]] above its keys");
      return;
    }
    std::map<std::string, int> lines;
    for (const TomlValue& table : nodes.elements) {
      devices::NodeRequest node;
      node.position = faults_.at(table.place);
      if (table.type != TomlValue::Type::table) {
        faults_.add(table.place, std::string("devices.node holds ") + name_of(table.type),
                    "tables under [[devices.node]]", "write [[devices.node]] above its keys");
        continue;
      }
      read_keys(schema_of("devices.node"), table,
                {.target = &node, .positions = nullptr, .prefix = "", .whose = "[[devices.node]] "}, faults_);
      const std::string problem = node.name.empty() ? "" : name_problem(node.name);
      if (!problem.empty()) {
        faults_.add(table.place, "node " + in_quotes(node.name) + " cannot be named so", problem,
                    "name = \"node-0\"");
      }
      const auto [it, is_new] = lines.emplace(node.name, table.place.line);
      if (!is_new && !node.name.empty()) {
        faults_.add(table.place, "node " + in_quotes(node.name) + " is described twice",
                    "a name that line " + std::to_string(it->second) + " does not have",
                    "rename one of them");
      }
      request.nodes.push_back(std::move(node));
    }
  }

  void read_libraries() {
    for (const TomlMember& member : table_at("techniques").members) {
      const std::string header = "[techniques." + member.key + "]";
      const std::string whose = header + " ";
      if (member.value.type != TomlValue::Type::table) {
        faults_.add(member.key_place, whose + "is " + name_of(member.value.type), "a table with a library",
                    "write " + header + " above its key");
        continue;
      }
      LibraryDraft draft;
      Positions positions;
      const std::size_t before = faults_.count();
      read_keys(schema_of("techniques"), member.value,
                {.target = &draft, .positions = &positions, .prefix = "", .whose = whose}, faults_);
      if (names_of_build().contains(member.key)) {
        faults_.add(member.key_place, whose + "has the name of a technique of this build",
                    "a name of its own", "rename it, in the library too");
      } else if (const std::string problem = name_problem(member.key); !problem.empty()) {
        faults_.add(member.key_place, whose + "cannot be named so", problem, "[techniques.row-by-row]");
      }
      if (faults_.count() != before) continue;
      std::error_code error;
      const std::string path = std::filesystem::absolute(join_path(base_directory_, draft.library), error)
                                   .lexically_normal()
                                   .string();
      Result<std::string> digest = remembered_digest(path);
      if (!digest.ok()) {
        const Diagnostic& why = digest.faults().front();
        faults_.add(positions["library"], whose + path + ": " + why.what, "a shared object that can be read",
                    "give its path relative to this file");
        continue;
      }
      batch_.libraries.push_back(
          {.name = member.key, .path = path, .digest = *digest, .position = positions["library"]});
    }
  }

  static std::set<std::string> names_of_build() {
    std::set<std::string> names;
    for (const TechniqueSpec& spec : technique_specs()) names.insert(spec.name);
    return names;
  }

  void read_jobs() {
    if (batch_.search.method == "ask") return read_proposed_jobs();
    for (const TomlValue& table : table_at("job").elements) {
      for (JobPoint& point :
           expand_job(table, batch_.seed, kMostJobs - std::min(kMostJobs, batch_.jobs.size()), faults_)) {
        read_point(point);
      }
    }
  }

  // Without proposals there are no jobs yet; what they will have in common is checked all the same.
  void read_proposed_jobs() {
    const std::vector<TomlValue>& tables = table_at("job").elements;
    for (std::size_t i = 1; i < tables.size(); ++i) {
      faults_.add(tables[i].place, "[search] method = \"ask\" stands beside more than one [[job]]",
                  "one, which every proposal fills in", "remove this one");
    }
    if (tables.empty()) return;
    for (const JobPoint& point : expand_proposals(tables.front(), proposals_, faults_)) read_point(point);
    if (proposals_.empty()) batch_.jobs.clear();
  }

  void read_point(const JobPoint& point) {
    const TomlMember* written_name = point.table.find("name");
    JobDraft draft;
    Job& job = draft.job;
    const std::string shown_name = !point.name.empty()       ? point.name
                                   : written_name != nullptr ? written_name->value.spelled
                                                             : "";
    const std::string whose = shown_name.empty() ? "[[job]] " : "job " + in_quotes(shown_name) + ": ";
    job.positions[""] = faults_.at(point.table.place);
    read_keys(schema_of("job"), point.table,
              {.target = &draft,
               .positions = &job.positions,
               .prefix = "",
               .whose = whose,
               .complete = point.complete},
              faults_);
    read_part(point, "optimizer", job.optimizer, job, whose);
    read_part(point, "schedule", job.schedule, job, whose);
    if (point.table.find("lora") != nullptr) read_part(point, "lora", job.lora.emplace(), job, whose);
    constexpr double kLionsSecondBeta = 0.99;  // as published
    if (job.optimizer.kind == "lion" && !job.positions.contains("optimizer.betas"))
      job.optimizer.beta2 = kLionsSecondBeta;

    if (!job.name.empty() && !point.name.empty()) check_name(point.name, written_name->value.place);
    job.name = shown_name;
    settle_amount(draft, whose, point.complete);
    job.seed = draft.seed.value_or(batch_.seed);
    const bool model_known = settle_model(draft);
    const ReadData* data = find_data(job, whose);
    if (model_known && data != nullptr && data->usable) {
      job.model = with_data(std::move(job.model), data->source, job.new_head);
    }
    if (job.lora) settle_lora(job, model_known, whose);
    check_choices(job, batch_.libraries, faults_);
    for (const TechniqueLibrary& library : batch_.libraries) {
      if (job.techniques.empty() ||
          std::find(job.techniques.begin(), job.techniques.end(), library.name) != job.techniques.end())
        job.libraries.push_back(library);
    }
    // What was faulty is still 0; the checks across keys need them all.
    const bool known = job.batch_size > 0 && job.micro_batches > 0 && job.amount.value > 0;
    if (known) check_job(job, data, model_known, faults_);
    if (known) check_searched(job, data, batch_.search, batch_.positions, faults_);
    batch_.jobs.push_back(std::move(job));
  }

  template <class Part>
  void read_part(const JobPoint& point, const std::string& name, Part& part, Job& job,
                 const std::string& whose) {
    const TomlMember* member = point.table.find(name);
    TomlValue absent;
    absent.place = point.table.place;
    if (member != nullptr && member->value.type != TomlValue::Type::table) {
      faults_.add(member->value.place, whose + name + " is " + name_of(member->value.type),
                  "a table, [job." + name + "]", "write [job." + name + "] above its keys");
      return;
    }
    job.positions[name] = faults_.at(member == nullptr ? absent.place : member->value.place);
    read_keys(schema_of("job." + name), member == nullptr ? absent : member->value,
              {.target = &part,
               .positions = &job.positions,
               .prefix = name + ".",
               .whose = whose,
               .complete = point.complete},
              faults_);
  }

  void check_name(const std::string& name, Place at) {
    if (const std::string problem = name_problem(name); !problem.empty()) {
      faults_.add(at, "job name " + in_quotes(name) + " cannot name a folder", problem,
                  "name = \"gpt2-{lr}-b{batch_size}\"");
    }
  }

  void settle_amount(JobDraft& draft, const std::string& whose, bool complete) {
    Job& job = draft.job;
    std::vector<std::string> written;
    const auto take = [&](Amount::Unit unit, double value) {
      job.amount = {.unit = unit, .value = value};
      written.emplace_back(name_of(unit));
    };
    if (draft.tokens) take(Amount::Unit::tokens, static_cast<double>(*draft.tokens));
    if (draft.steps) take(Amount::Unit::steps, static_cast<double>(*draft.steps));
    if (draft.epochs) take(Amount::Unit::epochs, *draft.epochs);
    for (std::size_t i = 1; i < written.size(); ++i) {
      faults_.add(job.position_of(written[i - 1]),
                  whose + written[i - 1] + " stands beside " + written.back() + " (line " +
                      std::to_string(job.position_of(written.back()).line) + ")",
                  "exactly one of epochs, steps, tokens", "remove one of them");
    }
    const bool mistyped = job.positions.contains("epochs") || job.positions.contains("steps") ||
                          job.positions.contains("tokens");
    if (written.empty() && !mistyped && complete) {
      faults_.add(job.position_of(""), whose + "nothing says how long it trains",
                  "exactly one of epochs, steps, tokens", "add a line such as epochs = 1");
    }
  }

  // A model is read once for each place that names it; its faults are told once.
  bool settle_model(JobDraft& draft) {
    if (draft.model.empty()) return false;
    auto it = models_.find(draft.model);
    if (it == models_.end()) {
      auto found = find_model(draft.model, base_directory_, draft.job.position_of("model"));
      if (!found.ok()) faults_.add(std::move(found).faults());
      it = models_.emplace(draft.model, found.ok() ? std::optional(*std::move(found)) : std::nullopt).first;
    }
    if (!it->second) return false;
    draft.job.model = *it->second;
    return true;
  }

  // Where it starts, and the usual targets of the model's family.
  void settle_lora(Job& job, bool model_known, const std::string& whose) {
    Lora& lora = *job.lora;
    if (lora.targets.empty() && model_known) lora.targets = usual_targets(job.model.family);
    if (!lora.start.empty()) {
      const std::string directory = join_path(base_directory_, lora.start);
      Result<Lora> stored = read_adapter_config(directory, job.model.family);
      if (!stored.ok()) {
        for (const Diagnostic& fault : stored.faults())
          faults_.add(job.position_of("lora.start"), whose + "lora: " + fault.where + ": " + fault.what,
                      fault.expected,
                      fault.fix.empty() ? "give the path of PEFT's files, relative to this file" : fault.fix);
        return;
      }
      std::error_code error;
      stored->start = std::filesystem::absolute(directory, error).lexically_normal().string();
      const auto differs = [&](const char* key, bool same) {
        if (same || !job.positions.contains(std::string("lora.") + key)) return;
        faults_.add(job.position_of(std::string("lora.") + key),
                    whose + "lora: " + key + " is not that of the adapter in " + directory,
                    "what its " + std::string(kAdapterConfig) + " says", std::string("remove ") + key);
      };
      differs("rank", lora.rank == stored->rank);
      differs("alpha", lora.alpha == stored->alpha);
      std::sort(lora.targets.begin(), lora.targets.end());
      differs("targets", lora.targets == stored->targets);
      lora = *stored;
    }
  }

  const ReadData* find_data(const Job& job, const std::string& whose) {
    if (job.data.empty()) return nullptr;
    if (const auto it = data_.find(job.data); it != data_.end()) return &it->second;
    std::vector<std::string> names;
    for (const auto& [name, data] : data_) names.push_back(name);
    const std::string near = did_you_mean(job.data, names);
    faults_.add(job.position_of("data"), whose + "data " + in_quotes(job.data) + " does not exist",
                names.empty() ? "a [data." + job.data + "] table" : "one of " + listed(names),
                near.empty() ? "add a [data.NAME] table" : near);
    return nullptr;
  }

  // A name that two points share is a fault at both.
  void check_names() {
    std::map<std::string, const Job*> first;
    std::set<std::string> told;
    for (const Job& job : batch_.jobs) {
      if (job.name.empty() || !name_problem(job.name).empty()) continue;
      const auto [it, is_new] = first.emplace(job.name, &job);
      if (is_new) continue;
      const SourcePosition one = it->second->position_of("name");
      const SourcePosition other = job.position_of("name");
      const bool same_line = one.line == other.line && one.column == other.column;
      const std::string fix =
          same_line ? "add the keys that vary to the name, as {lr}" : "rename one of them";
      const auto tell = [&](const SourcePosition& at, const std::string& where_else) {
        faults_.add(at, "two jobs are named " + in_quotes(job.name) + where_else, "each name once", fix);
      };
      if (same_line) {
        tell(one, ": points of one grid");
      } else {
        tell(one, ", the other at line " + std::to_string(other.line));
        tell(other, ", the other at line " + std::to_string(one.line));
      }
    }
  }

  // Where the batch itself says what devices there are, no detection is needed to see that some are not.
  void check_stated_devices() {
    std::vector<DeviceGroup> groups;
    for (const devices::NodeRequest& node : batch_.devices.nodes) {
      groups.push_back({.kind = node.device_class == "cpu" ? "cpu" : "gpu",
                        .device_class = node.device_class,
                        .num_devices = node.count,
                        .num_shares = batch_.devices.gpu_share,
                        .memory_bytes = node.memory_bytes});
    }
    if (batch_.devices.cpu_slots) {
      groups.push_back({.num_devices = *batch_.devices.cpu_slots,
                        .memory_bytes = batch_.devices.memory_per_slot_bytes.value_or(0)});
    }
    if (groups.empty()) return;
    if (const auto good = check_devices(batch_, groups); !good.ok()) faults_.add(good.faults());
  }

  const TomlValue& root_;
  std::string base_directory_;
  const text::CorpusProgress& progress_;
  const std::vector<Proposal>& proposals_;
  Faults& faults_;
  Batch batch_;
  std::map<std::string, const TomlValue*> good_tables_;
  std::map<std::string, ReadData> data_;
  std::map<std::string, std::optional<ModelSpec>> models_;
};

}  // namespace

Result<Batch> read_batch_text(const std::string& path, std::string text, const text::CorpusProgress& progress,
                              const std::vector<Proposal>& proposals) {
  SATURN_TRY(const TomlValue root, parse_toml(text, path));
  Faults faults(path);
  Batch batch = BatchReader(path, root, progress, proposals, faults).read();
  if (!faults.empty()) return faults.take();
  batch.digest = digest_of(text);
  batch.text = std::move(text);
  return batch;
}

Result<Batch> read_batch(const std::string& path) {
  return read_batch(path, text::CorpusProgress());
}

Result<Batch> read_batch(const std::string& path, const text::CorpusProgress& progress) {
  SATURN_TRY(std::string text, read_whole(path, TomlLimits{}.bytes));
  return read_batch_text(path, std::move(text), progress);
}

SourcePosition Job::position_of(const std::string& key) const {
  if (const auto it = positions.find(key); it != positions.end()) return it->second;
  const std::size_t dot = key.find('.');
  if (dot != std::string::npos) {
    if (const auto it = positions.find(key.substr(0, dot)); it != positions.end()) return it->second;
  }
  const auto it = positions.find("");
  return it == positions.end() ? SourcePosition{} : it->second;
}

}  // namespace saturn::batch

// Models by preset, by a TOML file of sizes and by a Hugging Face directory.

#include "saturn/batch/model_spec.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>

#include "batch/family.h"
#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "saturn/batch/batch.h"

namespace saturn::batch {
namespace {

// A family's description of the keys its sizes may have, with `family` itself.
TableSchema with_family_key(const Family& family) {
  TableSchema schema = family.sizes;
  schema.keys.insert(schema.keys.begin(), {"family", text("a family of `saturn models`"), "the architecture",
                                           "", false, [](void*, const TomlValue&) {}});
  return schema;
}

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const Family& family : families()) names.emplace_back(family.name);
  return names;
}

// Fills in `spec` from sizes that are complete; `where` gives the place of a size's key.
void settle(const Family& family, ModelSpec& spec,
            const std::function<std::string(const std::string&)>& where, Diagnostics& faults) {
  for (const SizeFault& fault : family.check(spec.sizes)) {
    faults.push_back({.where = where(fault.key),
                      .what = "model " + in_quotes(spec.name) + ": " + fault.what,
                      .expected = fault.expected,
                      .fix = "change " + fault.key});
  }
  if (faults.empty()) family.settle(spec);
}

// One table of sizes.
std::optional<ModelSpec> read_sizes(const Family& family, const TableSchema& schema, const std::string& name,
                                    const TomlValue& table, Faults& faults) {
  ModelSpec spec;
  spec.family = family.name;
  spec.name = name;
  spec.sizes = family.defaults;
  Positions positions;
  const std::size_t before = faults.count();
  read_keys(schema, table,
            {.target = &spec.sizes,
             .positions = &positions,
             .prefix = "",
             .whose = "model " + in_quotes(name) + ": "},
            faults);
  if (faults.count() != before) return std::nullopt;
  Diagnostics found;
  settle(
      family, spec,
      [&](const std::string& key) {
        const auto it = positions.find(key);
        return (it == positions.end() ? faults.at(table.place) : it->second).text();
      },
      found);
  if (found.empty()) return spec;
  faults.add(std::move(found));
  return std::nullopt;
}

// The family a file of sizes names at its top.
const Family* family_of(const TomlValue& root, Faults& faults) {
  const TomlMember* member = root.find("family");
  const std::vector<std::string> names = family_names();
  if (member == nullptr) {
    faults.add(Place{1, 1}, "family is missing", "one of " + listed(names),
               "add family = \"" + names.front() + "\"");
    return nullptr;
  }
  const Family* family =
      member->value.type == TomlValue::Type::string ? find_family(member->value.spelled) : nullptr;
  if (family == nullptr) {
    faults.add(member->value.place, "family " + shown(member->value) + " does not exist in this build",
               "one of " + listed(names), "write family = " + toml_text(names.front()));
  }
  return family;
}

Result<TomlValue> read_toml(const std::string& path) {
  const TomlLimits limits;
  SATURN_TRY(const std::string content, read_whole(path, limits.bytes));
  return parse_toml(content, path, limits);
}

Result<ModelSpec> read_sizes_file(const std::string& path) {
  SATURN_TRY(const TomlValue root, read_toml(path));
  Faults faults(path);
  if (const Family* family = family_of(root, faults)) {
    const std::string name = std::filesystem::path(path).stem().string();
    if (auto spec = read_sizes(*family, with_family_key(*family), name, root, faults))
      return *std::move(spec);
  }
  return faults.take();
}

Result<std::vector<ModelSpec>> read_presets_file(const std::string& path) {
  SATURN_TRY(const TomlValue root, read_toml(path));
  Faults faults(path);
  std::vector<ModelSpec> specs;
  if (const Family* family = family_of(root, faults)) {
    for (const TomlMember& member : root.members) {
      if (member.key == "family") continue;
      if (member.value.type != TomlValue::Type::table) {
        faults.add(member.key_place, "key " + in_quotes(member.key) + " is not known here",
                   "family, then a table for each preset", "move it under its [preset]");
        continue;
      }
      if (auto spec = read_sizes(*family, family->sizes, member.key, member.value, faults))
        specs.push_back(*std::move(spec));
    }
  }
  if (!faults.empty()) return faults.take();
  return specs;
}

// The weights a Hugging Face directory must hold, in a form that is only tensors.
std::optional<Diagnostic> weights_fault(const std::string& directory) {
  std::error_code error;
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"}) {
    if (std::filesystem::exists(join_path(directory, name), error)) return std::nullopt;
  }
  bool pickled = false;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    const std::string extension = it->path().extension().string();
    pickled |= extension == ".bin" || extension == ".pt" || extension == ".pth";
  }
  return Diagnostic{.where = directory,
                    .what = pickled ? "the weights are pickled, and reading those can run any program"
                                    : "the directory holds no weights",
                    .expected = "model.safetensors, or model.safetensors.index.json with its shards",
                    .fix = pickled ? "save them again with save_pretrained(..., safe_serialization=True)"
                                   : "for a random start, write the sizes into a TOML file and name that"};
}

// One size from config.json; null counts as absent.
void read_config_size(const Family& family, const KeySchema& key, const Json& config, JsonReader& reader,
                      Json& sizes) {
  const std::string& config_key = family.config_keys.at(key.name);
  const auto it = config.find(config_key);
  if (it == config.end() || it->is_null()) {
    reader.any(config_key.c_str());
    if (key.required || key.name == family.open_size) {
      reader.fault(config_key, "\"" + config_key + "\" is missing", described(key.shape));
    }
    return;
  }
  if (key.shape.type == Shape::Type::boolean) {
    sizes[key.name] = reader.boolean_or(config_key.c_str(), false);
    return;
  }
  const bool integer = key.shape.type == Shape::Type::integer;
  const double value =
      integer ? static_cast<double>(reader.integer(config_key.c_str())) : reader.number(config_key.c_str());
  const bool number = integer ? it->is_number_integer() : it->is_number();
  const bool in_range = value >= key.shape.minimum && value <= key.shape.maximum &&
                        !(key.shape.above_minimum && value == key.shape.minimum);
  if (number && !in_range)
    reader.fault(config_key, config_key + " = " + it->dump() + " is out of range", described(key.shape));
  if (integer) sizes[key.name] = static_cast<std::int64_t>(value);
  if (!integer) sizes[key.name] = value;
}

// The family of a config.json: by the `architecture` that timm writes, else by Hugging Face's model_type.
Result<const Family*> family_of_config(const Json& config, const std::string& path) {
  if (const auto it = config.find("architecture"); it != config.end() && it->is_string()) {
    std::vector<std::string> beginnings;
    for (const Family& family : families()) {
      if (family.timm_prefix == nullptr) continue;
      if (it->get<std::string>().starts_with(family.timm_prefix)) return &family;
      beginnings.emplace_back(std::string(family.timm_prefix) + "...");
    }
    return Diagnostic{.where = path + "#/architecture",
                      .what = "architecture " + it->dump() + " is not in this build",
                      .expected = "one of " + listed(beginnings),
                      .fix = "start from a preset of `saturn models`"};
  }
  Diagnostics faults;
  const std::string model_type = JsonReader(config, path, "", faults).string("model_type");
  if (!faults.empty()) return faults;
  const Family* family = find_family(model_type);
  if (family == nullptr || family->timm_prefix != nullptr) {
    return Diagnostic{.where = path + "#/model_type",
                      .what = "model_type " + in_quotes(model_type) + " is not in this build",
                      .expected = "one of " + listed(family_names()),
                      .fix = "start from a preset of `saturn models`"};
  }
  return family;
}

Result<ModelSpec> read_hugging_face(const std::string& directory) {
  const std::string path = join_path(directory, "config.json");
  SATURN_TRY(const std::string content, read_whole(path, std::uint64_t{16} << 20));
  SATURN_TRY(Json config, parse_json(content, path));
  if (!config.is_object()) {
    return Diagnostic{
        .where = path, .what = "this is not a JSON object", .expected = "a model's config.json"};
  }
  SATURN_TRY(const Family* family, family_of_config(config, path));
  if (family->flat_config != nullptr) {
    SATURN_TRY(config, family->flat_config(std::move(config), path));
  }
  Diagnostics faults;
  JsonReader reader(config, path, "", faults);

  ModelSpec spec;
  spec.family = family->name;
  spec.directory = std::filesystem::absolute(directory).lexically_normal().string();
  if (spec.directory.ends_with('/')) spec.directory.pop_back();
  spec.name = file_name_of(spec.directory);
  spec.sizes = family->defaults;
  for (const KeySchema& key : family->sizes.keys) {
    read_config_size(*family, key, config, reader, spec.sizes);
  }
  for (const auto& [key, only] : family->fixed_config) {
    const auto it = config.find(key);
    if (it == config.end() || it->is_null() || *it == only) continue;
    reader.fault(key, key + " = " + it->dump() + " is not in this build", key + " = " + only.dump());
  }
  if (faults.empty()) {
    settle(
        *family, spec, [&](const std::string& key) { return reader.pointer_to(family->config_keys.at(key)); },
        faults);
  }
  for (Diagnostic& fault : faults) {
    if (fault.fix.empty()) fault.fix = "correct config.json, or save the model again with save_pretrained";
  }
  if (const auto fault = weights_fault(directory)) faults.push_back(*fault);
  if (!faults.empty()) return faults;
  return spec;
}

std::string executable_directory() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? "." : self.parent_path().string();
}

}  // namespace

std::string models_directory() {
  if (const char* named = std::getenv("SATURN_MODELS"); named != nullptr && *named != '\0') return named;
  std::error_code error;
  const std::string installed = executable_directory() + "/../share/saturn/models";
  if (std::filesystem::is_directory(installed, error))
    return std::filesystem::weakly_canonical(installed, error).string();
  return SATURN_SOURCE_MODELS;
}

Result<std::vector<ModelSpec>> presets() {
  const std::string directory = models_directory();
  std::vector<std::string> files;
  std::error_code error;
  for (std::filesystem::directory_iterator it(directory, error), end; !error && it != end;
       it.increment(error)) {
    if (it->path().extension() == ".toml") files.push_back(it->path().string());
  }
  if (files.empty()) {
    return Diagnostic{.kind = Kind::machine,
                      .where = directory,
                      .what = "there are no model presets",
                      .expected = "the .toml files of models/",
                      .fix = "install saturn again, or set SATURN_MODELS to the folder"};
  }
  std::sort(files.begin(), files.end());
  std::vector<ModelSpec> all;
  Diagnostics faults;
  for (const std::string& file : files) {
    auto some = read_presets_file(file);
    if (some.ok()) {
      all.insert(all.end(), some->begin(), some->end());
    } else {
      for (Diagnostic& fault : std::move(some).faults()) faults.push_back(std::move(fault));
    }
  }
  if (!faults.empty()) return faults;
  return all;
}

Result<ModelSpec> find_model(const std::string& model, const std::string& base_directory,
                             const SourcePosition& asked_at) {
  SATURN_TRY(const std::vector<ModelSpec> known, presets());
  std::vector<std::string> names;
  for (const ModelSpec& spec : known) {
    if (spec.name == model) return spec;
    names.push_back(spec.name);
  }
  const std::string path = join_path(base_directory, model);
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return read_hugging_face(path);
  if (std::filesystem::exists(path, error)) return read_sizes_file(path);
  const std::string near = did_you_mean(model, names);
  return Diagnostic{.where = asked_at.text(),
                    .what = "model " + in_quotes(model) + " is no preset, and no such path exists",
                    .expected = "one of " + listed(names) + ", a TOML of sizes or a Hugging Face directory",
                    .fix = near.empty() ? "`saturn models` describes each preset" : near};
}

ModelSpec with_vocabulary(ModelSpec model, int data_vocabulary) {
  if (model.vocabulary != 0) return model;
  const Family* family = find_family(model.family);
  SATURN_CHECK(family != nullptr, "a model has a family of this build");
  model.sizes[family->open_size] = data_vocabulary;
  family->settle(model);
  return model;
}

ModelSpec with_data(ModelSpec model, const DataSource& data, bool new_head) {
  const Family* family = find_family(model.family);
  SATURN_CHECK(family != nullptr, "a model has a family of this build");
  if (family->reads_images != (data.kind == DataKind::images)) return model;
  if (family->reads_images) {
    const auto leave_to_data = [&](const char* size, int of_data) {
      const auto it = model.sizes.find(size);
      if (it != model.sizes.end() && *it == 0) model.sizes[size] = of_data;
    };
    leave_to_data("image_size", data.images.size);
    leave_to_data("channels", data.images.channels);
    if (new_head) model.sizes[family->open_size] = data.vocabulary_size;
    family->settle(model);
  }
  return with_vocabulary(std::move(model), data.vocabulary_size);
}

double flops_per_token(const ModelSpec& model, int sequence_length) {
  const Family* family = find_family(model.family);
  SATURN_CHECK(family != nullptr, "a model has a family of this build");
  const auto busy = static_cast<double>(model.num_parameters - family->idle_parameters(model));
  return 6.0 * busy + 12.0 * model.num_layers * model.width * static_cast<double>(sequence_length);
}

double flops_per_sample(const ModelSpec& model, const DataSource& data) {
  const Family* family = find_family(model.family);
  SATURN_CHECK(family != nullptr, "a model has a family of this build");
  if (family->forward_flops != nullptr) return 3.0 * family->forward_flops(model, data.images.size);
  const std::int64_t positions = positions_of_sample(model, data);
  return static_cast<double>(positions) * flops_per_token(model, static_cast<int>(positions));
}

std::int64_t positions_of_sample(const ModelSpec& model, const DataSource& data) {
  return model.reads_images ? model.longest_sequence : data.sequence_length;
}

std::optional<std::string> head_split_refusal(const ModelSpec& model, int num_ranks) {
  if (model.reads_images) return "cannot split the layers of a model of images";
  const auto uneven = [&](std::int64_t count, const std::string& what) {
    return "cannot split " + std::to_string(count) + " " + what + " over " + std::to_string(num_ranks) +
           " ranks evenly";
  };
  if (model.num_heads % num_ranks != 0) return uneven(model.num_heads, "attention heads");
  const auto shared = model.sizes.find("kv_heads");  // of grouped queries
  if (shared != model.sizes.end() && shared->get<std::int64_t>() % num_ranks != 0)
    return uneven(shared->get<std::int64_t>(), "heads of keys and values");
  return std::nullopt;
}

Json to_json(const ModelSpec& model) {
  return {
      {"family", model.family}, {"name", model.name}, {"directory", model.directory}, {"sizes", model.sizes}};
}

ModelSpec model_spec_from_json(JsonReader reader) {
  ModelSpec spec;
  spec.family = reader.string("family");
  spec.name = reader.string("name");
  spec.directory = reader.string("directory");
  const Json& sizes = reader.object("sizes");
  reader.finish();
  const Family* family = find_family(spec.family);
  if (family == nullptr) {
    reader.fault("family", "family " + in_quotes(spec.family) + " is not in this build",
                 "one of " + listed(family_names()));
    return spec;
  }
  spec.sizes = family->defaults;
  bool good = true;
  const auto refuse = [&](const std::string& what, const std::string& expected) {
    reader.fault("sizes", what, expected);
    good = false;
  };
  for (const KeySchema& key : family->sizes.keys) {
    const auto it = sizes.find(key.name);
    const Shape::Type type = key.shape.type;
    const bool typed = it != sizes.end() && (type == Shape::Type::boolean   ? it->is_boolean()
                                             : type == Shape::Type::integer ? it->is_number_integer()
                                                                            : it->is_number());
    if (!typed) {
      refuse("size " + key.name + " is missing or of another type", described(key.shape));
      continue;
    }
    // The vocabulary of a preset that leaves it to the data, and a derived width, are 0 until settled.
    const double value = typed && it->is_number() ? it->get<double>() : 0.0;
    const bool open = value == 0.0 && !key.required && type == Shape::Type::integer;
    if (it->is_number() && !open && (value < key.shape.minimum || value > key.shape.maximum)) {
      refuse("size " + key.name + " = " + it->dump() + " is out of range", described(key.shape));
    }
    spec.sizes[key.name] = *it;
  }
  if (!good) return spec;
  for (const SizeFault& fault : family->check(spec.sizes)) refuse(fault.what, fault.expected);
  if (good) family->settle(spec);
  return spec;
}

}  // namespace saturn::batch

// Jobs and data sources as `assign` carries them.

#include <cmath>

#include "saturn/base/nearest.h"
#include "saturn/batch/batch.h"

namespace saturn::batch {
namespace {

constexpr DataKind kDataKinds[] = {DataKind::text, DataKind::tokens, DataKind::images};
constexpr Amount::Unit kUnits[] = {Amount::Unit::epochs, Amount::Unit::steps, Amount::Unit::tokens};

// Reads one of the names that `name_of` gives.
template <class Enum, std::size_t n>
Enum enum_at(JsonReader& reader, const char* key, const Enum (&values)[n]) {
  const std::string read = reader.string(key);
  std::vector<std::string> names;
  for (const Enum value : values) {
    if (read == name_of(value)) return value;
    names.emplace_back(name_of(value));
  }
  reader.fault(key, in_quotes(read) + " stands here", "one of " + listed(names));
  return values[0];
}

std::vector<std::string> strings_at(JsonReader& reader, const char* key) {
  std::vector<std::string> strings;
  for (const Json& one : reader.array(key)) {
    if (one.is_string()) {
      strings.push_back(one.get<std::string>());
    } else {
      reader.fault(key, one.dump() + " stands here", "strings");
    }
  }
  return strings;
}

std::vector<TechniqueLibrary> libraries_at(JsonReader& reader) {
  std::vector<TechniqueLibrary> libraries;
  for (const Json& one : reader.array("libraries")) {
    const auto text = [&](const char* key) {
      return one.is_object() && one.contains(key) && one[key].is_string() ? one[key].get<std::string>() : "";
    };
    TechniqueLibrary library{
        .name = text("name"), .path = text("path"), .digest = text("digest"), .position = {}};
    if (library.name.empty() || library.path.empty())
      reader.fault("libraries", one.dump() + " stands here", "a name and a path");
    libraries.push_back(std::move(library));
  }
  return libraries;
}

// An integer that fits an int and is at least `least`.
int int_at(JsonReader& reader, const char* key, std::int64_t least) {
  const std::int64_t value = reader.integer(key);
  if (value < least || value > std::numeric_limits<int>::max()) {
    reader.fault(key, std::to_string(value) + " is out of range",
                 "an integer of at least " + std::to_string(least));
    return static_cast<int>(least);
  }
  return static_cast<int>(value);
}

// A list of the channels' numbers.
std::vector<double> numbers_at(JsonReader& reader, const char* key) {
  std::vector<double> numbers;
  for (const Json& one : reader.array(key)) {
    if (one.is_number()) {
      numbers.push_back(one.get<double>());
    } else {
      reader.fault(key, one.dump() + " stands here", "numbers");
    }
  }
  return numbers;
}

Json to_json(const ImageSettings& images) {
  Json json = {{"size", images.size},
               {"channels", images.channels},
               {"resize", images.resize},
               {"least_area", images.least_area},
               {"most_area", images.most_area},
               {"flip", images.flip},
               {"mean", images.mean},
               {"deviation", images.deviation},
               {"max_corrupt", images.max_corrupt},
               {"classes", images.classes}};
  if (images.interpolation != ImageSettings{}.interpolation) json["interpolation"] = images.interpolation;
  return json;
}

ImageSettings images_from(JsonReader reader) {
  ImageSettings images;
  images.size = int_at(reader, "size", 1);
  images.channels = int_at(reader, "channels", 1);
  images.resize = int_at(reader, "resize", 0);
  images.least_area = reader.number("least_area");
  images.most_area = reader.number("most_area");
  images.interpolation = reader.string_or("interpolation", images.interpolation);
  if (images.interpolation != "bilinear" && images.interpolation != "bicubic")
    reader.fault("interpolation", in_quotes(images.interpolation) + " stands here", "bilinear or bicubic");
  images.flip = reader.boolean_or("flip", true);
  images.mean = numbers_at(reader, "mean");
  images.deviation = numbers_at(reader, "deviation");
  images.max_corrupt = int_at(reader, "max_corrupt", 0);
  images.classes = strings_at(reader, "classes");
  const auto num_channels = static_cast<std::size_t>(images.channels);
  if ((images.channels != 1 && images.channels != 3) || images.mean.size() != num_channels ||
      images.deviation.size() != num_channels)
    reader.fault("channels", std::to_string(images.channels) + " channels",
                 "1 or 3, with as many means and deviations");
  reader.finish();
  return images;
}

Json to_json(const Optimizer& optimizer) {
  Json json = {{"kind", optimizer.kind},
               {"lr", optimizer.lr},
               {"weight_decay", optimizer.weight_decay},
               {"beta1", optimizer.beta1},
               {"beta2", optimizer.beta2},
               {"eps", optimizer.eps},
               {"momentum", optimizer.momentum},
               {"clip_norm", optimizer.clip_norm}};
  if (optimizer.nesterov) json["nesterov"] = true;
  return json;
}

Optimizer optimizer_from(JsonReader reader) {
  Optimizer optimizer;
  optimizer.kind = reader.string("kind");
  optimizer.lr = reader.number("lr");
  optimizer.weight_decay = reader.number("weight_decay");
  optimizer.beta1 = reader.number("beta1");
  optimizer.beta2 = reader.number("beta2");
  optimizer.eps = reader.number("eps");
  optimizer.momentum = reader.number("momentum");
  optimizer.nesterov = reader.boolean_or("nesterov", false);
  optimizer.clip_norm = reader.number("clip_norm");
  reader.finish();
  return optimizer;
}

Json to_json(const Schedule& schedule) {
  return {{"kind", schedule.kind},
          {"warmup_steps", schedule.warmup_steps},
          {"minimum_lr", schedule.minimum_lr},
          {"decay_every", schedule.decay_every},
          {"decay_factor", schedule.decay_factor}};
}

Schedule schedule_from(JsonReader reader) {
  Schedule schedule;
  schedule.kind = reader.string("kind");
  schedule.warmup_steps = int_at(reader, "warmup_steps", 0);
  schedule.minimum_lr = reader.number("minimum_lr");
  schedule.decay_every = int_at(reader, "decay_every", 0);
  schedule.decay_factor = reader.number("decay_factor");
  reader.finish();
  return schedule;
}

Json to_json(const Lora& lora) {
  Json json = {{"rank", lora.rank}, {"alpha", lora.alpha}, {"targets", lora.targets}};
  if (!lora.start.empty()) json["start"] = lora.start;
  return json;
}

Lora lora_from(JsonReader reader) {
  Lora lora;
  lora.rank = int_at(reader, "rank", 1);
  lora.alpha = reader.number("alpha");
  lora.targets = strings_at(reader, "targets");
  if (reader.has("start")) lora.start = reader.string("start");
  reader.finish();
  return lora;
}

}  // namespace

const char* name_of(DataKind kind) {
  return kind == DataKind::text ? "text" : kind == DataKind::tokens ? "tokens" : "images";
}

const char* name_of(Amount::Unit unit) {
  switch (unit) {
    case Amount::Unit::epochs:
      return "epochs";
    case Amount::Unit::steps:
      return "steps";
    case Amount::Unit::tokens:
      return "tokens";
  }
  return "";
}

bool DataSource::operator==(const DataSource& other) const {
  return name == other.name && kind == other.kind && files == other.files &&
         validation_files == other.validation_files && validation_share == other.validation_share &&
         tokenizer == other.tokenizer && sequence_length == other.sequence_length &&
         vocabulary_size == other.vocabulary_size && images == other.images;
}

bool TechniqueLibrary::operator==(const TechniqueLibrary& other) const {
  return name == other.name && path == other.path && digest == other.digest;
}

bool Job::operator==(const Job& other) const {
  return name == other.name && model == other.model && data == other.data && amount == other.amount &&
         batch_size == other.batch_size && micro_batches == other.micro_batches &&
         precision == other.precision && gradient_precision == other.gradient_precision &&
         dropout == other.dropout && label_smoothing == other.label_smoothing && new_head == other.new_head &&
         freeze == other.freeze && lora == other.lora && evaluate_every == other.evaluate_every &&
         techniques == other.techniques && devices == other.devices && libraries == other.libraries &&
         optimizer == other.optimizer && schedule == other.schedule && seed == other.seed;
}

Json to_json(const DataSource& data) {
  Json json = {{"name", data.name},
               {"kind", name_of(data.kind)},
               {"files", data.files},
               {"validation_files", data.validation_files},
               {"validation_share", data.validation_share},
               {"tokenizer", data.tokenizer},
               {"sequence_length", data.sequence_length},
               {"vocabulary_size", data.vocabulary_size}};
  if (data.kind == DataKind::images) json["images"] = to_json(data.images);
  return json;
}

Result<DataSource> data_source_from_json(const Json& document, const std::string& path) {
  Diagnostics faults;
  JsonReader reader(document, path, "", faults);
  DataSource data;
  data.name = reader.string("name");
  data.kind = enum_at(reader, "kind", kDataKinds);
  data.files = strings_at(reader, "files");
  data.validation_files = strings_at(reader, "validation_files");
  data.validation_share = reader.number("validation_share");
  data.tokenizer = reader.string("tokenizer");
  const bool images = data.kind == DataKind::images;
  data.sequence_length = int_at(reader, "sequence_length", images ? 0 : 1);
  data.vocabulary_size = int_at(reader, "vocabulary_size", 1);
  if (images) data.images = images_from(reader.child("images"));
  reader.finish();
  if (!(data.validation_share >= 0.0 && data.validation_share < 1.0)) {
    reader.fault("validation_share", "a share of " + std::to_string(data.validation_share),
                 "a share from 0 to below 1");
  }
  if (!faults.empty()) return faults;
  return data;
}

Json to_json(const Job& job) {
  Json json = {{"name", job.name},
               {"model", to_json(job.model)},
               {"data", job.data},
               {"amount", {{"unit", name_of(job.amount.unit)}, {"value", job.amount.value}}},
               {"batch_size", job.batch_size},
               {"micro_batches", job.micro_batches},
               {"precision", job.precision},
               {"dropout", job.dropout},
               {"evaluate_every", job.evaluate_every},
               {"techniques", job.techniques},
               {"devices", job.devices},
               {"optimizer", to_json(job.optimizer)},
               {"schedule", to_json(job.schedule)},
               {"seed", job.seed}};
  if (job.gradient_precision != Job{}.gradient_precision) json["gradient_precision"] = job.gradient_precision;
  if (job.label_smoothing != 0.0) json["label_smoothing"] = job.label_smoothing;
  if (job.new_head) json["new_head"] = true;
  if (!job.freeze.empty()) json["freeze"] = job.freeze;
  if (job.lora) json["lora"] = to_json(*job.lora);
  for (const TechniqueLibrary& library : job.libraries)
    json["libraries"].push_back({{"name", library.name}, {"path", library.path}, {"digest", library.digest}});
  return json;
}

Result<Job> job_from_json(const Json& document, const std::string& path) {
  Diagnostics faults;
  JsonReader reader(document, path, "", faults);
  Job job;
  job.name = reader.string("name");
  job.model = model_spec_from_json(reader.child("model"));
  job.data = reader.string("data");
  JsonReader amount = reader.child("amount");
  job.amount.unit = enum_at(amount, "unit", kUnits);
  job.amount.value = amount.number("value");
  amount.finish();
  job.batch_size = int_at(reader, "batch_size", 1);
  job.micro_batches = int_at(reader, "micro_batches", 1);
  job.precision = reader.string("precision");
  if (reader.has("gradient_precision")) job.gradient_precision = reader.string("gradient_precision");
  job.dropout = reader.number("dropout");
  if (reader.has("label_smoothing")) job.label_smoothing = reader.number("label_smoothing");
  job.new_head = reader.boolean_or("new_head", false);
  if (reader.has("freeze")) job.freeze = strings_at(reader, "freeze");
  if (reader.has("lora")) job.lora = lora_from(reader.child("lora"));
  job.evaluate_every = int_at(reader, "evaluate_every", 0);
  job.techniques = strings_at(reader, "techniques");
  for (const Json& count : reader.array("devices")) {
    const bool good = count.is_number_integer() && count > 0 && count <= 65536;
    if (!good) reader.fault("devices", count.dump() + " stands here", "device counts of at least 1");
    if (good) job.devices.push_back(count.get<int>());
  }
  if (reader.has("libraries")) job.libraries = libraries_at(reader);
  job.optimizer = optimizer_from(reader.child("optimizer"));
  job.schedule = schedule_from(reader.child("schedule"));
  job.seed = static_cast<std::uint64_t>(reader.integer("seed"));
  reader.finish();
  if (!faults.empty()) return faults;
  return job;
}

}  // namespace saturn::batch

// Checks across the keys of one job.

#include "batch/check_job.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "batch/family.h"
#include "batch/schema_table.h"
#include "saturn/base/nearest.h"
#include "saturn/batch/fine_tune.h"
#include "saturn/batch/technique_spec.h"

namespace saturn::batch {
namespace {

// Techniques that this program knows of and this build may lack.
constexpr std::array<const char*, 8> kDesignedTechniques = {"single",  "ddp",    "fsdp",   "pipeline",
                                                            "offload", "tensor", "hybrid", "external"};

std::string whose(const Job& job) {
  return "job " + in_quotes(job.name) + ": ";
}

std::string line_of(const Job& job, const std::string& key) {
  const auto it = job.positions.find(key);
  return it == job.positions.end() ? "" : " (line " + std::to_string(it->second.line) + ")";
}

std::string list_text(const std::vector<int>& values) {
  std::string text;
  for (const int value : values) text += (text.empty() ? "" : ", ") + std::to_string(value);
  return "[" + text + "]";
}

bool may_split_batch(const Job& job) {
  for (const TechniqueSpec& spec : technique_specs()) {
    const bool asked = job.techniques.empty() || std::find(job.techniques.begin(), job.techniques.end(),
                                                           spec.name) != job.techniques.end();
    if (asked && spec.splits_batch) return true;
  }
  return false;
}

// A batch must be cut evenly into micro-batches, and over the device counts the job itself asks for.
void check_batch_size(const Job& job, Faults& faults) {
  if (job.batch_size % job.micro_batches != 0) {
    const bool grid = job.positions.contains("micro_batches");
    faults.add(job.position_of("batch_size"),
               whose(job) + "batch_size = " + std::to_string(job.batch_size) + " cannot be split into " +
                   std::to_string(job.micro_batches) + " micro-batches",
               "a multiple of micro_batches = " + std::to_string(job.micro_batches) +
                   (grid ? line_of(job, "micro_batches") : ""),
               "set batch_size = " +
                   std::to_string((job.batch_size / job.micro_batches + 1) *
                                  static_cast<std::int64_t>(job.micro_batches)) +
                   ", or lower micro_batches");
    return;
  }
  if (!may_split_batch(job)) return;
  std::int64_t multiple = 1;
  int culprit = 0;
  for (const int count : job.devices) {
    if (job.batch_size % count != 0) culprit = std::max(culprit, count);
    if (multiple < job.batch_size * std::int64_t{64})
      multiple = std::lcm(multiple, static_cast<std::int64_t>(count));
  }
  if (culprit == 0) return;
  const std::int64_t next = (job.batch_size + multiple - 1) / multiple * multiple;
  faults.add(job.position_of("batch_size"),
             whose(job) + "batch_size = " + std::to_string(job.batch_size) + " cannot be split over " +
                 std::to_string(culprit) + " devices",
             "a multiple of every entry of devices = " + list_text(job.devices) + line_of(job, "devices"),
             "set batch_size = " + std::to_string(next) + ", or remove " + std::to_string(culprit) +
                 " from devices");
}

void check_against_data(const Job& job, const ReadData& data, Faults& faults) {
  const std::int64_t samples = data.split.num_training_samples;
  if (job.batch_size > samples) {
    faults.add(job.position_of("batch_size"),
               whose(job) + "batch_size = " + std::to_string(job.batch_size) + " is larger than the data",
               "at most " + std::to_string(samples) + ", the training samples of data " + in_quotes(job.data),
               "set batch_size = " + std::to_string(samples) +
                   (data.source.kind == DataKind::images
                        ? std::string()
                        : ", or lower sequence_length (line " +
                              std::to_string(data.source.positions.at("sequence_length").line) + ")"));
  }
  const std::int64_t steps = steps_of(job, data.source, samples);
  if (job.schedule.warmup_steps > steps) {
    faults.add(job.position_of("schedule.warmup_steps"),
               whose(job) + "warmup_steps = " + std::to_string(job.schedule.warmup_steps) +
                   " is more than the job trains",
               "at most its " + std::to_string(steps) + " steps" + line_of(job, name_of(job.amount.unit)),
               "set warmup_steps = " + std::to_string(steps / 10));
  }
}

// Pictures to a model of pictures, of its size and classes.
void check_images_against_model(const Job& job, const DataSource& data, Faults& faults) {
  const auto differs = [&](const char* key, int of_data, int of_model, const std::string& what) {
    if (of_model == 0 || of_data == of_model) return;
    faults.add(data.positions.contains(key) ? data.positions.at(key) : data.positions.at(""),
               whose(job) + key + " = " + std::to_string(of_data) + ", and model " +
                   in_quotes(job.model.name) + line_of(job, "model") + " reads images of " +
                   std::to_string(of_model) + " " + what,
               std::to_string(of_model), std::string("set ") + key + " = " + std::to_string(of_model));
  };
  differs("image_size", data.images.size, job.model.image_size, "pixels a side");
  differs("channels", data.images.channels, job.model.channels, "channels");
  if (data.vocabulary_size != job.model.vocabulary) {
    faults.add(job.position_of("model"),
               whose(job) + "model " + in_quotes(job.model.name) + " tells " +
                   std::to_string(job.model.vocabulary) + " classes apart, and data " + in_quotes(job.data) +
                   " has " + std::to_string(data.vocabulary_size),
               "as many classes", "set new_head = true for a new head, or choose another model");
  }
}

void check_against_model(const Job& job, const DataSource& data, Faults& faults) {
  if (job.model.reads_images != (data.kind == DataKind::images)) {
    faults.add(job.position_of("model"),
               whose(job) + "model " + in_quotes(job.model.name) + " reads " +
                   (job.model.reads_images ? "images" : "tokens") + ", and data " + in_quotes(job.data) +
                   " is of kind " + in_quotes(name_of(data.kind)),
               "a model for such data", "`saturn models` lists the families");
    return;
  }
  if (job.model.reads_images) return check_images_against_model(job, data, faults);
  if (data.sequence_length > job.model.longest_sequence) {
    faults.add(data.positions.at("sequence_length"),
               whose(job) + "sequence_length = " + std::to_string(data.sequence_length) +
                   " is longer than model " + in_quotes(job.model.name) + line_of(job, "model"),
               "at most its " + std::to_string(job.model.longest_sequence) + " positions",
               "set sequence_length = " + std::to_string(job.model.longest_sequence));
  }
  if (data.vocabulary_size > job.model.vocabulary) {
    faults.add(
        job.position_of("model"),
        whose(job) + "model " + in_quotes(job.model.name) + " has a vocabulary of " +
            std::to_string(job.model.vocabulary) + ", and data " + in_quotes(job.data) + " one of " +
            std::to_string(data.vocabulary_size),
        "a vocabulary of at least " + std::to_string(data.vocabulary_size),
        "choose another model, or set vocabulary_size in [data." + job.data + "] if its tokens are smaller");
  }
}

// What only some models and objectives have.
void check_objective(const Job& job, Faults& faults) {
  const auto only_of_images = [&](const char* key, bool is_set) {
    if (!is_set || job.model.reads_images) return;
    faults.add(job.position_of(key),
               whose(job) + key + " is set, and model " + in_quotes(job.model.name) + " is no classifier",
               "a model of images", std::string("remove ") + key);
  };
  only_of_images("label_smoothing", job.label_smoothing != 0.0);
  only_of_images("new_head", job.new_head);
  if (job.new_head && job.model.reads_images && job.model.directory.empty()) {
    faults.add(
        job.position_of("new_head"),
        whose(job) + "new_head is set, and model " + in_quotes(job.model.name) + " starts at random anyway",
        "a stored model", "remove new_head");
  }
  const Family* family = find_family(job.model.family);
  if (family != nullptr && family->batch_statistics && job.micro_batches > 1) {
    faults.add(job.position_of("micro_batches"),
               whose(job) + "micro_batches = " + std::to_string(job.micro_batches) +
                   " would give BatchNorm the statistics of parts of a batch",
               "micro_batches = 1 for a " + job.model.family, "remove it, or lower batch_size");
  }
  if (job.dropout > 0.0 && job.model.reads_images && job.model.num_heads == 0) {
    faults.add(job.position_of("dropout"),
               whose(job) + "dropout = " + toml_text(job.dropout) + " is set, and a " + job.model.family +
                   " has none",
               "no dropout", "remove it");
  }
  if (job.model.reads_images && job.amount.unit == Amount::Unit::tokens) {
    faults.add(job.position_of("tokens"), whose(job) + "tokens are counted, and images have none",
               "epochs or steps", "write epochs = 10");
  }
}

// The names of `all` nearest to what was typed, else the parts that a pattern may begin with.
std::string near_names(const std::string& typed, std::vector<std::string> all) {
  std::sort(all.begin(), all.end());
  all.erase(std::unique(all.begin(), all.end()), all.end());
  if (const std::string near = did_you_mean(typed, all); !near.empty()) return near;
  constexpr std::size_t kMost = 12;
  const bool more = all.size() > kMost;
  if (more) all.resize(kMost);
  return "write one of " + listed(all) + (more ? ", ..." : "");
}

// Every beginning of a name up to a dot, and the name.
std::vector<std::string> beginnings(const std::vector<ParameterFact>& parameters) {
  std::vector<std::string> all;
  for (const ParameterFact& parameter : parameters) {
    for (std::size_t dot = parameter.name.find('.'); dot != std::string::npos;
         dot = parameter.name.find('.', dot + 1))
      all.push_back(parameter.name.substr(0, dot));
    all.push_back(parameter.name);
  }
  return all;
}

void check_freeze(const Job& job, const std::vector<ParameterFact>& parameters, Faults& faults) {
  for (std::size_t i = 0; i < job.freeze.size(); ++i) {
    const std::string& pattern = job.freeze[i];
    if (std::any_of(parameters.begin(), parameters.end(),
                    [&](const ParameterFact& one) { return freezes(pattern, one.name); }))
      continue;
    faults.add(job.position_of("freeze[" + std::to_string(i) + "]"),
               whose(job) + "freeze: " + in_quotes(pattern) + " is no parameter of model " +
                   in_quotes(job.model.name),
               "names as in the model's files, or what they begin with, * for any run of characters",
               near_names(pattern, beginnings(parameters)));
  }
  if (std::none_of(parameters.begin(), parameters.end(),
                   [&](const ParameterFact& one) { return is_trained(job, one.name); })) {
    faults.add(job.position_of("freeze"),
               whose(job) + "freeze leaves no parameter of model " + in_quotes(job.model.name) + " to train",
               "at least one that is trained", "name fewer");
  }
}

void check_lora(const Job& job, const std::vector<ParameterFact>& parameters, Faults& faults) {
  const Lora& lora = *job.lora;
  if (!job.freeze.empty()) {
    faults.add(job.position_of("freeze"),
               whose(job) + "freeze stands beside lora, which freezes every weight of the model",
               "one of them", "remove freeze");
  }
  if (lora.targets.empty()) {
    faults.add(job.position_of("lora"),
               whose(job) + "lora names no targets, and a " + job.model.family + " model has no usual ones",
               "targets", "add targets = [\"fc\"] or other linear maps");
    return;
  }
  std::vector<std::string> maps;
  for (const ParameterFact& one : parameters) {
    if (one.outputs < 0) continue;
    const std::string module = module_of(one.name);
    maps.push_back(module.substr(module.rfind('.') + 1));
  }
  for (std::size_t i = 0; i < lora.targets.size(); ++i) {
    const auto named = [&](const ParameterFact& one) { return is_target({lora.targets[i]}, one.name); };
    const auto found = std::find_if(parameters.begin(), parameters.end(), named);
    if (found != parameters.end() && found->outputs >= 0) continue;
    faults.add(job.position_of("lora.targets[" + std::to_string(i) + "]"),
               whose(job) + "lora: " + in_quotes(lora.targets[i]) +
                   (found == parameters.end() ? " is no module" : " is no linear map") + " of model " +
                   in_quotes(job.model.name),
               "the last part of a linear map's name", near_names(lora.targets[i], maps));
  }
}

// Which parameters are trained.
void check_trained(const Job& job, Faults& faults) {
  const std::vector<ParameterFact> parameters = parameters_of(job.model);
  if (parameters.empty()) return;
  if (job.lora)
    check_lora(job, parameters, faults);
  else if (!job.freeze.empty())
    check_freeze(job, parameters, faults);
}

void check_optimization(const Job& job, Faults& faults) {
  const Optimizer& optimizer = job.optimizer;
  const bool sgd = optimizer.kind == "sgd";
  if (optimizer.momentum != 0.0 && !sgd) {
    faults.add(job.position_of("optimizer.momentum"),
               whose(job) + "momentum = " + toml_text(optimizer.momentum) + " is set, and " + optimizer.kind +
                   " has none",
               "no momentum with kind = " + in_quotes(optimizer.kind),
               "remove it, or set betas = [" + toml_text(optimizer.momentum) + ", 0.999]");
  }
  if (optimizer.nesterov && (!sgd || optimizer.momentum == 0.0)) {
    faults.add(job.position_of("optimizer.nesterov"),
               whose(job) + "nesterov is set without a momentum to look along",
               "kind = \"sgd\" with a momentum", sgd ? "set momentum = 0.9" : "remove it");
  }
  for (const std::string key : {"betas", "eps"}) {
    const bool has_it = optimizer.kind == "adamw" || (optimizer.kind == "lion" && key == "betas");
    if (has_it || !job.positions.contains("optimizer." + key)) continue;
    faults.add(job.position_of("optimizer." + key),
               whose(job) + key + " is set, and " + optimizer.kind + " has none", "no " + key,
               "remove " + key);
  }
  if (optimizer.beta1 >= 1.0 || optimizer.beta2 >= 1.0) {
    faults.add(job.position_of("optimizer.betas"), whose(job) + "betas of 1 never forget",
               "two numbers below 1", "set betas = [0.9, 0.999]");
  }
  if (job.gradient_precision == "bf16" && job.precision != "bf16") {
    faults.add(job.position_of("gradient_precision"),
               whose(job) + "gradient_precision = \"bf16\" is set, and precision is " +
                   in_quotes(job.precision) + line_of(job, "precision"),
               "bf16 only with precision = \"bf16\": in fp32 every technique trains alike",
               "remove it, or set precision = \"bf16\"");
  }
  const Schedule& schedule = job.schedule;
  if (schedule.minimum_lr > optimizer.lr) {
    faults.add(job.position_of("schedule.minimum_lr"),
               whose(job) + "minimum_lr = " + toml_text(schedule.minimum_lr) +
                   " is above lr = " + toml_text(optimizer.lr) + line_of(job, "optimizer.lr"),
               "at most lr", "set minimum_lr = " + toml_text(optimizer.lr / 10));
  }
  const bool steps = schedule.kind == "step";
  if (steps && schedule.decay_every == 0) {
    faults.add(job.position_of("schedule.kind"), whose(job) + "schedule \"step\" has no decay_every",
               "decay_every = the steps between two decays", "add decay_every under [job.schedule]");
  }
  for (const char* key : {"decay_every", "decay_factor"}) {
    if (steps || !job.positions.contains(std::string("schedule.") + key)) continue;
    faults.add(
        job.position_of(std::string("schedule.") + key),
        whose(job) + key + " is set, and schedule " + in_quotes(schedule.kind) + " does not decay in steps",
        std::string(key) + " only with kind = \"step\"", std::string("remove ") + key);
  }
}

}  // namespace

void check_choices(const Job& job, const std::vector<TechniqueLibrary>& libraries, Faults& faults) {
  std::vector<std::string> known;
  for (const TechniqueSpec& spec : technique_specs()) known.push_back(spec.name);
  for (const TechniqueLibrary& library : libraries) known.push_back(library.name);
  for (std::size_t i = 0; i < job.techniques.size(); ++i) {
    const std::string& name = job.techniques[i];
    const SourcePosition at = job.position_of("techniques[" + std::to_string(i) + "]");
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      const bool designed = std::find(kDesignedTechniques.begin(), kDesignedTechniques.end(), name) !=
                            kDesignedTechniques.end();
      const std::string near = designed ? "" : did_you_mean(name, known);
      faults.add(at,
                 "job " + in_quotes(job.name) + " asks for technique " + in_quotes(name) +
                     (designed ? ", which is not in this build" : ", which does not exist"),
                 "some of " + listed(known),
                 near + (near.empty() ? "" : " ") + "`saturn techniques` describes each");
    } else if (std::find(job.techniques.begin(), job.techniques.begin() + static_cast<std::ptrdiff_t>(i),
                         name) != job.techniques.begin() + static_cast<std::ptrdiff_t>(i)) {
      faults.add(at, whose(job) + "technique " + in_quotes(name) + " is listed twice", "each technique once",
                 "remove one");
    }
  }
  for (std::size_t i = 0; i < job.devices.size(); ++i) {
    const auto here = job.devices.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(job.devices.begin(), here, job.devices[i]) == here) continue;
    faults.add(job.position_of("devices[" + std::to_string(i) + "]"),
               whose(job) + "device count " + std::to_string(job.devices[i]) + " is listed twice",
               "each count once", "remove one");
  }
}

void check_job(const Job& job, const ReadData* data, bool model_known, Faults& faults) {
  check_batch_size(job, faults);
  check_optimization(job, faults);
  if (data == nullptr || !data->usable) return;
  check_against_data(job, *data, faults);
  if (model_known) {
    check_objective(job, faults);
    check_trained(job, faults);
    check_against_model(job, data->source, faults);
  }
}

}  // namespace saturn::batch

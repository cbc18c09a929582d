// saturn validate: the expanded jobs of a batch, or all of its faults.

#include <algorithm>
#include <set>

#include "cli/command.h"
#include "cli/stage.h"
#include "saturn/base/units.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/check_devices.h"
#include "saturn/batch/identity.h"
#include "saturn/batch/samples.h"
#include "saturn/worker/catalogue.h"
#include "saturn/worker/gpu_probe.h"

namespace saturn::cli {
namespace {

using batch::Batch;
using batch::Job;

// Columns of equal width, two spaces between them, the last one ragged.
std::string columns(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const bool last = i + 1 == row.size();
      text += row[i] + (last ? "\n" : std::string(widths[i] - row[i].size() + 2, ' '));
    }
  }
  return text;
}

std::string joined(const std::vector<std::string>& names, const char* otherwise) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : " ") + name;
  return text.empty() ? otherwise : text;
}

std::string counts(const std::vector<int>& values) {
  std::string text;
  for (const int value : values) text += (text.empty() ? "" : " ") + std::to_string(value);
  return text.empty() ? "any" : text;
}

struct Counted {
  std::int64_t training_samples = 0;
  std::int64_t validation_samples = 0;
};

// Sample counts of each source; read_batch has shown that they can be counted.
Result<std::map<std::string, Counted>> count_samples(const Batch& batch) {
  std::map<std::string, Counted> all;
  for (const auto& [name, data] : batch.data) {
    SATURN_TRY(const batch::Split split, batch::split_of(data));
    all[name] = {split.num_training_samples, split.num_validation_samples};
  }
  return all;
}

Json as_json(const Batch& batch, const std::map<std::string, Counted>& samples) {
  Json document = {{"batch", batch.name}, {"path", batch.path}, {"digest", batch.digest}};
  Json& data = document["data"] = Json::array();
  for (const auto& [name, source] : batch.data) {
    Json one = to_json(source);
    one["num_training_samples"] = samples.at(name).training_samples;
    one["num_validation_samples"] = samples.at(name).validation_samples;
    data.push_back(std::move(one));
  }
  Json& jobs = document["jobs"] = Json::array();
  for (const Job& job : batch.jobs) {
    Json one = to_json(job);
    one["model"]["num_parameters"] = job.model.num_parameters;
    one["steps"] = batch::steps_of(job, batch.data.at(job.data), samples.at(job.data).training_samples);
    one["job_class"] = batch::speed_class(job, batch.data.at(job.data));
    one["at"] = job.position_of("").text();
    jobs.push_back(std::move(one));
  }
  return document;
}

std::string as_text(const Batch& batch, const std::map<std::string, Counted>& samples) {
  std::vector<std::vector<std::string>> rows = {
      {"job", "model", "parameters", "data", "steps", "batch", "lr", "precision", "techniques", "devices"}};
  std::set<std::string> classes;
  for (const Job& job : batch.jobs) {
    classes.insert(batch::speed_class(job, batch.data.at(job.data)));
    const std::int64_t steps =
        batch::steps_of(job, batch.data.at(job.data), samples.at(job.data).training_samples);
    rows.push_back({job.name, job.model.name, format_count(static_cast<double>(job.model.num_parameters)),
                    job.data, std::to_string(steps), std::to_string(job.batch_size),
                    format_number(job.optimizer.lr), job.precision, joined(job.techniques, "all"),
                    counts(job.devices)});
  }
  std::string text = columns(rows) + "\n";
  for (const auto& [name, source] : batch.data) {
    text +=
        "data " + name + ": " + std::to_string(samples.at(name).training_samples) + " training and " +
        std::to_string(samples.at(name).validation_samples) + " validation samples of " +
        (source.kind == batch::DataKind::images ? std::to_string(source.vocabulary_size) + " classes, " +
                                                      std::to_string(source.images.size) + " pixels a side\n"
                                                : std::to_string(source.sequence_length) + " tokens\n");
  }
  return text + "batch " + batch.name + ": " + std::to_string(batch.jobs.size()) +
         (batch.jobs.size() == 1 ? " job" : " jobs") + ", " + std::to_string(classes.size()) +
         " to measure, no fault\n";
}

struct Args {
  std::string path;

  void declare(Options& options) { options.positional("BATCH", path, "the batch file"); }

  Result<int> run(const Context& context) const {
    SATURN_TRY(const Batch batch, read_batch(path, context.quiet));
    SATURN_TRY(const devices::Machine machine,
               devices::detect_machine(batch.devices, worker::make_gpu_probe()));
    SATURN_TRY_VOID(worker::learn_techniques(batch, batch::device_groups(machine)));
    SATURN_TRY_VOID(batch::check_devices(batch, batch::device_groups(machine)));
    SATURN_TRY(const auto samples, count_samples(batch));
    if (context.json) {
      print_json(as_json(batch, samples));
    } else {
      print(as_text(batch, samples));
    }
    return 0;
  }
};

}  // namespace

CommandEntry validate() {
  return {.name = "validate",
          .summary = "Print the expanded jobs of a batch, or every fault in it.",
          .example = "saturn validate configs/kjv-sweep.toml",
          .declare = &make_action<Args>};
}

}  // namespace saturn::cli

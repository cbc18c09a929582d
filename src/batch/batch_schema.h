// The one declaration of the batch file: tables, keys, limits, defaults and help.

#pragma once

#include <optional>
#include <string>

#include "batch/schema_table.h"
#include "saturn/batch/batch.h"

namespace saturn::batch {

/// [data.NAME] as written; paths are resolved and sizes counted by `read_data`.
struct DataDraft {
  std::string kind;
  std::string path;
  std::string tokenizer = "bytes";
  std::string documents = "file";
  int sequence_length = 0;
  double validation_share = 0.1;
  std::string validation_path;
  int vocabulary_size = 0;
  int image_size = 0;
  int channels = 3;
  int resize = 0;
  std::vector<double> crop_area = {0.08, 1.0};
  std::string interpolation = "bilinear";
  bool flip = true;
  std::vector<double> mean;
  std::vector<double> std;
  int max_corrupt = 100;
  std::string labels;
};

/// [techniques.NAME] as written.
struct LibraryDraft {
  std::string library;
};

/// [[job]] at one point of its grid, before its model and data are looked up.
struct JobDraft {
  Job job;
  std::string model;
  std::optional<double> epochs;
  std::optional<std::int64_t> steps;
  std::optional<std::int64_t> tokens;
  std::optional<std::uint64_t> seed;
};

/// [job.random]: how many points, and from which seed.
struct RandomDraft {
  int samples = 0;
  std::optional<std::uint64_t> seed;
};

/// The root table. Targets of its tables: batch, devices, profile, plan, run, search: `Batch`'s members;
/// devices.node: NodeRequest; data: DataDraft; techniques: LibraryDraft; job: JobDraft; job.optimizer:
/// Optimizer; job.schedule: Schedule; job.lora: Lora; job.random: RandomDraft.
const TableSchema& batch_schema();

/// A table of the declaration by its path: "job.optimizer".
const TableSchema& schema_of(const std::string& path);

/// A key that a grid may vary: its place in the declaration.
struct HyperParameter {
  std::string table;  ///< "", "optimizer" or "schedule": within the job
  const KeySchema* key = nullptr;
  std::string name() const { return table.empty() ? key->name : table + "." + key->name; }
};

/// Finds "lr", "optimizer.lr" or "batch_size"; nothing where unknown or of several meanings (then
/// `candidates` of the fault message hold the full names).
std::optional<HyperParameter> find_hyper_parameter(const std::string& name);

/// Every name that `find_hyper_parameter` knows, short ones first.
std::vector<std::string> hyper_parameter_names();

}  // namespace saturn::batch

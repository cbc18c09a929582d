// A batch as its TOML file says, with every default filled in and every grid expanded.

#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"
#include "saturn/base/source_position.h"
#include "saturn/batch/model_spec.h"
#include "saturn/devices/request.h"

namespace saturn::batch {

/// Places of written values by key ("batch_size", "optimizer.lr"), for faults found after reading. A key of a
/// grid points at the value of its own point. Not part of a job's identity; never written to artefacts.
using Positions = std::map<std::string, SourcePosition>;

enum class DataKind { text, tokens, images };

/// How images become what a model reads. What torchvision's transforms of the same purpose do: a random
/// resized crop and a flip for training; for validation the shorter side is made `resize`, the centre cut.
struct ImageSettings {
  int size = 0;              ///< side of the square that the model reads, in pixels
  int channels = 3;          ///< 3: RGB; 1: grey
  int resize = 0;            ///< 0: `size`
  double least_area = 0.08;  ///< of a training crop, as a share of the image
  double most_area = 1.0;
  std::string interpolation = "bilinear";                 ///< of resizing: bilinear | bicubic
  bool flip = true;                                       ///< half of the training crops are mirrored
  std::vector<double> mean = {0.485, 0.456, 0.406};       ///< of each channel, of values from 0 to 1
  std::vector<double> deviation = {0.229, 0.224, 0.225};  ///< likewise
  int max_corrupt = 100;  ///< samples that cannot be read and are passed over; one more ends the job
  std::vector<std::string> classes;  ///< names by label

  bool operator==(const ImageSettings&) const = default;
};

/// One [data.NAME].
struct DataSource {
  std::string name;
  DataKind kind = DataKind::text;
  std::vector<std::string> files;  ///< absolute; samples come in this order; of images folders or shards
  std::vector<std::string> validation_files;  ///< empty = `validation_share` of `files` is held out
  double validation_share = 0.1;
  std::string tokenizer = "bytes";  ///< "bytes" for text, empty for tokens
  std::string documents = "file";   ///< of text, what is one: file | line | blank-line | jsonl
  int sequence_length = 0;  ///< tokens of a sample that are predicted; a sample reads one more. Images: 0
  /// 256 for bytes; tokens: as written, else 50257 (16 bit) or 128256 (32 bit); images: how many classes
  int vocabulary_size = 0;
  ImageSettings images;  ///< of images
  Positions positions;

  bool operator==(const DataSource& other) const;  ///< but for positions
};

struct Optimizer {
  std::string kind = "adamw";
  double lr = 0.0;
  double weight_decay = 0.01;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double momentum = 0.0;
  bool nesterov = false;
  double clip_norm = 0.0;  ///< global gradient norm; 0 = no clipping

  bool operator==(const Optimizer&) const = default;
};

struct Schedule {
  std::string kind = "constant";  ///< constant | linear | cosine | step
  int warmup_steps = 0;           ///< linear from 0 to lr
  double minimum_lr = 0.0;        ///< where linear and cosine end, and what step never goes below
  int decay_every = 0;            ///< step only: steps between decays
  double decay_factor = 0.1;      ///< step only

  bool operator==(const Schedule&) const = default;
};

/// Low-rank adapters: beside each weight W that `targets` name, the product of two small maps is trained, and
/// the layer sees W + alpha / rank * B A. All other weights stay as they are.
/// Source: Hu et al. 2021, as the `peft` package has it.
struct Lora {
  int rank = 8;
  double alpha = 8.0;
  std::vector<std::string> targets;  ///< last parts of names ("c_attn", "attn.qkv"); none: the family's usual
  std::string start;                 ///< absolute; a directory of PEFT's files to go on from; empty: anew

  bool operator==(const Lora&) const = default;
};

/// [techniques.NAME]: a technique from outside (train/technique_library.h).
struct TechniqueLibrary {
  std::string name;
  std::string path;    ///< absolute
  std::string digest;  ///< of the file
  SourcePosition position;

  bool operator==(const TechniqueLibrary& other) const;  ///< but for the position
};

/// How much a job trains: exactly one unit is written.
struct Amount {
  enum class Unit { epochs, steps, tokens };
  Unit unit = Unit::epochs;
  double value = 0.0;

  bool operator==(const Amount&) const = default;
};

/// One training run.
struct Job {
  std::string name;
  ModelSpec model;   ///< vocabulary settled with the data's
  std::string data;  ///< name of a DataSource of the batch
  Amount amount;
  int batch_size = 0;     ///< global, whatever the technique
  int micro_batches = 1;  ///< gradient accumulation: batch_size is split in so many parts
  std::string precision = "fp32";
  std::string gradient_precision = "fp32";  ///< between replicas; bf16: ddp may round what it sends
  double dropout = 0.0;
  double label_smoothing = 0.0;  ///< classification only
  bool new_head = false;  ///< of a stored classifier: the head starts at random, for the data's classes
  std::vector<std::string> freeze;          ///< patterns of parameters' names that are not trained
  std::optional<Lora> lora;                 ///< adapters are trained in place of the weights
  int evaluate_every = 0;                   ///< steps; 0 = at the end only
  std::vector<std::string> techniques;      ///< empty = all that apply
  std::vector<int> devices;                 ///< device counts; empty = all
  std::vector<TechniqueLibrary> libraries;  ///< of the batch, as far as `techniques` allow them
  Optimizer optimizer;
  Schedule schedule;
  std::uint64_t seed = 0;
  Positions positions;

  SourcePosition position_of(
      const std::string& key) const;        ///< of the job's table where `key` was not written
  bool operator==(const Job& other) const;  ///< but for positions
};

struct ProfileSettings {
  int warmup_steps = 2;
  int trial_steps = 6;
  double budget_s = 0.0;  ///< of the whole profile; 0 = none
  double trial_timeout_s = 300.0;
};

struct PlanSettings {
  std::string objective = "makespan";
  double time_limit_s = 10.0;
  double gap = 0.0;
  int iterations = 0;  ///< 0 = until the time limit
};

struct RunSettings {
  int checkpoint_every = 0;       ///< steps; 0 = none before the end
  double introspect_every_s = 0;  ///< 0 = never
  int max_moves = 3;              ///< of one job by introspection; 0 = what runs is never moved
  int max_restarts = 2;           ///< of one job
  int keep_checkpoints = 2;
  int log_every = 1;  ///< steps
};

/// [search]: which jobs train to their end is decided by what they reach on the way. Decisions are taken at
/// rungs, steps after which a job is validated (search/rungs.h); the last one is the job's end.
struct SearchSettings {
  std::string method;  ///< "asha", "median" or "ask"; empty = no search, every job trains to its end
  std::string metric = "validation_loss";
  std::string goal;                  ///< min | max, of the metric; settled by the reader
  int first_rung = 0;                ///< steps; 0 = no job is ever stopped
  int reduction_factor = 3;          ///< asha: one in so many goes on, so many times the steps further
  int rung_every = 0;                ///< median, ask: steps between rungs; 0 = `first_rung`
  int min_jobs = 3;                  ///< median: fewest others to compare with
  std::vector<std::string> command;  ///< ask: the program that proposes jobs, and its arguments
  int samples = 0;                   ///< ask: proposals in all
  int at_once = 0;                   ///< ask: proposals that are open at one time; 0 = one for each device
  double answer_timeout_s = 60.0;    ///< ask: of each answer
};

struct Batch {
  std::string name;
  std::uint64_t seed = 0;
  devices::DevicesRequest devices;
  std::map<std::string, DataSource> data;
  std::vector<TechniqueLibrary> libraries;
  std::vector<Job> jobs;  ///< expanded, in file order
  ProfileSettings profile;
  PlanSettings plan;
  RunSettings run;
  SearchSettings search;
  std::string path;     ///< as given
  std::string digest;   ///< of the file's content
  std::string text;     ///< the file's content, for the run directory's copy
  Positions positions;  ///< "run.max_restarts", "plan.time_limit", ...
};

/// Reads, expands and checks the whole file: also that data exist and are long enough, that models and
/// techniques exist, and that every value can work.
///
/// Errors: Kind::input; every fault of the file at once, each at path:line:col. Bounded in time and memory
/// whatever the file holds (4 MiB, 10,000 jobs).
Result<Batch> read_batch(const std::string& path);

/// What `assign` carries. `job_from_json(to_json(job)) == job`, and likewise for the data source.
Json to_json(const Job& job);
Json to_json(const DataSource& data);
Result<Job> job_from_json(const Json& document, const std::string& path);
Result<DataSource> data_source_from_json(const Json& document, const std::string& path);

const char* name_of(DataKind kind);
const char* name_of(Amount::Unit unit);

}  // namespace saturn::batch

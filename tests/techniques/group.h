// Trains the tiny model for some steps in real processes, one a rank, and brings back what they ended with.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "saturn/base/json.h"

namespace saturn::testing {

/// What a group of ranks is to do.
struct GroupRun {
  std::string technique = "single";
  int num_ranks = 1;
  Json knobs = Json::object();
  int batch_size = 8;
  int micro_batches = 1;
  int num_samples = 30;
  int sequence_length = 12;
  int num_steps = 1;
  double dropout = 0.0;
  double clip_norm = 0.0;
  std::string optimizer = "adamw";  ///< or sgd, with momentum
  double learning_rate = 3e-3;
  std::string precision = "fp32";
  std::string model;                    ///< a file of sizes, as a batch names one; empty: the tiny model of
  int width = 48;                       ///< this width
  int num_blocks = 2;                   ///< and depth
  std::int64_t memory_limit_bytes = 0;  ///< of each rank; 0 = none
  std::vector<std::string> freeze;      ///< as in a job
  int lora_rank = 0;                    ///< of adapters beside `lora_targets`; 0: none
  std::vector<std::string> lora_targets;
  std::string resume_from;
  std::string save_to;          ///< a checkpoint after the last step
  int kill_rank_at_step = -1;   ///< the last rank ends itself before this step
  bool break_gradient = false;  ///< the last rank multiplies one gradient by 1.01
};

struct GroupResult {
  std::vector<int> exit_codes;      ///< of each rank
  std::vector<std::string> errors;  ///< what each rank died of
  std::vector<double> losses;       ///< of each step
  std::vector<double> norms;
  double validation_loss = 0.0;
  double num_right = 0.0;  ///< of a classifier's validation samples
  /// "role/name", and "first_role/name" after the first step; whole, from what the ranks hold.
  std::map<std::string, std::vector<float>> state;
  double wall_s = 0.0;
  /// What each rank says of itself at its end: memory_peak_bytes, memory_held_bytes (then), knobs
  /// (tuned), measured.
  std::vector<Json> ranks;
};

GroupResult run_group(const GroupRun& run);

Json to_json(const GroupRun& run);
GroupRun group_run_from_json(const Json& json);

}  // namespace saturn::testing

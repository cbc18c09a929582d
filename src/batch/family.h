// One architecture as the controller knows it: its sizes, how they are named elsewhere, and how they count.

#pragma once

#include <map>
#include <string>
#include <vector>

#include "batch/schema_table.h"
#include "saturn/batch/fine_tune.h"
#include "saturn/batch/model_spec.h"

namespace saturn::batch {

/// A size that does not go with the others; `key` is the family's name of it.
struct SizeFault {
  std::string key;
  std::string what;
  std::string expected;
};

struct Family {
  const char* name;  ///< also Hugging Face's model_type
  const char* summary;
  TableSchema sizes;                               ///< target of its keys: the Json object of sizes
  Json defaults;                                   ///< every key in order; null where it must be written
  std::map<std::string, std::string> config_keys;  ///< size -> key of config.json
  /// Keys of config.json that change the model, with the only value this build has for each.
  std::map<std::string, Json> fixed_config;
  /// config.json with what lies nested as keys of its own, before it is read; null where nothing does.
  Result<Json> (*flat_config)(Json config, const std::string& path) = nullptr;
  std::vector<SizeFault> (*check)(const Json& sizes);
  /// Derived sizes, the counts, and the fields of `spec` that every family has.
  void (*settle)(ModelSpec& spec);
  /// Parameters that do no work per token: position embeddings, and an embedding that is not the head.
  std::int64_t (*idle_parameters)(const ModelSpec& spec);
  /// In the training library's order.
  std::vector<ParameterFact> (*parameters)(const ModelSpec& spec) = nullptr;
  /// Maps that get an adapter where a job names none: those of PEFT.
  std::vector<std::string> adapter_targets = {};
  /// Begins the names of a classifier's last map.
  const char* head_prefix = "";
  /// A layer takes statistics over all rows of a batch (BatchNorm): rows cannot then be computed apart.
  bool batch_statistics = false;
  /// Reads images and tells their class.
  bool reads_images = false;
  /// The size that the data decide where a preset leaves it open.
  const char* open_size = "vocabulary";
  /// Beside model_type, which many programs write: the value of `architecture` in timm's config.json begins
  /// so.
  const char* timm_prefix = nullptr;
  /// Operations of a forward pass over one sample, where 2 a parameter and position is not it; `image_size`
  /// is the data's.
  double (*forward_flops)(const ModelSpec& spec, int image_size) = nullptr;
  /// Values that the layers between the first and the head keep of one sample for backward, together.
  std::int64_t (*kept_values)(const ModelSpec& spec, int image_size) = nullptr;
};

const std::vector<Family>& families();
const Family* find_family(const std::string& name);

}  // namespace saturn::batch

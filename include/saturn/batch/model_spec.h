// What the controller knows of a model without building it: sizes, parameters, work per token.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/source_position.h"

namespace saturn::batch {

struct DataSource;

/// One model, from a preset of models/, a TOML file of sizes or a Hugging Face directory.
struct ModelSpec {
  std::string family;     ///< "gpt2": the name the training library knows the architecture by
  std::string name;       ///< preset name, or the last part of the path
  std::string directory;  ///< absolute path of a Hugging Face directory with weights; empty = random start
  /// Every size the family declares, defaults filled in, keys in declaration order (`family_keys`).
  /// gpt2: layers, heads, width, feed_forward, vocabulary, longest_sequence, layer_norm_epsilon,
  /// initializer_range, tied_head.
  Json sizes = Json::object();

  int num_layers = 0;
  int num_heads = 0;
  int width = 0;
  bool reads_images = false;  ///< and tells their class; otherwise it reads tokens and tells the next
  int vocabulary = 0;         ///< or classes; 0 until `with_data`, where the preset leaves it to the data
  int longest_sequence = 0;   ///< positions the model has; of images: what an image is cut into
  int image_size = 0;         ///< side of the images it reads; 0: any
  int channels = 0;           ///< of the images it reads
  std::int64_t num_parameters = 0;
  /// Parameters of the largest layer that a technique moves as one piece (a transformer block).
  std::int64_t num_layer_parameters = 0;

  bool operator==(const ModelSpec&) const = default;
};

/// Training work for one token of a sequence, forward and backward, recomputation not counted.
/// Source: 6 N + 12 layers width T, N without position embeddings (nanoGPT model.py, PaLM appendix B).
double flops_per_token(const ModelSpec& model, int sequence_length);

/// The same for a whole sample of `data`: a sequence, or an image.
double flops_per_sample(const ModelSpec& model, const DataSource& data);

/// Positions that a layer computes for a sample of `data`: its tokens, or what an image is cut into.
std::int64_t positions_of_sample(const ModelSpec& model, const DataSource& data);

/// Why a tensor group of `num_ranks` ranks cannot split the attention of `model`; nothing where it can.
std::optional<std::string> head_split_refusal(const ModelSpec& model, int num_ranks);

/// Reads `model` as a batch writes it: a preset, else a path relative to `base_directory`.
///
/// Errors: every fault of the file at its line; an unknown name with the nearest preset, at `asked_at`.
Result<ModelSpec> find_model(const std::string& model, const std::string& base_directory,
                             const SourcePosition& asked_at);

/// The same model with the data's vocabulary where the preset names none; parameters are counted again.
ModelSpec with_vocabulary(ModelSpec model, int data_vocabulary);

/// `with_vocabulary` of `data`, and the size and channels of its images where the model leaves them open.
/// `new_head`: the data's classes even where the model has its own.
ModelSpec with_data(ModelSpec model, const DataSource& data, bool new_head);

/// Every preset, family by family in file order. Errors: a models folder that is missing or wrong.
Result<std::vector<ModelSpec>> presets();

/// models/ of the source tree, or share/saturn/models beside the executable; $SATURN_MODELS goes first.
std::string models_directory();

Json to_json(const ModelSpec& model);
/// Exact inverse of `to_json`; faults are added at `reader`'s pointers.
ModelSpec model_spec_from_json(JsonReader reader);

}  // namespace saturn::batch

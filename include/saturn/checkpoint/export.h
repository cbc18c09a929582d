// A trained model out of a run, as other programs load it.

#pragma once

#include <cstdint>
#include <string>

#include "saturn/base/result.h"
#include "saturn/formats/safetensors.h"

namespace saturn::checkpoint {

struct ExportRequest {
  std::string model_directory;  ///< a job's final weights, config.json and tokenizer files
  std::string checkpoint;       ///< take the weights of this checkpoint instead; empty: the final ones
  formats::Dtype dtype = formats::Dtype::f32;  ///< f32, bf16 or f16
  std::string into;                            ///< must not exist, or be empty
  std::string
      adapter_directory;      ///< of a job that trained adapters: what it wrote beside its model; else empty
  bool only_adapter = false;  ///< as PEFT loads it beside the model that the job began with
};

struct Exported {
  std::int64_t num_tensors = 0;
  std::int64_t num_parameters = 0;
};

/// Writes sharded safetensors in the dtype asked for, config.json that names it, and every other small file
/// of the model directory (tokenizers) as it is. A checkpoint is verified first, byte by byte. One tensor is
/// held at a time. Of a checkpoint with adapters the weights are those that the layers see, or with
/// `only_adapter` adapter_model.safetensors and adapter_config.json are written in place of the model.
///
/// Errors: Kind::input for a model or checkpoint that cannot be read, tensors that one has and the other has
/// not, a number that f16 cannot hold, `into` that holds something; Kind::disk_full.
Result<Exported> export_model(const ExportRequest& request);

}  // namespace saturn::checkpoint

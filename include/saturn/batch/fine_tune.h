// What of a model a job trains: parameters by name and place, those that are frozen, and adapters.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "saturn/base/result.h"
#include "saturn/batch/batch.h"

namespace saturn::batch {

/// One parameter of a model, as the training library declares it.
struct ParameterFact {
  std::string name;
  std::vector<std::int64_t> shape;
  int layer = 0;     ///< 0: embedding, then the blocks, then the head
  int outputs = -1;  ///< of a linear map's weight, the dimension of its outputs: it can have an adapter

  std::int64_t num_elements() const;
};

/// In the training library's order; empty for a family that this build does not know.
std::vector<ParameterFact> parameters_of(const ModelSpec& model);

/// The targets that PEFT takes where none are named; empty where it has none for the family.
std::vector<std::string> usual_targets(const std::string& family);

/// Whether `pattern` names `parameter`, or what its name begins with up to a dot; * is any run of characters.
bool freezes(const std::string& pattern, const std::string& parameter);

/// Whether `targets` name the module that `parameter` is the weight of: its whole name, or what it ends in
/// behind a dot.
bool is_target(const std::vector<std::string>& targets, const std::string& parameter);

/// The module that `parameter` belongs to: its name without the last part.
std::string module_of(const std::string& parameter);

/// Whether `parameter` of the model itself is trained under the job's `freeze`, `lora` and `new_head`.
bool is_trained(const Job& job, const std::string& parameter);

/// What begins the names of the family's classification head; empty where there is none.
std::string head_prefix(const std::string& family);

inline constexpr const char* kAdapterConfig = "adapter_config.json";
inline constexpr const char* kAdapterFile = "adapter_model.safetensors";

/// adapter_config.json of `directory`, for a model of `family`.
///
/// Errors: Kind::input: a file that cannot be read, another method than LoRA, or a kind of LoRA whose sums
/// this build does not compute (rslora, DoRA, ranks by pattern, biases, other modules saved).
Result<Lora> read_adapter_config(const std::string& directory, const std::string& family);

/// adapter_config.json as PEFT reads it. `base` names the model that the adapter belongs to.
Json adapter_config(const Lora& lora, const std::string& family, const std::string& base,
                    const std::vector<std::string>& modules_to_save);

/// PEFT's names of an adapter's two maps, and of a weight of the model that is saved beside them, in its
/// file.
std::string peft_name(const std::string& parameter);

}  // namespace saturn::batch

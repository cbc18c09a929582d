// `saturn eval` of a classifier, and what it shares with that of a language model.

#pragma once

#include <memory>

#include "saturn/batch/model_spec.h"
#include "saturn/train/model.h"
#include "saturn/worker/evaluate.h"

namespace saturn::train {

/// The model of `spec.directory` with its weights, in fp32 on the CPU.
Result<std::unique_ptr<Model>> open_stored_model(const batch::ModelSpec& spec);

/// Writes `logits`, in fp32 on the CPU, as the one tensor of the safetensors file `path`.
Result<void> write_logits(const at::Tensor& logits, const std::string& path);

/// Errors: Kind::input where it is not finite, at the directory of the model.
Result<double> mean_loss(double sum, std::int64_t count, const batch::ModelSpec& spec);

Result<worker::Evaluation> evaluate_images(const worker::EvaluateRequest& request,
                                           const batch::ModelSpec& spec);

}  // namespace saturn::train

// Activation checkpointing: a block keeps its input alone and runs again when its gradient is asked for.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <functional>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"
#include "saturn/train/model.h"

namespace saturn::train {

/// Which layers run again in backward: none, every second block, or every block. The first layer and the head
/// always keep what they need, which is little: their operators are written to.
enum class Checkpointing { none, selective, full };

/// The knob "checkpointing" ("none" where absent).
Result<Checkpointing> checkpointing_of(const Json& knobs);

/// Whether `layer` (an index into `model.layers`) runs again in backward.
bool runs_again(Checkpointing checkpointing, const Model& model, std::size_t layer);

/// A part of a forward; `again`: in backward, to make its graph once more.
using RunOfInput = std::function<at::Tensor(const at::Tensor& input, bool again)>;

/// `layer`'s forward in `context`. Both the layer and what the context points to outlive it.
RunOfInput run_of(Layer& layer, const StepContext& context);

/// `run(input)`, of which autograd keeps the input alone. `weights` are all tensors with a gradient that
/// `run` uses besides its input; `run` must give the same bits each time (dropout by counters does).
at::Tensor recomputed(RunOfInput run, const at::Tensor& input, const std::vector<at::Tensor>& weights);

}  // namespace saturn::train

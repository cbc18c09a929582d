// The loss of a stored model over a file of tokens or over images, without a batch around it.

#pragma once

#include "saturn/base/result.h"
#include "saturn/worker/evaluate.h"

namespace saturn::train {

/// Reads the file in consecutive sequences of `request.sequence_length` tokens, the last one shorter where
/// they do not divide; each predicts its next token, from the tokens of its own sequence.
///
/// Images are prepared as validation images are.
///
/// `request.logits` receives a safetensors file with `logits` [S, T, V] in fp32: the first S <= 8 whole
/// sequences; of images [S, V]: the first 64. Errors: Kind::input for a model or a file that cannot be used,
/// Kind::machine where memory is short.
Result<worker::Evaluation> evaluate(const worker::EvaluateRequest& request);

}  // namespace saturn::train

// What `saturn eval` asks of the training library, and what it answers; both cross as JSON text.

#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "saturn/base/json.h"
#include "saturn/base/result.h"

namespace saturn::worker {

/// A model directory as Hugging Face lays it out, and a file to read through it.
struct EvaluateRequest {
  std::string model_directory;
  std::string text;         ///< path of a text file, in the model's own tokenizer or else as bytes, or
  std::string tokens;       ///< path of a token shard, or
  std::string images;       ///< path of a folder with one folder for each class, or of a tar shard
  std::int64_t resize = 0;  ///< of images: see batch::ImageSettings; 0: as the model's config.json says
  std::int64_t sequence_length = 0;  ///< tokens read at once; 0: as many as the model has positions
  std::string logits;                ///< path to write the first sequences' logits to; empty: none

  bool operator==(const EvaluateRequest&) const = default;
};

struct Evaluation {
  double loss = 0.0;  ///< mean over `count` predicted tokens, in nats
  double perplexity = 0.0;
  std::optional<double> accuracy;  ///< of classifiers, instead of the perplexity
  std::optional<double> accuracy_top5;
  std::int64_t count = 0;
  std::int64_t sequence_length = 0;

  bool operator==(const Evaluation&) const = default;
};

Json to_json(const EvaluateRequest& request);
Result<EvaluateRequest> evaluate_request_from_json(const std::string& text);

/// An evaluation, or the faults in its place.
std::string reply_text(const Result<Evaluation>& reply);
Result<Evaluation> evaluation_from_reply(const std::string& text);

}  // namespace saturn::worker

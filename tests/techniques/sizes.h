// Files of sizes for transformers that train in a second: what a batch names as `model`.

#pragma once

#include <doctest/doctest.h>

#include <string>

#include "saturn/base/files.h"
#include "tests/support/temporary_directory.h"

namespace saturn::testing {

struct SmallModel {
  std::string family = "gpt2";
  int heads = 12;
  int rotary_size = 0;  ///< gptj
  int kv_heads = 0;     ///< llama: of keys and values
  bool tied = true;     ///< gpt2: the head is the embedding's table
  int vocabulary = 64;
  int feed_forward = 96;
};

/// Two blocks of width 48 for at most 16 tokens; the file's path.
inline std::string write_sizes(const TemporaryDirectory& directory, const SmallModel& model) {
  const std::string path = directory.file(model.family + ".toml");
  std::string text =
      "family = \"" + model.family +
      "\"\nlayers = 2\nwidth = 48\nlongest_sequence = 16\nheads = " + std::to_string(model.heads) +
      "\nvocabulary = " + std::to_string(model.vocabulary) +
      "\nfeed_forward = " + std::to_string(model.feed_forward) + "\n";
  if (model.rotary_size > 0) text += "rotary_size = " + std::to_string(model.rotary_size) + "\n";
  if (model.kv_heads > 0) text += "kv_heads = " + std::to_string(model.kv_heads) + "\n";
  if (model.family == "gpt2") text += std::string("tied_head = ") + (model.tied ? "true" : "false") + "\n";
  REQUIRE(write_whole(path, text).ok());
  return path;
}

}  // namespace saturn::testing

// Text files as token shards, made once and kept by content.

#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "saturn/base/result.h"
#include "saturn/text/tokenizer.h"

namespace saturn::text {

/// Told at intervals while a file is encoded.
using CorpusProgress =
    std::function<void(const std::string& path, std::uint64_t num_bytes_done, std::uint64_t num_bytes)>;

/// A tokenizer with what its tokens are kept under.
struct Encoder {
  const Tokenizer* tokenizer = nullptr;
  std::string digest;  ///< of the tokenizer's files
  int num_threads = 1;
  CorpusProgress progress;
  std::string documents = "file";  ///< what of a file is one: file, line, blank-line, jsonl
};

/// The shard with the tokens of the text file at `path`, whose content has the digest `text_digest`: from the
/// cache, or made now. The end-of-text token, where there is one, follows every document: a file; a line that
/// is not empty; lines up to one that is blank; the string "text" of the object in each line.
///
/// Shards are in llm.c's form, of 16 bits where the vocabulary allows, under $XDG_CACHE_HOME/saturn/tokens or
/// ~/.cache/saturn/tokens.
///
/// Errors: Kind::input at `path`: not a file, empty, not UTF-8, changed meanwhile, too long for one shard, a
/// line that is no such object, no document, documents to tell apart and no token to do it with;
/// Kind::disk_full.
Result<std::string> tokens_of_file(const std::string& path, const std::string& text_digest,
                                   const Encoder& encoder);

}  // namespace saturn::text

// A byte-level BPE tokenizer as its files describe it.

#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "saturn/text/tokenizer.h"
#include "text/byte_pairs.h"
#include "text/splitter.h"

namespace saturn::text {

struct AddedToken {
  std::string content;
  Token token = 0;
};

/// Everything that decides what a byte-level tokenizer encodes.
struct ByteLevelParts {
  std::vector<std::pair<std::string, Token>> vocabulary;  ///< spelled in the byte-level alphabet
  std::vector<std::pair<std::string, std::string>> merges;
  std::vector<AddedToken> added;    ///< found in the text before anything else, the longest first
  std::vector<Splitter> splitters;  ///< each cuts the pieces of the one before
  bool prefix_space = false;        ///< a text that does not begin with a space is given one
  bool ignore_merges = false;       ///< words that are in the vocabulary are not merged
};

/// Errors: Kind::input at `where`: a byte without a token, a merge of tokens that do not exist, tokens that
/// are negative or not unique.
Result<std::unique_ptr<Tokenizer>> make_byte_level(ByteLevelParts parts, const std::string& where);

}  // namespace saturn::text

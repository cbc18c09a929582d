// Readers of the files that describe a tokenizer, one for each form.

#pragma once

#include <memory>
#include <string>

#include "saturn/text/tokenizer.h"

namespace saturn::text {

/// Hugging Face's tokenizer.json.
Result<std::unique_ptr<Tokenizer>> read_tokenizer_json(const std::string& path);

/// GPT-2's vocab.json and merges.txt.
Result<std::unique_ptr<Tokenizer>> read_vocabulary_and_merges(const std::string& vocabulary_path,
                                                              const std::string& merges_path);

/// A SentencePiece model.
Result<std::unique_ptr<Tokenizer>> read_sentence_piece(const std::string& path);

/// The fault of a text whose byte `at` is not UTF-8.
Diagnostic not_utf8(std::string_view text, std::uint64_t at);

}  // namespace saturn::text

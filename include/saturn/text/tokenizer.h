// Text to tokens as the ecosystem's own tokenizers do it, from their own files.

#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "saturn/base/result.h"

namespace saturn::text {

using Token = std::int32_t;
using Tokens = std::vector<Token>;

/// Takes the next tokens of a text, in order, and how many bytes of it are done. Called from the thread that
/// encodes; a fault ends the encoding.
using TokenSink = std::function<Result<void>(std::span<const Token> tokens, std::uint64_t num_bytes_done)>;

/// Immutable; any number of threads may encode at once.
///
/// Nothing is added around a text (no beginning-of-text, no end-of-text): a corpus is one stream.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// One more than the largest token there is, added tokens included.
  virtual Token vocabulary_size() const = 0;

  /// The token that ends a document; absent where the tokenizer has none.
  virtual std::optional<Token> end_of_text() const = 0;

  /// Encodes `text` with up to `num_threads` threads, in memory that does not grow with the text. The tokens
  /// do not depend on the number of threads.
  ///
  /// Errors: Kind::input where `text` is not UTF-8, with the position of the byte; what `sink` returns.
  virtual Result<void> encode(std::string_view text, int num_threads, const TokenSink& sink) const = 0;

  /// The bytes of `tokens`; a token that does not exist gives nothing. One token may hold part of a
  /// character.
  virtual std::string decode(std::span<const Token> tokens) const = 0;

  /// All tokens of a text that fits in memory, by this thread alone.
  Result<Tokens> encode(std::string_view text) const;
};

/// Opens a tokenizer.json, a vocab.json with the merges.txt beside it, a SentencePiece model (*.model), or a
/// directory that holds one of them, looked for in this order.
///
/// Errors: Kind::input, at the file and the JSON pointer: missing, malformed, or of a kind that would not be
/// encoded exactly as its own library does; every fault says what is supported.
Result<std::unique_ptr<Tokenizer>> open_tokenizer(const std::string& path);

/// The files that decide what `open_tokenizer(path)` encodes, for digests and for copies beside a model.
Result<std::vector<std::string>> tokenizer_files(const std::string& path);

/// Position of the first byte of `text` that is not part of valid UTF-8 (RFC 3629); nothing where all is
/// valid.
std::optional<std::uint64_t> first_invalid_utf8(std::string_view text);

}  // namespace saturn::text

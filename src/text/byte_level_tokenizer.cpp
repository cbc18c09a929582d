// Encoding with a byte-level BPE tokenizer: added tokens, pieces, merges; long texts in chunks by threads.

#include "text/byte_level_tokenizer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <thread>
#include <unordered_map>

#include "saturn/base/nearest.h"
#include "text/byte_level.h"
#include "text/tokenizer_files.h"

namespace saturn::text {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 20;
constexpr std::size_t kLongestLine = std::size_t{1} << 16;  // how far a chunk looks for a line to begin at

bool is_space(char c) {
  return c == ' ' || (c >= '\t' && c <= '\r');
}

/// What one thread needs.
class Worker {
 public:
  Worker(const std::vector<Splitter>& splitters, const BytePairs& pairs) : pairs_(&pairs) {
    for (const Splitter& splitter : splitters) matchers_.emplace_back(splitter);
  }

  /// Encodes the pieces of `text` from `from` on until one ends at or beyond `to`, and returns that end.
  Result<std::size_t> encode(std::string_view text, std::size_t from, std::size_t to, Tokens& tokens) {
    while (from < to) {
      SATURN_TRY(const std::size_t end, matchers_.front().end_of_piece(text, from));
      SATURN_TRY_VOID(encode_piece(text.substr(from, end - from), 1, tokens));
      from = end;
    }
    return from;
  }

 private:
  Result<void> encode_piece(std::string_view piece, std::size_t splitter, Tokens& tokens) {
    if (splitter == matchers_.size()) {
      pairs_->encode(piece, memory_, tokens);
      return {};
    }
    for (std::size_t from = 0; from < piece.size();) {
      SATURN_TRY(const std::size_t end, matchers_[splitter].end_of_piece(piece, from));
      SATURN_TRY_VOID(encode_piece(piece.substr(from, end - from), splitter + 1, tokens));
      from = end;
    }
    return {};
  }

  const BytePairs* pairs_;
  std::vector<Splitter::Matcher> matchers_;
  BytePairs::Memory memory_;
};

/// A part of a text that one thread encodes without waiting for the part before it.
struct Chunk {
  std::size_t from = 0;
  std::size_t to = 0;   // the next chunk's beginning
  std::size_t end = 0;  // where its last piece ended
  Tokens tokens;
  Diagnostics faults;
};

class ByteLevelTokenizer final : public Tokenizer {
 public:
  ByteLevelTokenizer(ByteLevelParts parts, BytePairs pairs, std::vector<std::string> bytes)
      : added_(std::move(parts.added)),
        splitters_(std::move(parts.splitters)),
        prefix_space_(parts.prefix_space),
        pairs_(std::move(pairs)),
        bytes_(std::move(bytes)) {
    std::sort(added_.begin(), added_.end(),
              [](const AddedToken& a, const AddedToken& b) { return a.content.size() > b.content.size(); });
    for (const AddedToken& one : added_)
      begins_added_[static_cast<unsigned char>(one.content.front())] = true;
    const auto find = [&](const std::string& content) -> std::optional<Token> {
      for (std::size_t i = 0; i < bytes_.size(); ++i)
        if (bytes_[i] == content) return static_cast<Token>(i);
      return std::nullopt;
    };
    for (const char* name : {"<|endoftext|>", "<|end_of_text|>", "</s>"})
      if (!end_of_text_) end_of_text_ = find(name);
  }

  Token vocabulary_size() const override { return static_cast<Token>(bytes_.size()); }
  std::optional<Token> end_of_text() const override { return end_of_text_; }

  Result<void> encode(std::string_view text, int num_threads, const TokenSink& sink) const override {
    if (const auto invalid = first_invalid_utf8(text)) return not_utf8(text, *invalid);
    std::vector<Worker> workers;
    for (int i = 0; i < std::max(1, num_threads); ++i) workers.emplace_back(splitters_, pairs_);
    std::size_t at = 0;
    while (at < text.size()) {
      std::size_t end = at;
      const AddedToken* const added = next_added(text, end);
      SATURN_TRY_VOID(encode_plain(text.substr(at, end - at), at, workers, sink));
      at = end;
      if (added == nullptr) break;
      at += added->content.size();
      SATURN_TRY_VOID(sink(std::span(&added->token, 1), at));
    }
    return {};
  }

  std::string decode(std::span<const Token> tokens) const override {
    std::string text;
    for (const Token token : tokens)
      if (token >= 0 && token < vocabulary_size()) text += bytes_[static_cast<std::size_t>(token)];
    return text;
  }

 private:
  /// The added token that is next from `at` on, which is moved to it; else to the end.
  const AddedToken* next_added(std::string_view text, std::size_t& at) const {
    if (added_.empty()) {
      at = text.size();
      return nullptr;
    }
    for (; at < text.size(); ++at) {
      if (!begins_added_[static_cast<unsigned char>(text[at])]) continue;
      for (const AddedToken& one : added_)
        if (text.substr(at).starts_with(one.content)) return &one;
    }
    return nullptr;
  }

  /// `text` holds no added token and lies `offset` bytes into the whole.
  Result<void> encode_plain(std::string_view text, std::size_t offset, std::vector<Worker>& workers,
                            const TokenSink& sink) const {
    if (text.empty()) return {};
    std::string with_space;
    if (prefix_space_ && text.front() != ' ') {
      with_space = ' ' + std::string(text);
      text = with_space;
    }
    std::size_t at = 0;
    while (at < text.size()) {
      std::vector<Chunk> chunks = chunks_from(text, at, workers.size() * 4);
      encode_chunks(text, chunks, workers);
      for (Chunk& chunk : chunks) {
        if (chunk.from != at) {
          // The piece before went on beyond the place where this chunk was cut: what it made does not hold.
          if (at >= chunk.to) continue;
          chunk.tokens.clear();
          chunk.faults.clear();
          SATURN_TRY(chunk.end, workers.front().encode(text, at, chunk.to, chunk.tokens));
        }
        if (!chunk.faults.empty()) return chunk.faults;
        at = chunk.end;
        SATURN_TRY_VOID(sink(chunk.tokens, offset + at - (with_space.empty() ? 0 : 1)));
      }
    }
    return {};
  }

  /// Cuts where a line begins, which pieces seldom cross; any cut would do, at the price of encoding twice.
  static std::vector<Chunk> chunks_from(std::string_view text, std::size_t at, std::size_t most) {
    std::vector<Chunk> chunks;
    while (at < text.size() && chunks.size() < most) {
      std::size_t to = std::min(text.size(), at + kChunkBytes);
      const std::size_t furthest = std::min(text.size(), to + kLongestLine);
      while (to < furthest && !(text[to - 1] == '\n' && !is_space(text[to]))) ++to;
      while (to < text.size() && (static_cast<unsigned char>(text[to]) & 0xc0) == 0x80) ++to;
      chunks.push_back({.from = at, .to = to});
      at = to;
    }
    return chunks;
  }

  static void encode_chunks(std::string_view text, std::vector<Chunk>& chunks, std::vector<Worker>& workers) {
    std::atomic<std::size_t> next{0};
    const auto work = [&](Worker& worker) {
      for (std::size_t i = next++; i < chunks.size(); i = next++) {
        Chunk& chunk = chunks[i];
        chunk.tokens.reserve((chunk.to - chunk.from) / 3);
        Result<std::size_t> end = worker.encode(text, chunk.from, chunk.to, chunk.tokens);
        if (end.ok()) {
          chunk.end = *end;
        } else {
          chunk.faults = std::move(end).faults();
        }
      }
    };
    std::vector<std::jthread> threads;
    for (std::size_t i = 1; i < std::min(workers.size(), chunks.size()); ++i)
      threads.emplace_back([&work, &workers, i] { work(workers[i]); });
    work(workers.front());
  }

  std::vector<AddedToken> added_;
  std::array<bool, 256> begins_added_{};
  std::vector<Splitter> splitters_;
  bool prefix_space_;
  BytePairs pairs_;
  std::vector<std::string> bytes_;  // of each token
  std::optional<Token> end_of_text_;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> make_byte_level(ByteLevelParts parts, const std::string& where) {
  constexpr Token kLargestToken = 1 << 24;
  Diagnostics faults;
  const auto refuse = [&](std::string what, std::string expected) {
    faults.push_back({.where = where, .what = std::move(what), .expected = std::move(expected)});
  };
  Token largest = -1;
  for (const auto& [spelling, token] : parts.vocabulary) {
    if (token < 0 || token > kLargestToken)
      refuse("token " + in_quotes(spelling) + " is number " + std::to_string(token),
             "numbers from 0 to " + std::to_string(kLargestToken));
    largest = std::max(largest, token);
  }
  for (const AddedToken& added : parts.added) {
    if (added.token < 0 || added.token > kLargestToken || added.content.empty())
      refuse("added token " + in_quotes(added.content) + " is number " + std::to_string(added.token),
             "a text, and a number from 0 to " + std::to_string(kLargestToken));
    largest = std::max(largest, added.token);
  }
  if (!faults.empty()) return faults;

  std::unordered_map<std::string, Token> tokens;
  std::vector<std::string> bytes(static_cast<std::size_t>(largest) + 1);
  std::vector<bool> taken(bytes.size());
  tokens.reserve(parts.vocabulary.size());
  for (const auto& [spelling, token] : parts.vocabulary) {
    const auto spelled = bytes_of_spelling(spelling);
    if (taken[static_cast<std::size_t>(token)])
      refuse("two tokens are number " + std::to_string(token), "a number of its own for each");
    taken[static_cast<std::size_t>(token)] = true;
    // A spelling outside the alphabet is met as an added token or never.
    bytes[static_cast<std::size_t>(token)] = spelled.value_or(spelling);
    if (spelled) tokens.emplace(*spelled, token);
  }
  for (const AddedToken& added : parts.added) bytes[static_cast<std::size_t>(added.token)] = added.content;

  std::array<Token, 256> byte_tokens{};
  for (int byte = 0; byte < 256; ++byte) {
    const auto at = tokens.find(std::string(1, static_cast<char>(byte)));
    if (at == tokens.end()) {
      refuse("byte " + std::to_string(byte) + " has no token", "a token for every byte");
      break;
    }
    byte_tokens[static_cast<std::size_t>(byte)] = at->second;
  }
  std::vector<Merge> merges;
  merges.reserve(parts.merges.size());
  for (const auto& [left, right] : parts.merges) {
    const auto token_of = [&](const std::string& spelling) -> std::optional<Token> {
      const auto spelled = bytes_of_spelling(spelling);
      const auto at = spelled ? tokens.find(*spelled) : tokens.end();
      return at == tokens.end() ? std::nullopt : std::optional(at->second);
    };
    const auto a = token_of(left);
    const auto b = token_of(right);
    const auto both = token_of(left + right);
    if (!a || !b || !both) {
      refuse("merge " + std::to_string(merges.size() + 1) + ", " + in_quotes(left + " " + right) +
                 ", is of tokens that the vocabulary does not have",
             "merges of tokens into a token");
      break;
    }
    merges.push_back({*a, *b, *both});
  }
  if (!faults.empty()) return faults;
  BytePairs pairs(byte_tokens, merges, parts.ignore_merges ? std::move(tokens) : decltype(tokens){});
  return std::unique_ptr<Tokenizer>(
      std::make_unique<ByteLevelTokenizer>(std::move(parts), std::move(pairs), std::move(bytes)));
}

}  // namespace saturn::text

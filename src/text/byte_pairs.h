// Byte-pair encoding of one word: bytes that are merged by rank, lowest and leftmost first.

#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "saturn/text/tokenizer.h"

namespace saturn::text {

/// Two tokens that become one; those given first merge first.
struct Merge {
  Token left = 0;
  Token right = 0;
  Token merged = 0;
};

class BytePairs {
 public:
  /// `byte_tokens`: the token of each single byte. `whole_words`: words that are tokens without merging
  /// ("ignore_merges"); empty where every word is merged.
  BytePairs(const std::array<Token, 256>& byte_tokens, const std::vector<Merge>& merges,
            std::unordered_map<std::string, Token> whole_words);

  /// Words met before, for one thread.
  class Memory {
   public:
    Memory() : entries_(kNumEntries) {}

   private:
    friend class BytePairs;
    static constexpr std::size_t kNumEntries = std::size_t{1} << 14;
    static constexpr std::size_t kMaxBytes = 24;
    static constexpr std::size_t kMaxTokens = 6;
    struct Entry {
      std::uint8_t num_bytes = 0;
      std::uint8_t num_tokens = 0;
      std::array<char, kMaxBytes> bytes{};
      std::array<Token, kMaxTokens> tokens{};
    };
    std::vector<Entry> entries_;
    std::vector<std::int64_t> symbols_;
  };

  /// Appends the tokens of `word`, which is not empty.
  void encode(std::string_view word, Memory& memory, Tokens& tokens) const;

 private:
  struct Found {
    std::int32_t rank;
    Token merged;
  };
  struct Slot {
    std::uint64_t pair;
    Found found;
  };
  static constexpr std::int32_t kNoMerge = INT32_MAX;

  Found find(Token left, Token right) const;
  void merge_short(std::string_view word, Tokens& tokens) const;
  void merge_long(std::string_view word, Tokens& tokens) const;

  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };

  std::array<Token, 256> byte_tokens_;
  std::vector<Slot> slots_;  // open addressing, a power of two, at most half full
  std::uint64_t mask_ = 0;
  std::unordered_map<std::string, Token, Hash, std::equal_to<>> whole_words_;
};

}  // namespace saturn::text

// Merging the bytes of a word, in place for short words, by a heap for long ones.

#include "text/byte_pairs.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <queue>
#include <tuple>

#include "saturn/base/random.h"

namespace saturn::text {
namespace {

constexpr std::size_t kShortWord = 48;  // bytes; up to here a scan of all pairs beats the heap
constexpr std::uint64_t kEmpty = ~std::uint64_t{0};

std::uint64_t pair_of(Token left, Token right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

}  // namespace

BytePairs::BytePairs(const std::array<Token, 256>& byte_tokens, const std::vector<Merge>& merges,
                     std::unordered_map<std::string, Token> whole_words)
    : byte_tokens_(byte_tokens) {
  slots_.assign(std::bit_ceil(std::max<std::size_t>(16, merges.size() * 2)), {kEmpty, {kNoMerge, 0}});
  mask_ = slots_.size() - 1;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::uint64_t pair = pair_of(merges[rank].left, merges[rank].right);
    std::uint64_t at = mix64(pair) & mask_;
    while (slots_[at].pair != kEmpty && slots_[at].pair != pair) at = (at + 1) & mask_;
    // A pair given twice has the rank given last, as in a map filled in order.
    slots_[at] = {pair, {static_cast<std::int32_t>(rank), merges[rank].merged}};
  }
  for (auto& [word, token] : whole_words) whole_words_.emplace(word, token);
}

BytePairs::Found BytePairs::find(Token left, Token right) const {
  const std::uint64_t pair = pair_of(left, right);
  for (std::uint64_t at = mix64(pair) & mask_;; at = (at + 1) & mask_) {
    if (slots_[at].pair == pair) return slots_[at].found;
    if (slots_[at].pair == kEmpty) return {kNoMerge, 0};
  }
}

void BytePairs::encode(std::string_view word, Memory& memory, Tokens& tokens) const {
  if (word.size() == 1) {
    tokens.push_back(byte_tokens_[static_cast<unsigned char>(word.front())]);
    return;
  }
  Memory::Entry* entry = nullptr;
  if (word.size() <= Memory::kMaxBytes) {
    const std::uint64_t hash = std::hash<std::string_view>{}(word);
    entry = &memory.entries_[hash & (Memory::kNumEntries - 1)];
    if (entry->num_bytes == word.size() && std::memcmp(entry->bytes.data(), word.data(), word.size()) == 0) {
      tokens.insert(tokens.end(), entry->tokens.begin(), entry->tokens.begin() + entry->num_tokens);
      return;
    }
  }
  const std::size_t first = tokens.size();
  const auto whole = whole_words_.empty() ? whole_words_.end() : whole_words_.find(word);
  if (whole != whole_words_.end()) {
    tokens.push_back(whole->second);
  } else if (word.size() <= kShortWord) {
    merge_short(word, tokens);
  } else {
    merge_long(word, tokens);
  }
  const std::size_t count = tokens.size() - first;
  if (entry == nullptr || count > Memory::kMaxTokens) return;
  entry->num_bytes = static_cast<std::uint8_t>(word.size());
  entry->num_tokens = static_cast<std::uint8_t>(count);
  std::memcpy(entry->bytes.data(), word.data(), word.size());
  std::copy_n(tokens.begin() + static_cast<std::ptrdiff_t>(first), count, entry->tokens.begin());
}

void BytePairs::merge_short(std::string_view word, Tokens& tokens) const {
  std::array<Token, kShortWord> symbols;
  std::array<Found, kShortWord> pairs;  // pairs[i]: symbols i and i + 1
  std::size_t count = word.size();
  for (std::size_t i = 0; i < count; ++i) symbols[i] = byte_tokens_[static_cast<unsigned char>(word[i])];
  for (std::size_t i = 0; i + 1 < count; ++i) pairs[i] = find(symbols[i], symbols[i + 1]);
  while (count > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < count; ++i)
      if (pairs[i].rank < pairs[best].rank) best = i;
    if (pairs[best].rank == kNoMerge) break;
    symbols[best] = pairs[best].merged;
    std::copy(symbols.begin() + best + 2, symbols.begin() + count, symbols.begin() + best + 1);
    if (best + 2 < count)
      std::copy(pairs.begin() + best + 2, pairs.begin() + count - 1, pairs.begin() + best + 1);
    --count;
    if (best > 0) pairs[best - 1] = find(symbols[best - 1], symbols[best]);
    if (best + 1 < count) pairs[best] = find(symbols[best], symbols[best + 1]);
  }
  tokens.insert(tokens.end(), symbols.begin(), symbols.begin() + count);
}

void BytePairs::merge_long(std::string_view word, Tokens& tokens) const {
  struct Symbol {
    Token token;
    std::int64_t before, after;  // -1: none
  };
  std::vector<Symbol> symbols(word.size());
  for (std::size_t i = 0; i < word.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    symbols[i] = {byte_tokens_[static_cast<unsigned char>(word[i])], at - 1,
                  i + 1 < word.size() ? at + 1 : -1};
  }
  struct Candidate {
    std::int32_t rank;
    std::int64_t left;  // index of the left symbol
    std::uint64_t pair;
    Token merged;
    bool operator>(const Candidate& other) const {
      return std::tie(rank, left) > std::tie(other.rank, other.left);
    }
  };
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto offer = [&](std::int64_t left) {
    const Symbol& symbol = symbols[static_cast<std::size_t>(left)];
    if (symbol.after < 0) return;
    const Token right = symbols[static_cast<std::size_t>(symbol.after)].token;
    if (const Found found = find(symbol.token, right); found.rank != kNoMerge)
      heap.push({found.rank, left, pair_of(symbol.token, right), found.merged});
  };
  for (std::size_t i = 0; i + 1 < word.size(); ++i) offer(static_cast<std::int64_t>(i));
  constexpr Token kGone = -1;
  while (!heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    Symbol& left = symbols[static_cast<std::size_t>(best.left)];
    if (left.token == kGone || left.after < 0) continue;
    Symbol& right = symbols[static_cast<std::size_t>(left.after)];
    if (pair_of(left.token, right.token) != best.pair) continue;  // one of the two has merged since
    left.token = best.merged;
    left.after = right.after;
    right.token = kGone;
    if (left.after >= 0) symbols[static_cast<std::size_t>(left.after)].before = best.left;
    if (left.before >= 0) offer(left.before);
    offer(best.left);
  }
  for (std::int64_t i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].after)
    tokens.push_back(symbols[static_cast<std::size_t>(i)].token);
}

}  // namespace saturn::text

// Cutting a text into the pieces that are encoded on their own, by a tokenizer's regular expression.

#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "saturn/base/result.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace saturn::text {

/// The expression of GPT-2, which `ByteLevel` stands for in a tokenizer.json.
inline constexpr const char* kGpt2Pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// A compiled expression. Every match is a piece, and so is what lies between two matches ("Isolated").
class Splitter {
 public:
  /// Errors: Kind::input at `where`: malformed, may match nothing, or of syntax that PCRE2 would not read as
  /// the tokenizers' own engine (Oniguruma) does.
  static Result<Splitter> compile(const std::string& pattern, const std::string& where);

  /// What matching needs, for one thread.
  class Matcher {
   public:
    explicit Matcher(const Splitter& splitter);

    /// End of the piece of `text` that begins at `from` < text.size().
    ///
    /// Errors: Kind::input where the expression needs more than its share of steps or memory.
    Result<std::size_t> end_of_piece(std::string_view text, std::size_t from);

   private:
    const Splitter* splitter_;
    std::shared_ptr<pcre2_real_match_data_8> match_;
    // A match found beyond the piece that was asked for: the next piece.
    const char* ahead_in_ = nullptr;
    std::size_t ahead_from_ = 0;
    std::size_t ahead_to_ = 0;
  };

 private:
  std::shared_ptr<const pcre2_real_code_8> code_;
  std::string where_;
};

}  // namespace saturn::text

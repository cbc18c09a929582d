// SentencePiece models through their own library; long texts line by line where that gives the same tokens.

#include <sentencepiece_processor.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <thread>

#include "saturn/base/nearest.h"
#include "text/tokenizer_files.h"

namespace saturn::text {
namespace {

constexpr std::size_t kChunkBytes = std::size_t{1} << 18;

class SentencePieceTokenizer final : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(std::unique_ptr<sentencepiece::SentencePieceProcessor> processor)
      : processor_(std::move(processor)) {
    by_lines_ = Lines::on_their_own;
    if (!lines_give_the_same()) by_lines_ = Lines::behind_a_break;
    if (!lines_give_the_same()) by_lines_ = Lines::together;
  }

  Token vocabulary_size() const override { return processor_->GetPieceSize(); }
  std::optional<Token> end_of_text() const override {
    return processor_->eos_id() < 0 ? std::nullopt : std::optional<Token>(processor_->eos_id());
  }

  Result<void> encode(std::string_view text, int num_threads, const TokenSink& sink) const override {
    if (const auto invalid = first_invalid_utf8(text)) return not_utf8(text, *invalid);
    std::vector<std::string_view> chunks = chunks_of(text);
    const std::size_t at_once = static_cast<std::size_t>(std::max(1, num_threads)) * 4;
    std::uint64_t done = 0;
    for (std::size_t first = 0; first < chunks.size(); first += at_once) {
      const std::size_t count = std::min(at_once, chunks.size() - first);
      std::vector<Result<Tokens>> encoded(count, Result<Tokens>(Tokens{}));
      std::atomic<std::size_t> next{0};
      const auto work = [&] {
        for (std::size_t i = next++; i < count; i = next++)
          encoded[i] = encode_chunk(chunks[first + i], /*is_first=*/first + i == 0);
      };
      {
        std::vector<std::jthread> threads;
        for (int i = 1; i < num_threads; ++i) threads.emplace_back(work);
        work();
      }
      for (std::size_t i = 0; i < count; ++i) {
        if (!encoded[i].ok()) return std::move(encoded[i]).faults();
        done += chunks[first + i].size();
        SATURN_TRY_VOID(sink(*encoded[i], done));
      }
    }
    return {};
  }

  std::string decode(std::span<const Token> tokens) const override {
    std::vector<int> known;
    for (const Token token : tokens)
      if (token >= 0 && token < vocabulary_size()) known.push_back(token);
    std::string text;
    const auto status = processor_->Decode(known, &text);
    return status.ok() ? text : std::string();
  }

 private:
  /// What stands for the text before a chunk: nothing where lines do not know of each other, a line break
  /// whose tokens are dropped again where only the beginning of a text is special.
  enum class Lines { on_their_own, behind_a_break, together };

  Result<Tokens> encode_whole(std::string_view text) const {
    std::vector<int> tokens;
    const auto status = processor_->Encode(text, &tokens);
    if (!status.ok())
      return Diagnostic{
          .where = "SentencePiece", .what = status.ToString(), .expected = "a text that it can encode"};
    return Tokens(tokens.begin(), tokens.end());
  }

  Result<Tokens> encode_chunk(std::string_view chunk, bool is_first) const {
    if (is_first || by_lines_ != Lines::behind_a_break) return encode_whole(chunk);
    SATURN_TRY(const Tokens lead, encode_whole("\n"));
    SATURN_TRY(Tokens tokens, encode_whole("\n" + std::string(chunk)));
    tokens.erase(tokens.begin(),
                 tokens.begin() + static_cast<std::ptrdiff_t>(std::min(lead.size(), tokens.size())));
    return tokens;
  }

  std::vector<std::string_view> chunks_of(std::string_view text) const {
    std::vector<std::string_view> chunks;
    while (!text.empty()) {
      std::size_t end = by_lines_ == Lines::together ? text.size() : std::min(kChunkBytes, text.size());
      end = end == text.size() ? end : text.find('\n', end);
      end = end == std::string_view::npos ? text.size() : std::min(end + 1, text.size());
      chunks.push_back(text.substr(0, end));
      text.remove_prefix(end);
    }
    return chunks;
  }

  /// Whether the way of `by_lines_` gives the tokens of the whole on texts that would show a difference.
  bool lines_give_the_same() const {
    constexpr std::array<std::string_view, 8> kLines = {"ab  c d.\n", "\n",  " x y\n",  "\t\n",
                                                        "\n",         "é\n", "12 \r\n", "end"};
    std::string text;
    Tokens pieces;
    for (const std::string_view line : kLines) {
      const auto tokens = encode_chunk(line, text.empty());
      if (!tokens.ok()) return false;
      pieces.insert(pieces.end(), tokens->begin(), tokens->end());
      text += line;
    }
    const auto whole = encode_whole(text);
    return whole.ok() && *whole == pieces;
  }

  std::unique_ptr<sentencepiece::SentencePieceProcessor> processor_;
  Lines by_lines_ = Lines::together;
};

}  // namespace

Result<std::unique_ptr<Tokenizer>> read_sentence_piece(const std::string& path) {
  auto processor = std::make_unique<sentencepiece::SentencePieceProcessor>();
  if (const auto status = processor->Load(path); !status.ok())
    return Diagnostic{.where = path,
                      .what = "this is no SentencePiece model: " + status.ToString(),
                      .expected = "a tokenizer.json, or a model that SentencePiece wrote (tokenizer.model)"};
  return std::unique_ptr<Tokenizer>(std::make_unique<SentencePieceTokenizer>(std::move(processor)));
}

}  // namespace saturn::text

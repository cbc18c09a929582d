// Finds the files of a tokenizer and reads them in the form they have.

#include <algorithm>
#include <filesystem>

#include "saturn/base/files.h"
#include "saturn/base/nearest.h"
#include "text/tokenizer_files.h"

namespace saturn::text {
namespace {

bool exists(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_regular_file(path, error);
}

}  // namespace

Result<Tokens> Tokenizer::encode(std::string_view text) const {
  Tokens all;
  SATURN_TRY_VOID(
      encode(text, /*num_threads=*/1, [&](std::span<const Token> tokens, std::uint64_t) -> Result<void> {
        all.insert(all.end(), tokens.begin(), tokens.end());
        return {};
      }));
  return all;
}

Diagnostic not_utf8(std::string_view text, std::uint64_t at) {
  const auto lines = std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
  return {.where = "line " + std::to_string(lines + 1) + ", byte " + std::to_string(at),
          .what = "the text is not UTF-8 there",
          .expected = "UTF-8",
          .fix = "convert it: iconv -f latin1 -t utf-8, where it is Latin-1"};
}

Result<std::vector<std::string>> tokenizer_files(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    const std::string json = join_path(path, "tokenizer.json");
    if (exists(json)) return std::vector<std::string>{json};
    const std::string vocabulary = join_path(path, "vocab.json");
    if (exists(vocabulary)) return tokenizer_files(vocabulary);
    const std::string model = join_path(path, "tokenizer.model");
    if (exists(model)) return std::vector<std::string>{model};
    return Diagnostic{.where = path,
                      .what = "there is no tokenizer in " + in_quotes(path),
                      .expected = "tokenizer.json, vocab.json with merges.txt, or tokenizer.model"};
  }
  if (!exists(path))
    return Diagnostic{.where = path,
                      .what = in_quotes(path) + " does not exist",
                      .expected = "a tokenizer.json, a SentencePiece model, or a directory that holds one",
                      .fix = "correct the path, or write tokenizer = \"bytes\""};
  const std::string name = file_name_of(path);
  if (name != "vocab.json" && name != "merges.txt") return std::vector<std::string>{path};
  std::vector<std::string> pair = {join_path(directory_of(path), "vocab.json"),
                                   join_path(directory_of(path), "merges.txt")};
  for (const std::string& file : pair)
    if (!exists(file))
      return Diagnostic{.where = file,
                        .what = in_quotes(file) + " does not exist",
                        .expected = "vocab.json and merges.txt side by side"};
  return pair;
}

Result<std::unique_ptr<Tokenizer>> open_tokenizer(const std::string& path) {
  SATURN_TRY(const std::vector<std::string> files, tokenizer_files(path));
  if (files.size() == 2) return read_vocabulary_and_merges(files[0], files[1]);
  return files.front().ends_with(".json") ? read_tokenizer_json(files.front())
                                          : read_sentence_piece(files.front());
}

}  // namespace saturn::text

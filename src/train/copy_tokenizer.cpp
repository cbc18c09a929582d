// Whole files, under the names that Hugging Face's loaders look for.

#include "copy_tokenizer.h"

#include <cstdint>
#include <filesystem>

#include "saturn/base/files.h"
#include "saturn/text/tokenizer.h"

namespace saturn::train {
namespace {

constexpr std::uint64_t kLargestFile = std::uint64_t{256} << 20;

/// Beside a tokenizer; nothing that training reads.
constexpr const char* kCompanions[] = {"tokenizer_config.json", "special_tokens_map.json",
                                       "added_tokens.json", "generation_config.json"};

Result<void> copy_file(const std::string& from, const std::string& to) {
  SATURN_TRY(const std::string content, read_whole(from, kLargestFile));
  return write_whole(to, content);
}

}  // namespace

Result<void> copy_tokenizer(const std::string& tokenizer, const std::string& into) {
  SATURN_TRY(const std::vector<std::string> files, text::tokenizer_files(tokenizer));
  for (const std::string& file : files) {
    std::string name = file_name_of(file);
    if (name.ends_with(".model")) name = "tokenizer.model";
    if (files.size() == 1 && name.ends_with(".json")) name = "tokenizer.json";
    SATURN_TRY_VOID(copy_file(file, join_path(into, name)));
  }
  for (const char* companion : kCompanions) {
    const std::string path = join_path(directory_of(files.front()), companion);
    std::error_code error;
    if (std::filesystem::is_regular_file(path, error))
      SATURN_TRY_VOID(copy_file(path, join_path(into, companion)));
  }
  return {};
}

}  // namespace saturn::train

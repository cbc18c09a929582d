// Ready token files, strictly read through a memory map: nanoGPT's bare uint16 and llm.c's headed forms.

#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "saturn/base/result.h"

namespace saturn::formats {

/// A file that stays mapped, read-only. Its size is fixed at opening; a file that shrinks later is the fault
/// of whoever shrinks it.
class TokenShard {
 public:
  enum class Form {
    nanogpt,  ///< uint16 and nothing else
    llmc_16,  ///< 256 int32 {20240520, 1, count}, then uint16
    llmc_32,  ///< 256 int32 {20240801, 7, count}, then uint32
  };

  /// Errors (Kind::input, at `path`): missing, not a file, empty, a size that is not header + count * width,
  /// an unknown version behind a known magic number.
  static Result<TokenShard> open(const std::string& path);

  TokenShard(TokenShard&& other) noexcept;
  TokenShard& operator=(TokenShard&& other) noexcept;
  TokenShard(const TokenShard&) = delete;
  TokenShard& operator=(const TokenShard&) = delete;
  ~TokenShard();

  Form form() const { return form_; }
  int width_bytes() const { return form_ == Form::llmc_32 ? 4 : 2; }
  std::int64_t size() const { return num_tokens_; }
  const std::string& path() const { return path_; }

  /// The tokens from `first` on, widened. `first + into.size()` is at most `size()`.
  void copy(std::int64_t first, std::span<std::int64_t> into) const;

  std::int64_t operator[](std::int64_t index) const;

  /// The largest token in the whole file; reads all of it once.
  std::int64_t largest() const;

  /// Good where every token is below `vocabulary`. Errors: the first token that is not, with its index.
  Result<void> check_vocabulary(std::int64_t vocabulary) const;

 private:
  TokenShard() = default;

  std::string path_;
  Form form_ = Form::nanogpt;
  const unsigned char* map_ = nullptr;
  std::size_t map_bytes_ = 0;
  const unsigned char* tokens_ = nullptr;
  std::int64_t num_tokens_ = 0;
};

}  // namespace saturn::formats

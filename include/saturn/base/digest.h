// Content digests (XXH3-128) and line checksums (CRC-32C). Neither is meant against an adversary.

#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "saturn/base/result.h"

namespace saturn {

/// 32 hexadecimal digits of the XXH3-128 of `content`.
std::string digest_of(std::string_view content);

/// The same digest of content that comes in pieces, so that each is looked at while it is in the cache.
class StreamedDigest {
 public:
  StreamedDigest();
  ~StreamedDigest();
  StreamedDigest(const StreamedDigest&) = delete;
  StreamedDigest& operator=(const StreamedDigest&) = delete;

  void add(std::string_view piece);
  /// Of all that was added since the construction or the last call.
  std::string take();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Digest of a file's content, read in pieces.
Result<std::string> digest_of_file(const std::string& path);

/// CRC-32C (Castagnoli) of `content`, continuing from `seed`.
std::uint32_t crc32c(std::string_view content, std::uint32_t seed = 0);

}  // namespace saturn

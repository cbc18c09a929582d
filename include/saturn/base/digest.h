// Content digests (XXH3-128) and line checksums (CRC-32C). Neither is meant against an adversary.

#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "saturn/base/result.h"

namespace saturn {

/// 32 hexadecimal digits of the XXH3-128 of `content`.
std::string digest_of(std::string_view content);

/// Digest of a file's content, read in pieces.
Result<std::string> digest_of_file(const std::string& path);

/// CRC-32C (Castagnoli) of `content`, continuing from `seed`.
std::uint32_t crc32c(std::string_view content, std::uint32_t seed = 0);

}  // namespace saturn

// Checking UTF-8, and the alphabet that spells bytes as characters.

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "saturn/text/tokenizer.h"
#include "text/byte_level.h"

namespace saturn::text {
namespace {

/// Length of the sequence that begins at `text[at]`; 0 where it is not valid (RFC 3629, section 4).
std::size_t sequence_length(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(at);
  if (first < 0x80) return 1;
  std::size_t length = 0;
  unsigned char low = 0x80;  // bounds of the second byte
  unsigned char high = 0xbf;
  if (first >= 0xc2 && first <= 0xdf) {
    length = 2;
  } else if (first >= 0xe0 && first <= 0xef) {
    length = 3;
    if (first == 0xe0) low = 0xa0;
    if (first == 0xed) high = 0x9f;
  } else if (first >= 0xf0 && first <= 0xf4) {
    length = 4;
    if (first == 0xf0) low = 0x90;
    if (first == 0xf4) high = 0x8f;
  } else {
    return 0;
  }
  if (at + length > text.size() || byte(at + 1) < low || byte(at + 1) > high) return 0;
  for (std::size_t i = at + 2; i < at + length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  return length;
}

/// The code point that spells each byte: printable ones of Latin-1 themselves, the others from U+0100 on.
std::array<int, 256> spellings() {
  std::array<int, 256> points{};
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
    points[static_cast<std::size_t>(byte)] = printable ? byte : next++;
  }
  return points;
}

}  // namespace

std::optional<std::uint64_t> first_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    // Eight bytes of ASCII at a time.
    std::uint64_t block = 0;
    while (at + sizeof(block) <= text.size()) {
      std::memcpy(&block, text.data() + at, sizeof(block));
      if ((block & 0x8080808080808080U) != 0) break;
      at += sizeof(block);
    }
    if (at == text.size()) break;
    const std::size_t length = sequence_length(text, at);
    if (length == 0) return at;
    at += length;
  }
  return std::nullopt;
}

std::optional<std::string> bytes_of_spelling(std::string_view token) {
  static const std::array<int, 512> byte_of = [] {
    std::array<int, 512> bytes{};
    bytes.fill(-1);
    const auto points = spellings();
    for (int byte = 0; byte < 256; ++byte)
      bytes[static_cast<std::size_t>(points[static_cast<std::size_t>(byte)])] = byte;
    return bytes;
  }();
  std::string bytes;
  for (std::size_t i = 0; i < token.size();) {
    const std::size_t length = sequence_length(token, i);
    if (length == 0 || length > 2) return std::nullopt;
    int point = static_cast<unsigned char>(token[i]);
    if (length == 2) point = (point & 0x1f) << 6 | (static_cast<unsigned char>(token[i + 1]) & 0x3f);
    if (point >= 512 || byte_of[static_cast<std::size_t>(point)] < 0) return std::nullopt;
    bytes += static_cast<char>(byte_of[static_cast<std::size_t>(point)]);
    i += length;
  }
  return bytes;
}

}  // namespace saturn::text

// XXH3-128 from libxxhash; CRC-32C by table.

#include "saturn/base/digest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>  // the same digests by the widest vectors of this processor
#endif

#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>

#include "saturn/base/check.h"
#include "saturn/base/files.h"

namespace saturn {
namespace {

std::string to_hex(XXH128_hash_t hash) {
  char text[33];
  std::snprintf(text, sizeof text, "%016llx%016llx", static_cast<unsigned long long>(hash.high64),
                static_cast<unsigned long long>(hash.low64));
  return text;
}

constexpr std::array<std::uint32_t, 256> make_crc_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) != 0 ? 0x82f63b78U ^ (c >> 1) : c >> 1;
    table[i] = c;
  }
  return table;
}

constexpr std::array<std::uint32_t, 256> kCrcTable = make_crc_table();

}  // namespace

std::string digest_of(std::string_view content) {
  return to_hex(XXH3_128bits(content.data(), content.size()));
}

struct StreamedDigest::State {
  std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> hash{XXH3_createState(), &XXH3_freeState};
};

StreamedDigest::StreamedDigest() : state_(std::make_unique<State>()) {
  SATURN_CHECK(state_->hash != nullptr, "there is memory for a digest");
  XXH3_128bits_reset(state_->hash.get());
}
StreamedDigest::~StreamedDigest() = default;

void StreamedDigest::add(std::string_view piece) {
  XXH3_128bits_update(state_->hash.get(), piece.data(), piece.size());
}

std::string StreamedDigest::take() {
  std::string digest = to_hex(XXH3_128bits_digest(state_->hash.get()));
  XXH3_128bits_reset(state_->hash.get());
  return digest;
}

Result<std::string> digest_of_file(const std::string& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return system_fault(path, "read", errno);
  StreamedDigest digest;
  const auto buffer = std::make_unique<std::array<char, 1 << 20>>();
  while (true) {
    const ssize_t n = ::read(fd.get(), buffer->data(), buffer->size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_fault(path, "read", errno);
    if (n == 0) return digest.take();
    digest.add({buffer->data(), static_cast<std::size_t>(n)});
  }
}

std::uint32_t crc32c(std::string_view content, std::uint32_t seed) {
  std::uint32_t crc = ~seed;
  for (const char c : content) crc = kCrcTable[(crc ^ static_cast<unsigned char>(c)) & 0xffU] ^ (crc >> 8);
  return ~crc;
}

}  // namespace saturn

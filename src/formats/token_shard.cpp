// nanoGPT and llm.c token files through a memory map.

#include "saturn/formats/token_shard.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "saturn/base/check.h"
#include "saturn/base/files.h"

namespace saturn::formats {
namespace {

constexpr std::size_t kHeaderWords = 256;
constexpr std::size_t kHeaderBytes = kHeaderWords * sizeof(std::int32_t);
constexpr std::int32_t kMagic16 = 20240520;
constexpr std::int32_t kMagic32 = 20240801;
constexpr std::int32_t kVersion16 = 1;
constexpr std::int32_t kVersion32 = 7;

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "token files are little endian, and so is what reads them");

Diagnostic fault(const std::string& path, std::string what, std::string expected, std::string fix) {
  return {.where = path, .what = std::move(what), .expected = std::move(expected), .fix = std::move(fix)};
}

std::int32_t word_at(const unsigned char* bytes, std::size_t index) {
  std::int32_t word = 0;
  std::memcpy(&word, bytes + index * sizeof word, sizeof word);
  return word;
}

template <class Token>
Token token_at(const unsigned char* tokens, std::int64_t index) {
  Token token;
  std::memcpy(&token, tokens + static_cast<std::size_t>(index) * sizeof token, sizeof token);
  return token;
}

template <class Token>
std::int64_t largest_of(const unsigned char* tokens, std::int64_t count) {
  Token most = 0;
  for (std::int64_t i = 0; i < count; ++i) most = std::max(most, token_at<Token>(tokens, i));
  return static_cast<std::int64_t>(most);
}

}  // namespace

Result<TokenShard> TokenShard::open(const std::string& path) {
  const FileDescriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return system_fault(path, "open", errno);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return system_fault(path, "look at", errno);
  if (!S_ISREG(status.st_mode)) {
    return fault(path, "this is not a regular file", "a .bin file of tokens", "name the file itself");
  }
  const auto bytes = static_cast<std::size_t>(status.st_size);
  if (bytes == 0) {
    return fault(path, "the file is empty", "a .bin file of tokens",
                 "make it again with the script that wrote it");
  }
  void* map = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, file.get(), 0);
  if (map == MAP_FAILED) return system_fault(path, "map", errno);

  TokenShard shard;
  shard.path_ = path;
  shard.map_ = static_cast<const unsigned char*>(map);
  shard.map_bytes_ = bytes;

  const std::int32_t magic = bytes >= sizeof(std::int32_t) ? word_at(shard.map_, 0) : 0;
  if (magic != kMagic16 && magic != kMagic32) {
    if (bytes % 2 != 0) {
      return fault(path,
                   "the file has an odd number of bytes (" + std::to_string(bytes) + ") and no llm.c header",
                   "uint16 tokens as nanoGPT writes them, or the header 20240520 or 20240801 of llm.c",
                   "make it again with the script that wrote it");
    }
    shard.tokens_ = shard.map_;
    shard.num_tokens_ = static_cast<std::int64_t>(bytes / 2);
    return shard;
  }

  if (bytes < kHeaderBytes) {
    return fault(path, "the file ends within llm.c's header, after " + std::to_string(bytes) + " bytes",
                 "1024 bytes of header, then the tokens", "copy it again: it was cut short");
  }
  shard.form_ = magic == kMagic16 ? Form::llmc_16 : Form::llmc_32;
  const std::int32_t version = word_at(shard.map_, 1);
  const std::int32_t wanted = magic == kMagic16 ? kVersion16 : kVersion32;
  if (version != wanted) {
    return fault(
        path,
        "version " + std::to_string(version) + " stands behind llm.c's magic number " + std::to_string(magic),
        "version " + std::to_string(wanted), "make it again with the present llm.c scripts");
  }
  const std::int32_t count = word_at(shard.map_, 2);
  const std::size_t width = static_cast<std::size_t>(shard.width_bytes());
  if (count < 0 || kHeaderBytes + static_cast<std::size_t>(count) * width != bytes) {
    const std::string want =
        count < 0 ? "a count that is not negative"
                  : std::to_string(kHeaderBytes + static_cast<std::size_t>(count) * width) + " bytes";
    return fault(path,
                 "the header counts " + std::to_string(count) + " tokens, and the file has " +
                     std::to_string(bytes) + " bytes",
                 want + ": 1024 of header and " + std::to_string(width) + " for each token",
                 "copy it again: it was cut short or written to");
  }
  if (count == 0) return fault(path, "the file holds no token", "at least one", "make it again");
  shard.tokens_ = shard.map_ + kHeaderBytes;
  shard.num_tokens_ = count;
  return shard;
}

TokenShard::TokenShard(TokenShard&& other) noexcept {
  *this = std::move(other);
}

TokenShard& TokenShard::operator=(TokenShard&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(form_, other.form_);
  std::swap(map_, other.map_);
  std::swap(map_bytes_, other.map_bytes_);
  std::swap(tokens_, other.tokens_);
  std::swap(num_tokens_, other.num_tokens_);
  return *this;
}

TokenShard::~TokenShard() {
  if (map_ != nullptr) ::munmap(const_cast<unsigned char*>(map_), map_bytes_);
}

void TokenShard::copy(std::int64_t first, std::span<std::int64_t> into) const {
  SATURN_CHECK(first >= 0 && first <= num_tokens_ - static_cast<std::int64_t>(into.size()),
               "tokens are read within their file");
  if (form_ == Form::llmc_32) {
    for (std::size_t i = 0; i < into.size(); ++i) {
      into[i] = token_at<std::uint32_t>(tokens_, first + static_cast<std::int64_t>(i));
    }
  } else {
    for (std::size_t i = 0; i < into.size(); ++i) {
      into[i] = token_at<std::uint16_t>(tokens_, first + static_cast<std::int64_t>(i));
    }
  }
}

std::int64_t TokenShard::operator[](std::int64_t index) const {
  std::int64_t token = 0;
  copy(index, {&token, 1});
  return token;
}

std::int64_t TokenShard::largest() const {
  return form_ == Form::llmc_32 ? largest_of<std::uint32_t>(tokens_, num_tokens_)
                                : largest_of<std::uint16_t>(tokens_, num_tokens_);
}

Result<void> TokenShard::check_vocabulary(std::int64_t vocabulary) const {
  if (largest() < vocabulary) return {};
  std::int64_t index = 0;
  while ((*this)[index] < vocabulary) ++index;
  return fault(path_, "token " + std::to_string(index) + " is " + std::to_string((*this)[index]),
               "tokens below vocabulary_size = " + std::to_string(vocabulary),
               "set vocabulary_size to the tokenizer's, or make the file again with the right one");
}

}  // namespace saturn::formats

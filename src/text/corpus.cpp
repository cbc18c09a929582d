// Encoding text files into the cache of token shards.

#include "saturn/text/corpus.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <vector>

#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/formats/token_shard.h"

namespace saturn::text {
namespace {

constexpr const char* kVersion = "saturn.tokens/1";  // of what a text file becomes; a change makes new shards

Result<std::string> cache_directory() {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  if (cache != nullptr && *cache == '/') return std::string(cache) + "/saturn/tokens";
  if (home != nullptr && *home == '/') return std::string(home) + "/.cache/saturn/tokens";
  return Diagnostic{.kind = Kind::machine,
                    .where = "HOME",
                    .what = "there is no place to keep tokens: neither HOME nor XDG_CACHE_HOME is set",
                    .expected = "an absolute path in one of them"};
}

/// A text file in memory.
class Text {
 public:
  static Result<Text> open(const std::string& path) {
    Text text;
    text.fd_ = FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!text.fd_.valid() || ::fstat(text.fd_.get(), &text.status_) != 0)
      return system_fault(path, "open", errno);
    if (!S_ISREG(text.status_.st_mode) || text.status_.st_size == 0)
      return Diagnostic{.where = path, .what = "this is empty or not a file", .expected = "text"};
    text.size_ = static_cast<std::size_t>(text.status_.st_size);
    void* map = ::mmap(nullptr, text.size_, PROT_READ, MAP_PRIVATE, text.fd_.get(), 0);
    if (map == MAP_FAILED) return system_fault(path, "map", errno);
    text.bytes_ = static_cast<const char*>(map);
    return text;
  }
  Text(Text&& other) noexcept { *this = std::move(other); }
  Text& operator=(Text&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(status_, other.status_);
    std::swap(bytes_, other.bytes_);
    std::swap(size_, other.size_);
    return *this;
  }
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;
  ~Text() {
    if (bytes_ != nullptr) ::munmap(const_cast<char*>(bytes_), size_);
  }

  std::string_view view() const { return {bytes_, size_}; }

  bool has_changed() const {
    struct stat now {};
    return ::fstat(fd_.get(), &now) != 0 || now.st_size != status_.st_size ||
           now.st_mtim.tv_sec != status_.st_mtim.tv_sec || now.st_mtim.tv_nsec != status_.st_mtim.tv_nsec;
  }

 private:
  Text() = default;
  FileDescriptor fd_;
  struct stat status_ {};
  const char* bytes_ = nullptr;
  std::size_t size_ = 0;
};

/// A shard in the making; it has its name once it is whole.
class ShardWriter {
 public:
  ShardWriter(const std::string& path, bool wide)
      : path_(path), temporary_(path + ".tmp-" + std::to_string(::getpid())), wide_(wide) {}
  ~ShardWriter() {
    if (fd_.valid()) ::unlink(temporary_.c_str());
  }
  ShardWriter(const ShardWriter&) = delete;
  ShardWriter& operator=(const ShardWriter&) = delete;

  Result<void> begin() {
    fd_ = FileDescriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (!fd_.valid()) return system_fault(path_, "create", errno);
    return write(header().data(), sizeof(header()));
  }

  Result<void> add(std::span<const Token> tokens) {
    count_ += static_cast<std::int64_t>(tokens.size());
    if (count_ > std::numeric_limits<std::int32_t>::max())
      return Diagnostic{.where = path_,
                        .what = "there are more than 2^31 - 1 tokens",
                        .expected = "fewer tokens in one file",
                        .fix = "cut the text into several files"};
    if (wide_) return write(tokens.data(), tokens.size_bytes());
    narrow_.assign(tokens.begin(), tokens.end());
    return write(narrow_.data(), narrow_.size() * sizeof(narrow_.front()));
  }

  Result<void> finish() {
    const Header last = header();
    if (::pwrite(fd_.get(), last.data(), sizeof(last), 0) != static_cast<ssize_t>(sizeof(last)) ||
        ::fsync(fd_.get()) != 0 || ::rename(temporary_.c_str(), path_.c_str()) != 0)
      return system_fault(path_, "write", errno);
    fd_.reset();
    return {};
  }

 private:
  using Header = std::array<std::int32_t, 256>;

  Header header() const {
    return wide_ ? Header{20240801, 7, static_cast<std::int32_t>(count_)}
                 : Header{20240520, 1, static_cast<std::int32_t>(count_)};
  }

  Result<void> write(const void* bytes, std::size_t size) {
    const char* at = static_cast<const char*>(bytes);
    while (size > 0) {
      const ssize_t written = ::write(fd_.get(), at, size);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) return system_fault(path_, "write", errno);
      at += written;
      size -= static_cast<std::size_t>(written);
    }
    return {};
  }

  std::string path_;
  std::string temporary_;
  bool wide_;
  FileDescriptor fd_;
  std::int64_t count_ = 0;
  std::vector<std::uint16_t> narrow_;
};

}  // namespace

Result<std::string> tokens_of_file(const std::string& path, const std::string& text_digest,
                                   const Encoder& encoder) {
  SATURN_TRY(const std::string directory, cache_directory());
  const std::string shard_path = join_path(
      directory, digest_of(std::string(kVersion) + ' ' + text_digest + ' ' + encoder.digest) + ".bin");
  if (formats::TokenShard::open(shard_path).ok()) return shard_path;

  SATURN_TRY_VOID(make_directories(directory));
  SATURN_TRY(const Text text, Text::open(path));
  constexpr Token kWidestOf16Bits = 1 << 16;
  ShardWriter shard(shard_path, encoder.tokenizer->vocabulary_size() > kWidestOf16Bits);
  SATURN_TRY_VOID(shard.begin());
  auto encoded =
      encoder.tokenizer->encode(text.view(), encoder.num_threads,
                                [&](std::span<const Token> tokens, std::uint64_t done) -> Result<void> {
                                  if (encoder.progress) encoder.progress(path, done, text.view().size());
                                  return shard.add(tokens);
                                });
  if (!encoded.ok()) {
    Diagnostics faults = std::move(encoded).faults();
    for (Diagnostic& fault : faults)
      if (fault.where != shard_path) fault.where = path + ", " + fault.where;
    return faults;
  }
  if (const auto end = encoder.tokenizer->end_of_text()) SATURN_TRY_VOID(shard.add(std::span(&*end, 1)));
  if (text.has_changed())
    return Diagnostic{
        .where = path, .what = "the file changed while it was read", .expected = "data that does not change"};
  SATURN_TRY_VOID(shard.finish());
  return shard_path;
}

}  // namespace saturn::text

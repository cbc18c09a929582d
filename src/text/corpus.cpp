// Encoding text files into the cache of token shards.

#include "saturn/text/corpus.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <optional>
#include <thread>
#include <vector>

#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/json.h"
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

  const std::string& path() const { return path_; }

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

/// The documents of a text, one after the other.
class DocumentReader {
 public:
  DocumentReader(std::string_view text, std::string documents, const std::string& path)
      : text_(text), documents_(std::move(documents)), path_(path) {}

  /// The next document that is not empty, at the line where it begins; nothing at the end.
  struct Document {
    std::string text;
    std::int64_t line = 0;
  };
  Result<std::optional<Document>> next() {
    while (at_ < text_.size()) {
      Document document{.text = {}, .line = line_ + 1};
      const std::string_view line = take_line();
      if (is_blank(line)) continue;
      document.text = line;
      if (documents_ == "blank-line") {
        while (at_ < text_.size() && !is_blank(line_at(at_))) document.text.append("\n").append(take_line());
      } else if (documents_ == "jsonl") {
        SATURN_TRY(document.text, text_of(line, document.line));
        if (document.text.empty()) continue;
      }
      return std::optional(std::move(document));
    }
    return std::optional<Document>();
  }

  std::uint64_t num_bytes_done() const { return at_; }

 private:
  static bool is_blank(std::string_view line) {
    return line.find_first_not_of(" \t\r\f\v") == std::string_view::npos;
  }

  /// The line at `from`, without its end.
  std::string_view line_at(std::size_t from) const {
    return text_.substr(from, std::min(text_.find('\n', from), text_.size()) - from);
  }

  std::string_view take_line() {
    std::string_view line = line_at(at_);
    at_ = std::min(at_ + line.size() + 1, text_.size());
    ++line_;
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }

  Result<std::string> text_of(std::string_view line, std::int64_t number) const {
    const std::string where = path_ + ":" + std::to_string(number);
    SATURN_TRY(const Json object, parse_json(std::string(line), where));
    if (object.is_object() && object.contains("text") && object["text"].is_string())
      return object["text"].get<std::string>();
    return Diagnostic{.where = where,
                      .what = "this line is no object with a string \"text\"",
                      .expected = "one JSON object in each line, such as {\"text\": \"...\"}"};
  }

  std::string_view text_;
  std::string documents_;
  const std::string& path_;
  std::size_t at_ = 0;
  std::int64_t line_ = 0;
};

/// Documents that are encoded at once, shared out to the threads.
constexpr std::size_t kBytesAtOnce = std::size_t{16} << 20;

/// Encodes each document by one thread; the end-of-text token follows it.
Result<void> encode_documents(std::string_view text, const std::string& path, const Encoder& encoder,
                              ShardWriter& shard) {
  const auto end = encoder.tokenizer->end_of_text();
  if (!end)
    return Diagnostic{.where = path,
                      .what = "this tokenizer has no token that ends a document",
                      .expected = "a tokenizer with an end-of-text token",
                      .fix = "set documents = \"file\""};
  DocumentReader reader(text, encoder.documents, path);
  bool any = false;
  for (bool more = true; more;) {
    std::vector<DocumentReader::Document> documents;
    for (std::size_t size = 0; size < kBytesAtOnce && more;) {
      SATURN_TRY(std::optional<DocumentReader::Document> document, reader.next());
      more = document.has_value();
      if (!more) break;
      size += document->text.size();
      documents.push_back(*std::move(document));
    }
    std::vector<Result<Tokens>> encoded(documents.size(), Result<Tokens>(Tokens()));
    std::atomic<std::size_t> next = 0;
    const auto work = [&] {
      for (std::size_t i = next++; i < documents.size(); i = next++)
        encoded[i] = encoder.tokenizer->encode(documents[i].text);
    };
    std::vector<std::thread> threads;
    for (int i = 1; i < encoder.num_threads && documents.size() > 1; ++i) threads.emplace_back(work);
    work();
    for (std::thread& thread : threads) thread.join();
    for (std::size_t i = 0; i < documents.size(); ++i) {
      if (!encoded[i].ok()) {
        Diagnostics faults = std::move(encoded[i]).faults();
        for (Diagnostic& fault : faults)
          fault.where = path + ":" + std::to_string(documents[i].line) + ", " + fault.where;
        return faults;
      }
      SATURN_TRY_VOID(shard.add(*encoded[i]));
      SATURN_TRY_VOID(shard.add(std::span(&*end, 1)));
      any = true;
    }
    if (encoder.progress) encoder.progress(path, reader.num_bytes_done(), text.size());
  }
  if (any) return {};
  return Diagnostic{
      .where = path, .what = "there is no document in it", .expected = "lines that are not empty"};
}

/// The whole text by all threads; the end-of-text token, where there is one, follows it.
Result<void> encode_whole(std::string_view text, const std::string& path, const Encoder& encoder,
                          ShardWriter& shard) {
  auto encoded = encoder.tokenizer->encode(
      text, encoder.num_threads, [&](std::span<const Token> tokens, std::uint64_t done) -> Result<void> {
        if (encoder.progress) encoder.progress(path, done, text.size());
        return shard.add(tokens);
      });
  if (!encoded.ok()) {
    Diagnostics faults = std::move(encoded).faults();
    for (Diagnostic& fault : faults)
      if (fault.where != shard.path()) fault.where = path + ", " + fault.where;
    return faults;
  }
  if (const auto end = encoder.tokenizer->end_of_text()) return shard.add(std::span(&*end, 1));
  return {};
}

}  // namespace

Result<std::string> tokens_of_file(const std::string& path, const std::string& text_digest,
                                   const Encoder& encoder) {
  SATURN_TRY(const std::string directory, cache_directory());
  const std::string cut = encoder.documents == "file" ? "" : ' ' + encoder.documents;
  const std::string shard_path = join_path(
      directory, digest_of(std::string(kVersion) + ' ' + text_digest + ' ' + encoder.digest + cut) + ".bin");
  if (formats::TokenShard::open(shard_path).ok()) return shard_path;

  SATURN_TRY_VOID(make_directories(directory));
  SATURN_TRY(const Text text, Text::open(path));
  constexpr Token kWidestOf16Bits = 1 << 16;
  ShardWriter shard(shard_path, encoder.tokenizer->vocabulary_size() > kWidestOf16Bits);
  SATURN_TRY_VOID(shard.begin());
  SATURN_TRY_VOID(encoder.documents == "file" ? encode_whole(text.view(), path, encoder, shard)
                                              : encode_documents(text.view(), path, encoder, shard));
  if (text.has_changed())
    return Diagnostic{
        .where = path, .what = "the file changed while it was read", .expected = "data that does not change"};
  SATURN_TRY_VOID(shard.finish());
  return shard_path;
}

}  // namespace saturn::text

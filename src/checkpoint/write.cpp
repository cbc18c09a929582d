// Numbers looked at, digested and written in one pass, and the order of calls that makes a checkpoint appear
// whole.

#include "saturn/checkpoint/write.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <filesystem>

#include "large_file.h"
#include "saturn/base/digest.h"
#include "saturn/base/units.h"
#include "shelf_files.h"

namespace saturn::checkpoint {
namespace {

constexpr std::int64_t kSmallAlignment = 64;
constexpr std::int64_t kPageAlignment = 4096;  // of pieces that are worth a page
constexpr std::size_t kSmallPiece = std::size_t{1} << 16;
constexpr std::size_t kCachedBytes = std::size_t{256} << 10;  // passed over several times
constexpr double kFreeFactor = 1.1;

// Functions that are chosen at load time do not go with sanitizers.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define SATURN_FOR_AVX2 __attribute__((target_clones("avx2", "default")))
#else
#define SATURN_FOR_AVX2
#endif

/// Whether every one of these floats is a number and finite: their exponents are not all ones.
SATURN_FOR_AVX2 bool all_finite(std::string_view bytes) {
  constexpr std::uint32_t kExponent = 0x7f800000;
  std::uint32_t bad = 0;
  for (std::size_t at = 0; at + sizeof(std::uint32_t) <= bytes.size(); at += sizeof(std::uint32_t)) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, bytes.data() + at, sizeof bits);
    bad |= static_cast<std::uint32_t>((bits & kExponent) == kExponent);
  }
  return bad == 0;
}

}  // namespace

std::string temporary_of(const std::string& directory) {
  return directory + kUnfinished;
}

Result<void> prepare(const std::string& directory, std::int64_t bytes) {
  give_up(directory);
  SATURN_TRY_VOID(make_directories(directory_of(directory)));
  SATURN_TRY(const std::uint64_t free, free_bytes(directory_of(directory)));
  const double needed = kFreeFactor * static_cast<double>(bytes);
  if (static_cast<double>(free) < needed)
    return Diagnostic{.kind = Kind::disk_full,
                      .where = directory,
                      .what = "a checkpoint of " + format_bytes(static_cast<double>(bytes)) + " is due and " +
                              format_bytes(static_cast<double>(free)) + " are free",
                      .expected = "a tenth more than the checkpoint",
                      .fix = "free some space, or lower keep_checkpoints"};
  // Its name need not survive a crash: the rename to the final one is what is made durable.
  const std::string temporary = temporary_of(directory);
  if (::mkdir(temporary.c_str(), 0777) != 0) return system_fault(temporary, "create the directory", errno);
  return {};
}

ShardWriter::ShardWriter(std::unique_ptr<LargeFile> file, std::string path)
    : file_(std::move(file)), path_(std::move(path)), digest_(std::make_unique<StreamedDigest>()) {}
ShardWriter::ShardWriter(ShardWriter&&) noexcept = default;
ShardWriter::~ShardWriter() = default;

Result<ShardWriter> ShardWriter::create(const std::string& temporary, int rank, std::size_t buffer_bytes) {
  const std::string path = join_path(temporary, name_of_shard(rank));
  SATURN_TRY(LargeFile file, LargeFile::create(path, buffer_bytes));
  ShardWriter writer(std::make_unique<LargeFile>(std::move(file)), path);
  writer.part_.file.name = name_of_shard(rank);
  return writer;
}

Result<void> ShardWriter::append(std::string_view bytes) {
  at_ += static_cast<std::int64_t>(bytes.size());
  return file_->append(bytes);
}

Result<void> ShardWriter::add(Place place, std::string_view bytes) {
  static const std::string zeros(static_cast<std::size_t>(kPageAlignment), '\0');
  const std::int64_t alignment = bytes.size() < kSmallPiece ? kSmallAlignment : kPageAlignment;
  if (const std::int64_t over = at_ % alignment; over != 0)
    SATURN_TRY_VOID(append(std::string_view(zeros).substr(0, static_cast<std::size_t>(alignment - over))));
  Piece piece{.file = part_.file.name,
              .begin = at_,
              .bytes = static_cast<std::int64_t>(bytes.size()),
              .offsets = std::move(place.offsets),
              .shape = std::move(place.extent)};
  while (!bytes.empty()) {
    std::string_view block = bytes.substr(0, static_cast<std::size_t>(kBlockBytes));
    bytes.remove_prefix(block.size());
    while (!block.empty()) {
      const std::string_view cached = block.substr(0, kCachedBytes);
      block.remove_prefix(cached.size());
      if (!all_finite(cached))
        return Diagnostic{.kind = Kind::job_failed,
                          .where = path_,
                          .what = "the " + place.role + " of " + in_quotes(place.name) +
                                  " holds a number that is not finite",
                          .expected = "a state that training can go on from"};
      digest_->add(cached);
      SATURN_TRY_VOID(append(cached));
    }
    piece.digests.push_back(digest_->take());
  }
  const auto [known, added] = tensors_.emplace(std::make_pair(place.role, place.name), part_.tensors.size());
  if (added)
    part_.tensors.push_back({.name = std::move(place.name),
                             .role = std::move(place.role),
                             .shape = std::move(place.shape),
                             .pieces = {}});
  part_.tensors[known->second].pieces.push_back(std::move(piece));
  return {};
}

Result<Part> ShardWriter::finish() {
  SATURN_TRY(part_.file.bytes, file_->finish());
  return std::move(part_);
}

Result<void> publish(const std::string& directory, const Manifest& manifest) {
  const std::string temporary = temporary_of(directory);
  SATURN_TRY_VOID(write_artefact(join_path(temporary, "manifest.json"), to_json(manifest)));
  SATURN_TRY_VOID(replace_directory(temporary, directory));
  return write_whole(join_path(directory_of(directory), kLatest), file_name_of(directory) + "\n");
}

void give_up(const std::string& directory) {
  std::error_code ignored;
  std::filesystem::remove_all(temporary_of(directory), ignored);
}

}  // namespace saturn::checkpoint

// Writing a checkpoint: each rank its shard, one of them the manifest and the rename that makes it appear.

#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/checkpoint/manifest.h"

namespace saturn::checkpoint {

class LargeFile;

/// Where `directory` is written before it is renamed into place.
std::string temporary_of(const std::string& directory);

/// Makes the empty temporary directory of `directory`, and clears what an interrupted save left there.
///
/// `bytes` is what all ranks together will write. Errors: Kind::disk_full where less than a tenth more than
/// that is free; Kind::machine.
Result<void> prepare(const std::string& directory, std::int64_t bytes);

/// One rank's file: pieces in large writes beside which the next are digested, on disk when `finish` returns.
class ShardWriter {
 public:
  static constexpr std::size_t kBufferBytes = std::size_t{4} << 20;

  /// Holds two buffers of `buffer_bytes`, each one write.
  static Result<ShardWriter> create(const std::string& temporary, int rank,
                                    std::size_t buffer_bytes = kBufferBytes);
  ShardWriter(ShardWriter&&) noexcept;
  ~ShardWriter();

  /// Where a piece lies in its tensor.
  struct Place {
    std::string name, role;
    Extents shape;            ///< of the whole tensor
    Extents offsets, extent;  ///< of the piece
  };
  /// Appends a piece of fp32. Errors: Kind::disk_full, Kind::machine; Kind::job_failed where a number in it
  /// is not finite, since no one could train on from it. The shard is then of no use.
  Result<void> add(Place place, std::string_view bytes);

  /// Waits for the disk. Once.
  Result<Part> finish();

 private:
  ShardWriter(std::unique_ptr<LargeFile> file, std::string path);
  Result<void> append(std::string_view bytes);

  std::unique_ptr<LargeFile> file_;
  std::string path_;
  std::unique_ptr<StreamedDigest> digest_;
  Part part_;
  std::map<std::pair<std::string, std::string>, std::size_t> tensors_;  ///< of the part, by (role, name)
  std::int64_t at_ = 0;                                                 ///< end of all that was appended
};

/// Writes the manifest, renames the temporary directory to `directory` and moves LATEST. Until the rename the
/// checkpoints that were there are untouched; one of the same step changes places with the new one.
Result<void> publish(const std::string& directory, const Manifest& manifest);

/// Removes the temporary directory of a save that failed.
void give_up(const std::string& directory);

}  // namespace saturn::checkpoint

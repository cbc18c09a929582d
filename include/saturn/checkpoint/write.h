// Writing a checkpoint: each rank its shard, one of them the manifest and the rename that makes it appear.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>

#include "saturn/base/files.h"
#include "saturn/checkpoint/manifest.h"

namespace saturn::checkpoint {

/// Where `directory` is written before it is renamed into place.
std::string temporary_of(const std::string& directory);

/// Makes the empty temporary directory of `directory`, and clears what an interrupted save left there.
///
/// `bytes` is what all ranks together will write. Errors: Kind::disk_full where less than a tenth more than
/// that is free; Kind::machine.
Result<void> prepare(const std::string& directory, std::int64_t bytes);

/// One rank's file: pieces in large writes, digested in the same pass, on disk when `finish` returns.
class ShardWriter {
 public:
  static Result<ShardWriter> create(const std::string& temporary, int rank);

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
  ShardWriter(std::string path, FileDescriptor fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  Result<void> append(std::string_view bytes);
  Result<void> flush();
  Result<void> write_out(std::string_view bytes);

  std::string path_;
  FileDescriptor fd_;
  Part part_;
  std::map<std::pair<std::string, std::string>, std::size_t> tensors_;  ///< of the part, by (role, name)
  std::string pending_;  ///< small pieces wait here for a large write
  std::int64_t at_ = 0;  ///< end of all that was appended
  std::int64_t written_ = 0;
  std::int64_t started_ = 0;  ///< the kernel was told to write up to here
};

/// Writes the manifest, renames the temporary directory to `directory` and moves LATEST. Until the rename the
/// checkpoints that were there are untouched; one of the same step changes places with the new one.
Result<void> publish(const std::string& directory, const Manifest& manifest);

/// Removes the temporary directory of a save that failed.
void give_up(const std::string& directory);

}  // namespace saturn::checkpoint

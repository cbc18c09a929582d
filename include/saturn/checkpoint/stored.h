// The tensors of a checkpoint, read without LibTorch and whatever boxes they were written in.

#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/base/result.h"
#include "saturn/checkpoint/manifest.h"

namespace saturn::checkpoint {

/// One checkpoint, its files kept open while it is read. Digests are not looked at: see `verify`.
class Stored {
 public:
  /// Errors: Kind::input for a manifest that cannot be read.
  static Result<Stored> open(const std::string& directory);

  const Manifest& manifest() const { return manifest_; }
  const Tensor* find(const std::string& role, const std::string& name) const;  ///< null where absent

  /// Rows [first, first + count) of `tensor`, whole and row-major; what no piece covers is not a number.
  ///
  /// Errors: a file that is missing or ends too early.
  Result<void> read_rows(const Tensor& tensor, std::int64_t first, std::int64_t count,
                         std::vector<float>& into);

 private:
  Stored(std::string directory, Manifest manifest);

  Result<void> read(const Piece& piece, std::int64_t first, std::int64_t count, std::vector<float>& into);

  std::string directory_;
  Manifest manifest_;
  std::map<std::string, FileDescriptor> files_;
};

}  // namespace saturn::checkpoint

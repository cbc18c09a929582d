// From the path of a data source to its files and their token counts.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "saturn/base/result.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/samples.h"

namespace saturn::batch {

/// The files that `path` names, in sorted order: itself, or what its last part matches where that holds * or
/// ?.
///
/// Errors: nothing is there, or a directory.
Result<std::vector<std::string>> resolve_files(const std::string& path);

/// Tokens of one file: its bytes, or those of a token shard.
///
/// Errors: missing, unreadable, not a regular file, empty, malformed; `where` is the path.
Result<std::int64_t> count_tokens(const std::string& path, DataKind kind);

/// Where the tokens of a list of files are cut.
struct Cut {
  std::vector<std::int64_t> training_counts;    ///< tokens of each of `files`
  std::vector<std::int64_t> validation_counts;  ///< of each of `validation_files`
};

/// The arithmetic of `split_of`, from counts alone. A split without samples is not a fault here.
Split cut(const DataSource& data, const Cut& counts);

}  // namespace saturn::batch

// What a checkpoint's directory holds: boxes of whole tensors by name, so that any technique at any width
// reads what any other wrote.
//
//     step-000400/
//       manifest.json      written last: step, seed, data cursor, and every tensor's pieces with their
//       digests rank-00000.bin     the pieces that rank 0 held, one after the other
//
// The directory appears by a rename, whole or not at all.

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "saturn/base/json.h"
#include "saturn/base/result.h"

namespace saturn::checkpoint {

inline constexpr const char* kFormat = "saturn.checkpoint/1";

/// Pieces are written, digested and verified in blocks of this size, so that who reads a part of a piece
/// verifies that part alone.
inline constexpr std::int64_t kBlockBytes = std::int64_t{4} << 20;

using Extents = std::vector<std::int64_t>;

/// Product of `shape`; -1 where it does not fit.
std::int64_t elements(const Extents& shape);

/// A validation loss and the steps that were done when it was measured.
struct Validation {
  std::int64_t step = 0;
  double loss = 0.0;
  bool operator==(const Validation&) const = default;
};

/// Where the training stands.
struct Progress {
  std::int64_t step = 0;  ///< steps done; also the schedule's position
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;  ///< of the next step
  std::int64_t step_of_epoch = 0;
  double best_validation_loss = 0.0;     ///< 0 = none yet
  std::optional<Validation> validation;  ///< the last one
};

/// One box of one tensor, fp32, row-major.
struct Piece {
  std::string file;
  std::int64_t begin = 0;  ///< in the file
  std::int64_t bytes = 0;
  Extents offsets, shape;
  std::vector<std::string> digests;  ///< of each block of kBlockBytes, counted from `begin`
  std::string pointer;               ///< of the digests in a manifest that was read
};

struct Tensor {
  std::string name;
  std::string role;  ///< "weight", or the optimiser's
  Extents shape;
  std::vector<Piece> pieces;
  std::string pointer;  ///< of the shape in a manifest that was read
};

struct File {
  std::string name;
  std::int64_t bytes = 0;
};

/// What one rank wrote: its file, and of each tensor the pieces in it.
struct Part {
  File file;
  std::vector<Tensor> tensors;
};

struct Manifest {
  Progress progress;
  Json written_by = Json::object();  ///< the configuration that wrote it: provenance only
  std::vector<File> files;
  std::vector<Tensor> tensors;

  std::int64_t bytes() const;  ///< of all files
};

/// "step-000400".
std::string name_of_step(std::int64_t step);
/// The step of such a name; nothing for any other.
std::optional<std::int64_t> step_of_name(const std::string& name);
/// "rank-00000.bin".
std::string name_of_shard(int rank);

/// One line, for the rank that joins them, and back.
std::string to_line(const Part& part);
Result<Part> part_from_line(const std::string& line, const std::string& where);

/// Adds `part`: pieces of one tensor come together.
void join(Manifest& manifest, Part part);

/// The document with a digest of itself as its last member.
Json to_json(const Manifest& manifest);

/// Reads manifest.json of `directory`, strictly.
///
/// Errors: Kind::input at the file or the pointer: missing, of another format or training version, changed
/// since it was written, or with a piece that lies outside its tensor or its file.
Result<Manifest> read_manifest(const std::string& directory);

}  // namespace saturn::checkpoint

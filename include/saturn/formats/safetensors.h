// Safetensors files and directories: a strict reader on mmap, and a writer that shards and writes whole.
//
// A file is 8 bytes of little-endian header length, a JSON header of at most 100 MB, and the bytes of the
// tensors, row major and without holes. Nothing here knows LibTorch.

#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "saturn/base/result.h"

namespace saturn::formats {

enum class Dtype { boolean, u8, i8, f8_e5m2, f8_e4m3, i16, u16, f16, bf16, i32, u32, f32, f64, i64, u64 };

/// "F32", as the header spells it.
const char* name_of(Dtype dtype);

/// Bytes of one element.
std::uint64_t size_of(Dtype dtype);

/// A tensor that lies in a file.
struct StoredTensor {
  std::string name;
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;
  std::string_view bytes;  ///< not always aligned for its dtype; lives as long as the Safetensors
  std::uint32_t file = 0;  ///< position in Safetensors::paths()
};

using Metadata = std::map<std::string, std::string>;

/// What `parse_safetensors` finds in the bytes of one file; `bytes` of the tensors point into them.
struct SafetensorsContent {
  std::vector<StoredTensor> tensors;  ///< in the order of their bytes
  Metadata metadata;
};

/// Checks a whole file: header length, JSON of exactly the known shape, dtypes, overflow, that the tensors
/// cover the data without holes or overlaps, and that no name appears twice. Tensor values are not looked at.
///
/// Errors: Kind::input at `path` or "path#/tensor/member". Memory stays in proportion to the header.
Result<SafetensorsContent> parse_safetensors(std::string_view file, const std::string& path);

/// Tensors of a file or of a directory, mapped into memory and read where they are used.
///
/// A file that another program shortens while it is mapped ends this process (SIGBUS), as with every mmap.
class Safetensors {
 public:
  /// Opens a file, or a directory that holds model.safetensors or model.safetensors.index.json with its
  /// shards.
  ///
  /// Errors: Kind::input; pickled checkpoints (.bin, .pt) are refused with the command that converts them.
  static Result<Safetensors> open(const std::string& path);

  const std::vector<StoredTensor>& tensors() const { return tensors_; }  ///< sorted by name
  const StoredTensor* find(std::string_view name) const;                 ///< null where absent
  const Metadata& metadata() const { return metadata_; }                 ///< of the first file
  const std::vector<std::string>& paths() const { return paths_; }

  /// Copies `size` bytes of `tensor`, from `first` on, into memory. Cheaper than through `bytes`, whose pages
  /// the system maps one by one and counts as this process's.
  ///
  /// Errors: Kind::input where the file became shorter; what reading it gives.
  Result<void> read(const StoredTensor& tensor, std::uint64_t first, char* into, std::size_t size) const;

  /// Lets the system drop the pages of a tensor that has been copied out.
  void forget(const StoredTensor& tensor) const;

 private:
  class Mapping;

  Result<void> add_file(const std::string& path);
  static Result<Safetensors> open_sharded(const std::string& index_path);

  std::vector<std::shared_ptr<const Mapping>> mappings_;
  std::vector<std::string> paths_;
  std::vector<StoredTensor> tensors_;
  Metadata metadata_;
};

/// Gives the bytes of the tensor at `index` of the list being written; they stay valid until the next call.
using TensorBytes = std::function<std::string_view(std::size_t index)>;

/// Writes one file whole (see write_whole). `bytes` of each tensor is asked for through `bytes_of`.
Result<void> write_safetensors(const std::string& path, const std::vector<StoredTensor>& tensors,
                               const TensorBytes& bytes_of, const Metadata& metadata = {{"format", "pt"}});

/// One more file of a model directory, such as config.json.
struct SmallFile {
  std::string name;
  std::string content;
};

/// Writes a model directory as Hugging Face reads it: model.safetensors, or shards of at most
/// `max_shard_bytes` (a larger tensor gets a shard of its own) with model.safetensors.index.json, and
/// `small_files` beside them. The directory appears whole, in place of one that was there.
Result<void> write_safetensors_directory(const std::string& directory,
                                         const std::vector<StoredTensor>& tensors,
                                         const TensorBytes& bytes_of,
                                         const std::vector<SmallFile>& small_files,
                                         std::uint64_t max_shard_bytes = std::uint64_t{5'000'000'000});

}  // namespace saturn::formats

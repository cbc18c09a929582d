// The samples of image data: what lies in a folder with one folder for each class, or in WebDataset's shards.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "saturn/batch/batch.h"

namespace saturn::batch {

/// One labelled image, not read yet.
struct ImageSample {
  std::uint32_t source = 0;  ///< index into ImageIndex::sources
  std::int32_t label = 0;
  std::string name;          ///< within the folder, or of the shard's member
  std::uint64_t offset = 0;  ///< in the shard
  std::uint64_t size = 0;
};

struct ImageIndex {
  std::vector<std::string> sources;  ///< absolute paths: folders, or shards
  bool in_shards = false;
  std::vector<ImageSample> training;    ///< by class and name; of shards in their order
  std::vector<ImageSample> validation;  ///< likewise
};

/// What to make of [data.NAME] before its classes are known: names by label in `data.images.classes`, empty
/// where the folders (sorted) or the shards' labels shall say, and then filled in, with
/// `data.vocabulary_size`.
///
/// Errors: Kind::input, every fault with its path: no class folder, a class without an image, a folder that
/// is no class, a shard that is malformed, a sample of a shard without exactly one image and one label.
Result<ImageIndex> index_images(DataSource& data);

/// The same for a source whose classes are settled.
Result<ImageIndex> index_images(const DataSource& data);

/// Of everything that training reads: the contents of shards and of small folders; of folders above 256 MiB
/// names, sizes and times of change.
Result<std::string> digest_of_images(const DataSource& data);

}  // namespace saturn::batch

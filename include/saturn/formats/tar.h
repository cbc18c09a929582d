// Tar archives read in place, as WebDataset's shards are: members are found, never unpacked, so that no name
// in an archive becomes a path of this machine.

#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "saturn/base/result.h"

namespace saturn::formats {

/// One regular file of an archive.
struct TarMember {
  std::string name;
  std::uint64_t offset = 0;  ///< of its first byte in the archive
  std::uint64_t size = 0;
};

/// `size` bytes from `offset` on, into `into`; false where they cannot be had.
using ReadBytes = std::function<bool(std::uint64_t offset, char* into, std::size_t size)>;

/// Calls `visit` for every regular file of an archive of `size` bytes, in order. Knows ustar, GNU long names
/// and numbers of 256, and pax headers. Folders and global headers are passed over.
///
/// Errors: Kind::input with `path` and the byte: a header whose sum is wrong, a member that goes beyond the
/// end, an absolute name or one with "..", a link or a device, an end without its empty block. Bounded in
/// memory whatever the archive holds: names of at most 64 KiB.
Result<void> for_each_tar_member(std::uint64_t size, const ReadBytes& read, const std::string& path,
                                 const std::function<Result<void>(const TarMember&)>& visit);

}  // namespace saturn::formats

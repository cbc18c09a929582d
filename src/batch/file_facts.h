// Digests of large files, remembered.

#pragma once

#include <string>

#include "saturn/base/result.h"

namespace saturn::batch {

/// Digest of a file's content. Remembered by (device, inode, size, modification time): in this process, and
/// for files of 256 MiB and more in the user's cache folder. A file modified within the last 2 seconds is not
/// remembered, for its next change might keep the time.
Result<std::string> remembered_digest(const std::string& path);

}  // namespace saturn::batch

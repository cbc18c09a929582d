// A file that is written once, in large pieces that go past the page cache: one is on its way to the disk
// while the next is filled.

#pragma once

#include <cstdint>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <string_view>

#include "saturn/base/files.h"

namespace saturn::checkpoint {

class LargeFile {
 public:
  /// `buffer_bytes` is a multiple of a page; two buffers of that size are held. Errors: also where `path` is
  /// there already.
  static Result<LargeFile> create(const std::string& path, std::size_t buffer_bytes);

  /// Errors: those of an earlier piece too, which was still on its way then.
  Result<void> append(std::string_view bytes);

  /// Fills the last page with zeros and waits for the disk; the file's size. Once.
  Result<std::int64_t> finish();

 private:
  struct Free {
    void operator()(char* memory) const { std::free(memory); }
  };
  using Buffer = std::unique_ptr<char, Free>;

  LargeFile(std::string path, FileDescriptor fd, std::size_t buffer_bytes);
  Result<void> send();
  Result<void> settle();

  std::string path_;
  FileDescriptor fd_;
  std::size_t buffer_bytes_;
  Buffer filling_, leaving_;
  std::size_t filled_ = 0;
  std::int64_t sent_ = 0;
  std::future<Result<void>> on_its_way_;  ///< last: it uses the others
};

}  // namespace saturn::checkpoint

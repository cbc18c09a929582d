// Feeds bytes to the readers of tar archives and of images: they must end, in bounded memory, with what lies
// within the file or with faults.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "saturn/base/check.h"
#include "saturn/base/diagnostic.h"
#include "saturn/formats/image.h"
#include "saturn/formats/tar.h"

namespace {

using namespace saturn;

/// Decoding takes time in proportion to the pixels that a header claims, which a fuzzer makes large.
constexpr std::int64_t kMostPixels = 1 << 20;

void read_image(std::string_view file) {
  const auto size = formats::size_of_image(file, "f.jpg");
  if (!size.ok()) {
    SATURN_CHECK(!to_text(size.faults()).empty(), "a fault can be told");
    return;
  }
  SATURN_CHECK(std::int64_t{size->width} * size->height <= formats::kMostPixels, "a size is bounded");
  if (std::int64_t{size->width} * size->height > kMostPixels) return;
  for (const formats::ImageWish wish :
       {formats::ImageWish{.channels = 3}, formats::ImageWish{.channels = 1, .reduce_by = 8}}) {
    const auto image = formats::decode_image(file, wish, "f.jpg");
    if (!image.ok()) continue;
    SATURN_CHECK(image->channels == wish.channels, "an image has the channels asked for");
    SATURN_CHECK(image->pixels.size() == static_cast<std::size_t>(image->width) *
                                             static_cast<std::size_t>(image->height) *
                                             static_cast<std::size_t>(image->channels),
                 "an image has its pixels");
    SATURN_CHECK(wish.reduce_by > 1 || (image->width == size->width && image->height == size->height),
                 "the header tells the size");
  }
}

void read_tar(std::string_view file) {
  const formats::ReadBytes read = [&](std::uint64_t offset, char* into, std::size_t size) {
    SATURN_CHECK(offset <= file.size() && size <= file.size() - offset, "only the archive is read");
    std::memcpy(into, file.data() + offset, size);
    return true;
  };
  const auto done = formats::for_each_tar_member(
      file.size(), read, "f.tar", [&](const formats::TarMember& member) -> Result<void> {
        SATURN_CHECK(member.offset <= file.size() && member.size <= file.size() - member.offset,
                     "a member lies within its archive");
        SATURN_CHECK(!member.name.empty() && member.name.front() != '/', "a member stays in its folder");
        read_image(file.substr(member.offset, member.size));
        return {};
      });
  if (!done.ok()) SATURN_CHECK(!to_text(done.faults()).empty(), "a fault can be told");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  read_image(file);
  read_tar(file);
  return 0;
}

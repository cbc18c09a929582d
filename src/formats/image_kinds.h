// The decoders behind formats/image.h, each in the channels that its file has (1 or 3).

#pragma once

#include <string>
#include <string_view>

#include "saturn/formats/image.h"

namespace saturn::formats {

Result<Image> decode_jpeg(std::string_view file, int reduce_by, const std::string& where);
Result<ImageSize> size_of_jpeg(std::string_view file, const std::string& where);
Result<Image> decode_png(std::string_view file, const std::string& where);
Result<ImageSize> size_of_png(std::string_view file, const std::string& where);

}  // namespace saturn::formats

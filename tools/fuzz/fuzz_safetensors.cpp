// Feeds bytes to the safetensors reader; what it accepts must lie within the file and cover it.

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "saturn/base/check.h"
#include "saturn/base/diagnostic.h"
#include "saturn/formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace saturn;
  const std::string_view file(reinterpret_cast<const char*>(data), size);
  const auto content = formats::parse_safetensors(file, "f.safetensors");
  if (!content.ok()) {
    SATURN_CHECK(!to_text(content.faults()).empty(), "a fault can be told");
    return 0;
  }
  const char* next = nullptr;
  std::set<std::string> names;
  for (const formats::StoredTensor& tensor : content->tensors) {
    SATURN_CHECK(names.insert(tensor.name).second, "a name appears once");
    SATURN_CHECK(tensor.bytes.data() >= file.data() &&
                     tensor.bytes.data() + tensor.bytes.size() <= file.data() + file.size(),
                 "a tensor lies within its file");
    SATURN_CHECK(next == nullptr || tensor.bytes.data() == next, "tensors lie side by side");
    std::uint64_t bytes = formats::size_of(tensor.dtype);
    for (const std::int64_t extent : tensor.shape) bytes *= static_cast<std::uint64_t>(extent);
    SATURN_CHECK(bytes == tensor.bytes.size(), "a tensor has the bytes of its shape");
    next = tensor.bytes.data() + tensor.bytes.size();
  }
  SATURN_CHECK(next == nullptr || next == file.data() + file.size(), "the tensors cover the file");
  return 0;
}

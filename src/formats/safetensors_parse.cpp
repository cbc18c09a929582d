// Reads the header of a safetensors file, byte by byte hostile, into the tensors it describes.

#include <algorithm>
#include <bit>
#include <cctype>
#include <cstring>
#include <iterator>
#include <numeric>
#include <optional>

#include "saturn/base/diagnostic.h"
#include "saturn/base/json.h"
#include "saturn/formats/safetensors.h"

namespace saturn::formats {
namespace {

static_assert(std::endian::native == std::endian::little,
              "the format is little endian and is mapped as it is");

constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::uint64_t kLengthBytes = 8;
constexpr const char* kMetadataKey = "__metadata__";

struct DtypeRow {
  Dtype dtype;
  const char* name;
  std::uint64_t size;
};
constexpr DtypeRow kDtypes[] = {
    {Dtype::boolean, "BOOL", 1},    {Dtype::u8, "U8", 1},           {Dtype::i8, "I8", 1},
    {Dtype::f8_e5m2, "F8_E5M2", 1}, {Dtype::f8_e4m3, "F8_E4M3", 1}, {Dtype::i16, "I16", 2},
    {Dtype::u16, "U16", 2},         {Dtype::f16, "F16", 2},         {Dtype::bf16, "BF16", 2},
    {Dtype::i32, "I32", 4},         {Dtype::u32, "U32", 4},         {Dtype::f32, "F32", 4},
    {Dtype::f64, "F64", 8},         {Dtype::i64, "I64", 8},         {Dtype::u64, "U64", 8},
};

const DtypeRow& row_of(Dtype dtype) {
  return kDtypes[static_cast<std::size_t>(dtype)];
}

std::string known_dtypes() {
  std::string names;
  for (const DtypeRow& row : kDtypes) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return "one of " + names;
}

struct Entry {
  StoredTensor tensor;
  std::vector<std::uint64_t> offsets;
  bool has_dtype = false;
  bool has_shape = false;
  bool has_offsets = false;
};

// Accepts exactly the documents that a header may be, so that nothing else is ever held in memory.
class HeaderReader : public nlohmann::json_sax<Json> {
 public:
  std::vector<Entry> entries;
  Metadata metadata;
  std::string pointer;  // of the fault
  std::string what;     // of the fault; empty where the JSON itself is at fault
  std::string expected;

  bool start_object(std::size_t) override {
    if (place_ == Place::start) return enter(Place::header);
    if (place_ == Place::header) {
      if (key_ == kMetadataKey) return enter(Place::metadata);
      entries.emplace_back();
      entries.back().tensor.name = key_;
      return enter(Place::tensor);
    }
    return refuse("an object");
  }

  bool end_object() override {
    if (place_ == Place::tensor) {
      const Entry& entry = entries.back();
      key_.clear();
      if (!entry.has_dtype) return refuse_missing("dtype");
      if (!entry.has_shape) return refuse_missing("shape");
      if (!entry.has_offsets) return refuse_missing("data_offsets");
    }
    place_ = place_ == Place::header ? Place::end : Place::header;
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::tensor && key_ == "shape") return enter(Place::shape);
    if (place_ == Place::tensor && key_ == "data_offsets") return enter(Place::offsets);
    return refuse("an array");
  }

  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }

  bool key(string_t& name) override {
    key_ = std::move(name);
    if (place_ == Place::header && key_ == kMetadataKey && std::exchange(has_metadata_, true))
      return refuse_twice();
    if (place_ == Place::metadata && metadata.contains(key_)) return refuse_twice();
    if (place_ == Place::tensor) {
      Entry& entry = entries.back();
      bool* seen = key_ == "dtype"          ? &entry.has_dtype
                   : key_ == "shape"        ? &entry.has_shape
                   : key_ == "data_offsets" ? &entry.has_offsets
                                            : nullptr;
      if (seen == nullptr) {
        return fault("key " + in_quotes(key_) + " of a tensor is not known", "dtype, shape and data_offsets");
      }
      if (std::exchange(*seen, true)) return refuse_twice();
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) return metadata.emplace(key_, std::move(value)).second;
    if (place_ != Place::tensor || key_ != "dtype") return refuse(in_quotes(value));
    const auto row =
        std::ranges::find_if(kDtypes, [&](const DtypeRow& known) { return known.name == value; });
    if (row == std::end(kDtypes)) return fault("dtype " + in_quotes(value) + " is not known", known_dtypes());
    entries.back().tensor.dtype = row->dtype;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ == Place::shape && value <= static_cast<std::uint64_t>(INT64_MAX)) {
      entries.back().tensor.shape.push_back(static_cast<std::int64_t>(value));
      return true;
    }
    if (place_ == Place::offsets && entries.back().offsets.size() < 2) {
      entries.back().offsets.push_back(value);
      return true;
    }
    return refuse(std::to_string(value));
  }

  bool null() override { return refuse("null"); }
  bool boolean(bool value) override { return refuse(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return refuse(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) override { return refuse(in_quotes(text)); }
  bool binary(binary_t&) override { return refuse("binary data"); }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }

 private:
  enum class Place { start, header, metadata, tensor, shape, offsets, end };

  bool enter(Place place) {
    place_ = place;
    return true;
  }

  bool fault(std::string problem, std::string wanted) {
    pointer.clear();
    const bool in_tensor = place_ == Place::tensor || place_ == Place::shape || place_ == Place::offsets;
    if (in_tensor) pointer += "/" + entries.back().tensor.name;
    if (place_ == Place::metadata) pointer += "/" + std::string(kMetadataKey);
    if (!key_.empty()) pointer += "/" + key_;
    what = std::move(problem);
    expected = std::move(wanted);
    return false;
  }

  bool refuse_twice() { return fault("key " + in_quotes(key_) + " appears twice", "each key once"); }
  bool refuse_missing(const std::string& key) {
    return fault("this tensor has no " + key, "dtype, shape and data_offsets");
  }

  bool refuse(const std::string& read) {
    std::string wanted = "a JSON object of tensors";
    if (place_ == Place::header) wanted = "an object that describes a tensor";
    if (place_ == Place::metadata) wanted = "a string";
    if (place_ == Place::tensor) wanted = key_ == "dtype" ? known_dtypes() : "an array of integers";
    if (place_ == Place::shape) wanted = "integers from 0 to 2^63 - 1";
    if (place_ == Place::offsets) wanted = "two integers, begin and end";
    return fault(read + " cannot stand here", wanted);
  }

  Place place_ = Place::start;
  std::string key_;
  bool has_metadata_ = false;
};

/// product(shape) * size, or nothing where that does not fit 64 bits.
std::optional<std::uint64_t> bytes_of(const std::vector<std::int64_t>& shape, Dtype dtype) {
  std::uint64_t total = size_of(dtype);
  for (const std::int64_t extent : shape) {
    if (__builtin_mul_overflow(total, static_cast<std::uint64_t>(extent), &total)) return std::nullopt;
  }
  return total;
}

Diagnostic not_safetensors(const std::string& path, std::string_view file, std::string what) {
  Diagnostic fault{.where = path, .what = std::move(what), .expected = "a whole safetensors file"};
  const bool is_zip = file.starts_with("PK\x03\x04");
  const bool is_pickle = file.starts_with("\x80\x02") || file.starts_with("\x80\x04");
  if (is_zip || is_pickle) {
    fault.what = "this is a pickled PyTorch file, which can run code when it is read";
    fault.expected = "safetensors, which holds tensors only";
    fault.fix = "convert it where you trust it: safetensors.torch.save_file(torch.load(\"" + path +
                "\", weights_only=True), \"model.safetensors\")";
  } else if (file.starts_with("version https://git-lfs")) {
    fault.what = "this is a Git LFS pointer, not the file it stands for";
    fault.fix = "run `git lfs pull` in its directory";
  } else {
    fault.fix = "fetch the file again";
  }
  return fault;
}

Result<void> check_entry(Entry& entry, std::uint64_t data_bytes, const std::string& path) {
  const StoredTensor& tensor = entry.tensor;
  const std::string where = path + "#/" + tensor.name;
  if (entry.offsets.size() != 2) {
    return Diagnostic{.where = where + "/data_offsets",
                      .what = "there are " + std::to_string(entry.offsets.size()) + " offsets",
                      .expected = "two, begin and end"};
  }
  const auto [begin, end] = std::pair(entry.offsets[0], entry.offsets[1]);
  if (begin > end || end > data_bytes) {
    return Diagnostic{.where = where + "/data_offsets",
                      .what = "bytes " + std::to_string(begin) + " to " + std::to_string(end) +
                              " are not within the data of " + std::to_string(data_bytes) + " bytes",
                      .expected = "begin <= end <= " + std::to_string(data_bytes),
                      .fix = "fetch the file again: it may be cut off"};
  }
  const std::optional<std::uint64_t> wanted = bytes_of(tensor.shape, tensor.dtype);
  if (!wanted) {
    return Diagnostic{.where = where + "/shape",
                      .what = "the size of this tensor does not fit 64 bits",
                      .expected = "a shape whose elements can be counted"};
  }
  if (*wanted != end - begin) {
    return Diagnostic{.where = where,
                      .what = "shape and dtype ask for " + std::to_string(*wanted) +
                              " bytes, data_offsets give " + std::to_string(end - begin),
                      .expected = "the same number"};
  }
  return {};
}

Result<void> check_coverage(const std::vector<Entry>& entries, std::uint64_t data_bytes,
                            const std::string& path) {
  std::uint64_t covered = 0;
  for (const Entry& entry : entries) {
    if (entry.offsets[0] != covered) {
      const bool overlaps = entry.offsets[0] < covered;
      return Diagnostic{.where = path + "#/" + entry.tensor.name + "/data_offsets",
                        .what = (overlaps ? "this tensor overlaps the one before it: it begins at byte "
                                          : "there is a hole before this tensor: it begins at byte ") +
                                std::to_string(entry.offsets[0]),
                        .expected = "byte " + std::to_string(covered)};
    }
    covered = entry.offsets[1];
  }
  if (covered != data_bytes) {
    return Diagnostic{.where = path,
                      .what = std::to_string(data_bytes - covered) + " bytes at the end belong to no tensor",
                      .expected = "data that the tensors cover wholly"};
  }
  return {};
}

Result<void> check_names(const std::vector<Entry>& entries, const std::string& path) {
  std::vector<std::string_view> names;
  names.reserve(entries.size());
  for (const Entry& entry : entries) names.push_back(entry.tensor.name);
  std::ranges::sort(names);
  const auto twice = std::ranges::adjacent_find(names);
  if (twice == names.end()) return {};
  return Diagnostic{.where = path + "#/" + std::string(*twice),
                    .what = "tensor " + in_quotes(std::string(*twice)) + " appears twice",
                    .expected = "each name once"};
}

}  // namespace

const char* name_of(Dtype dtype) {
  return row_of(dtype).name;
}
std::uint64_t size_of(Dtype dtype) {
  return row_of(dtype).size;
}

Result<SafetensorsContent> parse_safetensors(std::string_view file, const std::string& path) {
  if (file.size() < kLengthBytes) {
    return not_safetensors(path, file, "the file has " + std::to_string(file.size()) + " bytes");
  }
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), sizeof header_bytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > file.size() - kLengthBytes) {
    return not_safetensors(path, file,
                           "the header should have " + std::to_string(header_bytes) +
                               " bytes, the file has " + std::to_string(file.size() - kLengthBytes) +
                               " and the format allows 100000000");
  }
  const std::string_view header = file.substr(kLengthBytes, header_bytes);
  const std::string_view data = file.substr(kLengthBytes + header_bytes);
  if (!header.starts_with('{')) return not_safetensors(path, file, "the header does not begin with {");

  HeaderReader reader;
  if (!Json::sax_parse(header.begin(), header.end(), &reader)) {
    if (reader.what.empty()) return not_safetensors(path, file, "the header is not JSON");
    return Diagnostic{.where = path + "#" + reader.pointer, .what = reader.what, .expected = reader.expected};
  }

  std::vector<Entry>& entries = reader.entries;
  for (Entry& entry : entries) SATURN_TRY_VOID(check_entry(entry, data.size(), path));
  SATURN_TRY_VOID(check_names(entries, path));
  std::ranges::sort(entries, {},
                    [](const Entry& entry) { return std::tie(entry.offsets[0], entry.offsets[1]); });
  SATURN_TRY_VOID(check_coverage(entries, data.size(), path));

  SafetensorsContent content{.tensors = {}, .metadata = std::move(reader.metadata)};
  content.tensors.reserve(entries.size());
  for (Entry& entry : entries) {
    entry.tensor.bytes = data.substr(entry.offsets[0], entry.offsets[1] - entry.offsets[0]);
    content.tensors.push_back(std::move(entry.tensor));
  }
  return content;
}

}  // namespace saturn::formats

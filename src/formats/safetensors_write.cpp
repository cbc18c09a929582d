// Writes safetensors files and Hugging Face model directories, whole or not at all.

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <optional>
#include <set>

#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "saturn/formats/safetensors.h"

namespace saturn::formats {
namespace {

std::uint64_t stored_bytes(const StoredTensor& tensor) {
  std::uint64_t bytes = size_of(tensor.dtype);
  for (const std::int64_t extent : tensor.shape) bytes *= static_cast<std::uint64_t>(extent);
  return bytes;
}

/// The length word and the padded header of a file that holds `order` of `tensors`.
std::string header_of(const std::vector<StoredTensor>& tensors, const std::vector<std::size_t>& order,
                      const Metadata& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t begin = 0;
  for (const std::size_t index : order) {
    const StoredTensor& tensor = tensors[index];
    const std::uint64_t end = begin + stored_bytes(tensor);
    header[tensor.name] = {
        {"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = to_line(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that the data begins aligned
  const std::uint64_t length = text.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + text;
}

/// Writes those of `tensors` that `order` names.
Result<void> write_some(const std::string& path, const std::vector<StoredTensor>& tensors,
                        std::vector<std::size_t> order, const TensorBytes& bytes_of,
                        const Metadata& metadata) {
  // Large elements first, as the format's own library does: then every tensor is aligned for its dtype.
  std::ranges::stable_sort(order, std::greater{},
                           [&](std::size_t index) { return size_of(tensors[index].dtype); });
  const std::string header = header_of(tensors, order, metadata);
  std::size_t next = 0;
  bool header_written = false;
  return write_whole(path, [&]() -> std::optional<std::string_view> {
    if (!std::exchange(header_written, true)) return header;
    if (next == order.size()) return std::nullopt;
    const std::size_t index = order[next++];
    const std::string_view bytes = bytes_of(index);
    SATURN_CHECK(bytes.size() == stored_bytes(tensors[index]),
                 "a tensor has the bytes its shape and dtype ask for");
    return bytes;
  });
}

std::vector<std::size_t> all_of(const std::vector<StoredTensor>& tensors) {
  std::vector<std::size_t> order(tensors.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  return order;
}

/// Consecutive tensors, each shard as full as `max_shard_bytes` allows.
std::vector<std::vector<std::size_t>> shards_of(const std::vector<StoredTensor>& tensors,
                                                std::uint64_t max_shard_bytes) {
  std::vector<std::vector<std::size_t>> shards(1);
  std::uint64_t filled = 0;
  for (const std::size_t index : all_of(tensors)) {
    const std::uint64_t bytes = stored_bytes(tensors[index]);
    if (!shards.back().empty() && filled + bytes > max_shard_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(index);
    filled += bytes;
  }
  return shards;
}

std::string shard_name(std::size_t index, std::size_t count) {
  const auto five_digits = [](std::size_t number) {
    const std::string digits = std::to_string(number);
    return std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
  };
  return "model-" + five_digits(index + 1) + "-of-" + five_digits(count) + ".safetensors";
}

Result<void> fill_directory(const std::string& directory, const std::vector<StoredTensor>& tensors,
                            const TensorBytes& bytes_of, const std::vector<SmallFile>& small_files,
                            std::uint64_t max_shard_bytes) {
  const Metadata metadata = {{"format", "pt"}};
  for (const SmallFile& file : small_files) {
    SATURN_TRY_VOID(write_whole(join_path(directory, file.name), file.content));
  }
  const std::vector<std::vector<std::size_t>> shards = shards_of(tensors, max_shard_bytes);
  if (shards.size() == 1) {
    return write_some(join_path(directory, "model.safetensors"), tensors, shards[0], bytes_of, metadata);
  }
  Json weight_map = Json::object();
  std::uint64_t total = 0;
  for (std::size_t i = 0; i < shards.size(); ++i) {
    const std::string name = shard_name(i, shards.size());
    SATURN_TRY_VOID(write_some(join_path(directory, name), tensors, shards[i], bytes_of, metadata));
    for (const std::size_t index : shards[i]) {
      weight_map[tensors[index].name] = name;
      total += stored_bytes(tensors[index]);
    }
  }
  const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", std::move(weight_map)}};
  return write_whole(join_path(directory, "model.safetensors.index.json"), to_text(index));
}

}  // namespace

Result<void> write_safetensors(const std::string& path, const std::vector<StoredTensor>& tensors,
                               const TensorBytes& bytes_of, const Metadata& metadata) {
  return write_some(path, tensors, all_of(tensors), bytes_of, metadata);
}

Result<void> write_safetensors_directory(const std::string& directory,
                                         const std::vector<StoredTensor>& tensors,
                                         const TensorBytes& bytes_of,
                                         const std::vector<SmallFile>& small_files,
                                         std::uint64_t max_shard_bytes) {
  const std::string unfinished = directory + ".tmp-" + std::to_string(::getpid());
  SATURN_TRY_VOID(make_directories(unfinished));
  Result<void> written = fill_directory(unfinished, tensors, bytes_of, small_files, max_shard_bytes);
  if (written.ok()) written = replace_directory(unfinished, directory);
  std::error_code ignored;
  std::filesystem::remove_all(unfinished, ignored);
  return written;
}

}  // namespace saturn::formats

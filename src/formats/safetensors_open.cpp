// Opens safetensors files and Hugging Face directories of them through mmap.

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>

#include "saturn/base/check.h"
#include "saturn/base/diagnostic.h"
#include "saturn/base/files.h"
#include "saturn/base/json.h"
#include "saturn/formats/safetensors.h"

namespace saturn::formats {
namespace {

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";
constexpr std::uint64_t kMaxIndexBytes = 32 << 20;

bool exists(const std::string& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

/// The first file of `directory` that holds weights in a form that is not read here; empty where there is
/// none.
std::string other_weights(const std::string& directory) {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
    const std::string suffix = entry.path().extension().string();
    for (const char* known : {".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".gguf"}) {
      if (suffix == known) found.push_back(entry.path().filename().string());
    }
  }
  std::ranges::sort(found);
  return found.empty() ? "" : found.front();
}

Diagnostic no_weights(const std::string& directory) {
  Diagnostic fault{.where = directory,
                   .what = "this directory holds no safetensors weights",
                   .expected = std::string(kSingleFile) + ", or " + kIndexFile + " with its shards"};
  if (const std::string other = other_weights(directory); !other.empty()) {
    fault.what += ", only " + in_quotes(other) + ", which is not read here";
    fault.fix =
        "convert it where you trust it: python3 -c \"import transformers as t; "
        "t.AutoModelForCausalLM.from_pretrained('" +
        directory + "').save_pretrained('" + directory + "')\"";
  }
  return fault;
}

/// True for a name that stays in its directory.
bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

}  // namespace

class Safetensors::Mapping {
 public:
  static Result<std::shared_ptr<const Mapping>> open(const std::string& path) {
    // Not blocking, so that a named pipe in the place of a file is refused rather than waited for.
    FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd.valid()) return system_fault(path, "read", errno);
    struct stat status {};
    if (::fstat(fd.get(), &status) != 0) return system_fault(path, "read", errno);
    if (!S_ISREG(status.st_mode)) {
      return Diagnostic{
          .where = path, .what = "this is not a regular file", .expected = "a safetensors file"};
    }
    const auto size = static_cast<std::size_t>(status.st_size);
    if (size == 0)
      return Diagnostic{.where = path, .what = "the file is empty", .expected = "a safetensors file"};
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd.get(), 0);
    if (address == MAP_FAILED) return system_fault(path, "map", errno);
    return std::shared_ptr<const Mapping>(
        new Mapping(std::move(fd), static_cast<const char*>(address), size));
  }

  ~Mapping() { ::munmap(const_cast<char*>(address_), size_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::string_view bytes() const { return {address_, size_}; }
  int fd() const { return fd_.get(); }

 private:
  Mapping(FileDescriptor fd, const char* address, std::size_t size)
      : fd_(std::move(fd)), address_(address), size_(size) {}

  FileDescriptor fd_;
  const char* address_;
  std::size_t size_;
};

Result<void> Safetensors::add_file(const std::string& path) {
  SATURN_TRY(std::shared_ptr<const Mapping> mapping, Mapping::open(path));
  SATURN_TRY(SafetensorsContent content, parse_safetensors(mapping->bytes(), path));
  if (paths_.empty()) metadata_ = std::move(content.metadata);
  for (StoredTensor& tensor : content.tensors) {
    tensor.file = static_cast<std::uint32_t>(paths_.size());
    tensors_.push_back(std::move(tensor));
  }
  mappings_.push_back(std::move(mapping));
  paths_.push_back(path);
  return {};
}

Result<Safetensors> Safetensors::open(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) {
    if (exists(join_path(path, kSingleFile))) return open(join_path(path, kSingleFile));
    if (exists(join_path(path, kIndexFile))) return open_sharded(join_path(path, kIndexFile));
    return no_weights(path);
  }
  Safetensors files;
  SATURN_TRY_VOID(files.add_file(path));
  std::ranges::sort(files.tensors_, {}, &StoredTensor::name);
  return files;
}

Result<Safetensors> Safetensors::open_sharded(const std::string& index_path) {
  SATURN_TRY(const std::string text, read_whole(index_path, kMaxIndexBytes));
  SATURN_TRY(const Json index, parse_json(text, index_path));
  const auto weight_map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || weight_map == index.end() || !weight_map->is_object() || weight_map->empty()) {
    return Diagnostic{.where = index_path + "#/weight_map",
                      .what = "there is no map from tensors to files",
                      .expected = "an object {tensor name: file name} with at least one entry"};
  }

  // Which file each tensor should be in; every fault of the index at once.
  Diagnostics faults;
  std::map<std::string, std::string, std::less<>> file_of;
  std::map<std::string, std::uint32_t> shards;
  for (const auto& [tensor, file] : weight_map->items()) {
    if (!file.is_string() || !is_plain_name(file.get<std::string>())) {
      faults.push_back({.where = index_path + "#/weight_map/" + tensor,
                        .what = to_line(file) + " does not name a file of this directory",
                        .expected = "a file name without a directory"});
      continue;
    }
    file_of[tensor] = file.get<std::string>();
    shards.emplace(file.get<std::string>(), 0);
  }
  if (!faults.empty()) return faults;

  Safetensors files;
  for (auto& [name, position] : shards) {
    position = static_cast<std::uint32_t>(files.paths_.size());
    if (Result<void> added = files.add_file(join_path(directory_of(index_path), name)); !added.ok()) {
      for (const Diagnostic& fault : added.faults()) faults.push_back(fault);
    }
  }
  if (!faults.empty()) return faults;

  // Index and shards must tell the same story.
  for (const StoredTensor& tensor : files.tensors_) {
    const auto listed = file_of.find(tensor.name);
    if (listed == file_of.end() || shards.at(listed->second) != tensor.file) {
      faults.push_back({.where = files.paths_[tensor.file] + "#/" + tensor.name,
                        .what = "the index does not say that this tensor is in this file",
                        .expected = "each tensor in the file that " + index_path + " names"});
      continue;
    }
    file_of.erase(listed);
  }
  for (const auto& [tensor, file] : file_of) {
    faults.push_back({.where = index_path + "#/weight_map/" + tensor,
                      .what = "tensor " + in_quotes(tensor) + " is not in " + in_quotes(file),
                      .expected = "a file that holds it"});
  }
  if (!faults.empty()) return faults;
  std::ranges::sort(files.tensors_, {}, &StoredTensor::name);
  return files;
}

const StoredTensor* Safetensors::find(std::string_view name) const {
  const auto at = std::ranges::lower_bound(
      tensors_, name, {}, [](const StoredTensor& tensor) { return std::string_view(tensor.name); });
  return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

Result<void> Safetensors::read(const StoredTensor& tensor, std::uint64_t first, char* into,
                               std::size_t size) const {
  SATURN_CHECK(first + size <= tensor.bytes.size(), "what is read lies in its tensor");
  const Mapping& mapping = *mappings_[tensor.file];
  const auto at = static_cast<std::uint64_t>(tensor.bytes.data() - mapping.bytes().data());
  return read_all_at(mapping.fd(), at + first, into, size, paths_[tensor.file]);
}

void Safetensors::forget(const StoredTensor& tensor) const {
  // Whole pages only: the pages at the edges may hold a neighbour that is still to be read.
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = (reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) + page - 1) / page * page;
  const auto end =
      (reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) + tensor.bytes.size()) / page * page;
  if (begin < end) ::madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace saturn::formats

// Reading a checkpoint: the manifest strictly, then the intersection of each stored box with each held one.

#include <ATen/ATen.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <map>
#include <string_view>

#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/version.h"
#include "saturn/train/checkpoint.h"

namespace saturn::train {
namespace {

using Extents = std::vector<std::int64_t>;

/// A file of the checkpoint, mapped.
class Mapped {
 public:
  static Result<Mapped> open(const std::string& path) {
    FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    struct stat status {};
    if (!fd.valid() || ::fstat(fd.get(), &status) != 0) return system_fault(path, "open", errno);
    Mapped mapped;
    mapped.size_ = static_cast<std::size_t>(status.st_size);
    if (mapped.size_ > 0) {
      void* map = ::mmap(nullptr, mapped.size_, PROT_READ, MAP_PRIVATE, fd.get(), 0);
      if (map == MAP_FAILED) return system_fault(path, "map", errno);
      mapped.data_ = static_cast<char*>(map);
    }
    return mapped;
  }
  Mapped(Mapped&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  ~Mapped() {
    if (data_ != nullptr) ::munmap(data_, size_);
  }
  char* data() const { return data_; }
  std::size_t size() const { return size_; }

 private:
  Mapped() = default;
  char* data_ = nullptr;
  std::size_t size_ = 0;
};

struct StoredPiece {
  std::string file;
  std::int64_t begin = 0;
  std::int64_t bytes = 0;
  Extents offsets, shape;
  std::string digest;
  std::string pointer;
  bool checked = false;
};

struct StoredState {
  Extents shape;
  std::vector<StoredPiece> pieces;
  std::string pointer;
};

struct Manifest {
  Progress progress;
  std::map<std::pair<std::string, std::string>, StoredState> tensors;  // by (role, name)
};

Extents extents(JsonReader& reader, const char* key) {
  Extents values;
  for (const Json& value : reader.array(key)) {
    if (!value.is_number_integer() || value.get<std::int64_t>() < 0) {
      reader.fault(key, "this holds " + to_line(value), "whole numbers that are not negative");
      return {};
    }
    values.push_back(value.get<std::int64_t>());
  }
  return values;
}

/// Product, or -1 where it does not fit.
std::int64_t elements(const Extents& shape) {
  std::int64_t count = 1;
  for (std::int64_t extent : shape)
    if (__builtin_mul_overflow(count, extent, &count)) return -1;
  return count;
}

StoredPiece read_piece(JsonReader reader, const Extents& whole) {
  StoredPiece piece;
  piece.file = reader.string("file");
  piece.begin = reader.integer("begin");
  piece.bytes = reader.integer("bytes");
  piece.offsets = extents(reader, "offsets");
  piece.shape = extents(reader, "shape");
  piece.digest = reader.string("digest");
  piece.pointer = reader.pointer_to("digest");
  reader.finish();
  if (piece.file.find('/') != std::string::npos || piece.file.empty() || piece.file[0] == '.')
    reader.fault("file", "this is " + in_quotes(piece.file), "a file of the checkpoint's own directory");
  bool inside = piece.offsets.size() == whole.size() && piece.shape.size() == whole.size();
  for (std::size_t i = 0; inside && i < whole.size(); ++i)
    inside = piece.shape[i] <= whole[i] && piece.offsets[i] <= whole[i] - piece.shape[i];
  if (!inside)
    reader.fault("offsets", "the piece does not lie in its tensor", "offsets + shape within the tensor's");
  const std::int64_t count = inside ? elements(piece.shape) : 0;
  if (piece.begin < 0 || piece.begin % static_cast<std::int64_t>(sizeof(float)) != 0 || count < 0 ||
      piece.bytes != count * static_cast<std::int64_t>(sizeof(float)))
    reader.fault("bytes", "the piece has " + std::to_string(piece.bytes) + " bytes",
                 "four for each element of its shape");
  return piece;
}

Result<Manifest> read_manifest(const std::string& path) {
  SATURN_TRY(const Json document, read_artefact(path, kCheckpointFormat));
  Diagnostics faults;
  Manifest manifest;
  JsonReader reader(document, path, "", faults);
  for (const char* key : {"format", "saturn", "made_from", "written_by"}) reader.any(key);
  if (const std::int64_t version = reader.integer("training_version"); version != kTrainingVersion)
    reader.fault("training_version", "this was trained by version " + std::to_string(version),
                 "version " + std::to_string(kTrainingVersion) + " of the training code");
  Progress& progress = manifest.progress;
  progress.step = reader.integer("step");
  const std::string seed = reader.string("seed");
  if (std::from_chars(seed.data(), seed.data() + seed.size(), progress.seed).ec != std::errc())
    reader.fault("seed", "this is " + in_quotes(seed), "a whole number");
  JsonReader cursor = reader.child("data_cursor");
  progress.epoch = cursor.integer("epoch");
  progress.step_of_epoch = cursor.integer("step_of_epoch");
  cursor.finish();
  progress.best_validation_loss = reader.number("best_validation_loss");
  const std::size_t num_tensors = reader.array("tensors").size();
  for (std::size_t i = 0; i < num_tensors; ++i) {
    JsonReader tensor = reader.child("tensors", i);
    const std::string name = tensor.string("name");
    const std::string role = tensor.string("role");
    if (const std::string dtype = tensor.string("dtype"); dtype != "F32")
      tensor.fault("dtype", "this is " + in_quotes(dtype), "\"F32\"");
    StoredState state;
    state.shape = extents(tensor, "shape");
    state.pointer = tensor.pointer_to("shape");
    const std::size_t num_pieces = tensor.array("pieces").size();
    for (std::size_t p = 0; p < num_pieces; ++p)
      state.pieces.push_back(read_piece(tensor.child("pieces", p), state.shape));
    tensor.finish();
    if (!manifest.tensors.emplace(std::make_pair(role, name), std::move(state)).second)
      tensor.fault("name", in_quotes(name) + " of role " + in_quotes(role) + " is there twice",
                   "each tensor once");
  }
  reader.finish();
  if (!faults.empty()) return faults;
  return manifest;
}

class Loading {
 public:
  Loading(std::string directory, Manifest manifest)
      : directory_(std::move(directory)), manifest_(std::move(manifest)) {}

  /// Fills `held.piece`; remembers the fault where the checkpoint does not cover it.
  Result<void> fill(const StateTensor& held) {
    const auto found = manifest_.tensors.find({held.role, held.name});
    if (found == manifest_.tensors.end())
      return fault("", "there is no " + held.role + " of " + in_quotes(held.name),
                   "every tensor of the job's model");
    StoredState& stored = found->second;
    if (stored.shape != held.shape)
      return fault(stored.pointer, in_quotes(held.name) + " has another shape than the job's model",
                   "a checkpoint of this job");
    std::int64_t filled = 0;
    for (StoredPiece& piece : stored.pieces) {
      SATURN_TRY(const std::int64_t count, copy_common(piece, held));
      filled += count;
    }
    if (filled != held.piece.numel())
      return fault(stored.pointer, "the pieces of " + in_quotes(held.name) + " leave a part of it out",
                   "pieces that cover each tensor once");
    return {};
  }

 private:
  Diagnostic fault(const std::string& pointer, std::string what, std::string expected) const {
    const std::string path = join_path(directory_, "manifest.json");
    return {.where = pointer.empty() ? path : path + "#" + pointer,
            .what = std::move(what),
            .expected = std::move(expected),
            .fix = "resume from an older checkpoint"};
  }

  Result<const Mapped*> file(const StoredPiece& piece) {
    auto found = files_.find(piece.file);
    if (found == files_.end()) {
      SATURN_TRY(Mapped mapped, Mapped::open(join_path(directory_, piece.file)));
      found = files_.emplace(piece.file, std::move(mapped)).first;
    }
    return &found->second;
  }

  /// Copies what `piece` and `held` share and returns the number of elements.
  Result<std::int64_t> copy_common(StoredPiece& piece, const StateTensor& held) {
    const std::size_t rank = held.shape.size();
    Extents from(rank), to(rank), size(rank);
    for (std::size_t i = 0; i < rank; ++i) {
      const std::int64_t first = std::max(piece.offsets[i], held.offsets[i]);
      const std::int64_t last = std::min(piece.offsets[i] + piece.shape[i],
                                         held.offsets[i] + held.piece.size(static_cast<std::int64_t>(i)));
      if (first >= last) return 0;
      from[i] = first - piece.offsets[i];
      to[i] = first - held.offsets[i];
      size[i] = last - first;
    }
    SATURN_TRY(const Mapped* mapped, file(piece));
    if (static_cast<std::uint64_t>(piece.begin) + static_cast<std::uint64_t>(piece.bytes) > mapped->size())
      return fault(piece.pointer, piece.file + " has " + std::to_string(mapped->size()) + " bytes",
                   "at least " + std::to_string(piece.begin + piece.bytes));
    char* bytes = mapped->data() + piece.begin;
    if (!piece.checked && digest_of({bytes, static_cast<std::size_t>(piece.bytes)}) != piece.digest)
      return fault(piece.pointer, "the bytes in " + piece.file + " are not those that were written",
                   "digest " + piece.digest);
    piece.checked = true;
    at::Tensor source = at::from_blob(bytes, piece.shape, at::kFloat);
    at::Tensor target = held.piece;
    for (std::size_t i = 0; i < rank; ++i) {
      source = source.narrow(static_cast<std::int64_t>(i), from[i], size[i]);
      target = target.narrow(static_cast<std::int64_t>(i), to[i], size[i]);
    }
    target.copy_(source);
    return source.numel();
  }

  std::string directory_;
  Manifest manifest_;
  std::map<std::string, Mapped> files_;
};

}  // namespace

Result<Progress> load_checkpoint(const std::string& directory, Technique& technique) {
  SATURN_TRY(Manifest manifest, read_manifest(join_path(directory, "manifest.json")));
  const Progress progress = manifest.progress;
  Loading loading(directory, std::move(manifest));
  const at::NoGradGuard no_grad;
  SATURN_TRY_VOID(technique.for_each_state([&](const StateTensor& held) { return loading.fill(held); }));
  technique.state_loaded();
  return progress;
}

}  // namespace saturn::train

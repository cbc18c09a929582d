// Reading a checkpoint: the intersection of each stored box with each held one, and no byte unverified.
// Straight runs of bytes are read where they belong, block by block on all threads of the rank, each part of
// a block digested while it is in the cache.

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "first_rank.h"
#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/log.h"
#include "saturn/checkpoint/shelf.h"
#include "saturn/train/checkpoint.h"

namespace saturn::train {
namespace {

using checkpoint::Extents;
using checkpoint::kBlockBytes;
using checkpoint::Manifest;
using checkpoint::Piece;
using checkpoint::Tensor;

/// One file of the checkpoint.
class Shard {
 public:
  /// Errors: also where the size is not the one that was written.
  static Result<Shard> open(const std::string& directory, const checkpoint::File& file) {
    Shard shard;
    shard.path_ = join_path(directory, file.name);
    shard.fd_ = FileDescriptor(::open(shard.path_.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    struct stat status {};
    if (!shard.fd_.valid() || ::fstat(shard.fd_.get(), &status) != 0)
      return system_fault(shard.path_, "open", errno);
    if (status.st_size != file.bytes)
      return Diagnostic{.where = shard.path_,
                        .what = file.name + " has " + std::to_string(status.st_size) + " bytes",
                        .expected = std::to_string(file.bytes) + ", as were written"};
    shard.size_ = static_cast<std::size_t>(file.bytes);
    return shard;
  }
  Shard(Shard&& other) noexcept
      : path_(std::move(other.path_)),
        fd_(std::move(other.fd_)),
        size_(other.size_),
        map_(std::exchange(other.map_, nullptr)) {}
  ~Shard() {
    if (map_ != nullptr) ::munmap(map_, size_);
  }

  Result<void> read(std::int64_t at, std::int64_t size, char* into) const {
    return read_all_at(fd_.get(), static_cast<std::uint64_t>(at), into, static_cast<std::size_t>(size),
                       path_);
  }

  /// The whole file; null where it cannot be mapped.
  char* map() {
    if (map_ != nullptr) return map_;
    void* map = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd_.get(), 0);
    if (map != MAP_FAILED) map_ = static_cast<char*>(map);
    return map_;
  }
  const std::string& path() const { return path_; }

 private:
  Shard() = default;
  std::string path_;
  FileDescriptor fd_;
  std::size_t size_ = 0;
  char* map_ = nullptr;
};

/// What a stored box and a held one share.
struct Common {
  Extents from, to, size;  ///< in the piece, in what is held, and how much
  std::int64_t count = 1;
};

Common common_part(const Piece& piece, const StateTensor& held) {
  const std::size_t rank = held.shape.size();
  Common common{.from = Extents(rank), .to = Extents(rank), .size = Extents(rank)};
  for (std::size_t i = 0; i < rank; ++i) {
    const std::int64_t first = std::max(piece.offsets[i], held.offsets[i]);
    const std::int64_t last = std::min(piece.offsets[i] + piece.shape[i],
                                       held.offsets[i] + held.piece.size(static_cast<std::int64_t>(i)));
    common.from[i] = first - piece.offsets[i];
    common.to[i] = first - held.offsets[i];
    common.size[i] = std::max<std::int64_t>(0, last - first);
    common.count *= common.size[i];
  }
  return common;
}

/// Whether the box is one run of elements in a row-major tensor of `shape`.
bool is_one_run(const Extents& size, at::IntArrayRef shape) {
  std::size_t i = 0;
  while (i < size.size() && size[i] == 1) ++i;
  for (++i; i < size.size(); ++i)
    if (size[i] != shape[i]) return false;
  return true;
}

std::int64_t flat_index(const Extents& at, at::IntArrayRef shape) {
  std::int64_t index = 0;
  for (std::size_t i = 0; i < at.size(); ++i) index = index * shape[i] + at[i];
  return index;
}

/// Bytes of a piece and the memory that they go to.
struct Run {
  const Piece* piece = nullptr;
  const Shard* from = nullptr;
  std::int64_t begin = 0, end = 0;  ///< in the piece
  char* into = nullptr;
  at::Tensor held;  ///< keeps `into`
};

constexpr std::int64_t kCachedBytes = std::int64_t{256} << 10;

class Loading {
 public:
  Loading(std::string directory, const Manifest& manifest) : directory_(std::move(directory)) {
    for (const checkpoint::File& file : manifest.files) files_.emplace(file.name, file);
    for (const Tensor& tensor : manifest.tensors)
      tensors_.emplace(std::make_pair(tensor.role, tensor.name), &tensor);
  }

  /// Fills `held.piece`, or leaves that to `finish` where it stays where it is until then.
  Result<void> fill(const StateTensor& held) {
    const auto found = tensors_.find({held.role, held.name});
    if (found == tensors_.end())
      return fault("", "there is no " + held.role + " of " + in_quotes(held.name),
                   "every tensor of the job's model");
    const Tensor& stored = *found->second;
    if (stored.shape != held.shape)
      return fault(stored.pointer, in_quotes(held.name) + " has another shape than the job's model",
                   "a checkpoint of this job");
    std::int64_t filled = 0;
    for (const Piece& piece : stored.pieces) {
      const Common common = common_part(piece, held);
      if (common.count == 0) continue;
      SATURN_TRY_VOID(copy(piece, common, held));
      filled += common.count;
    }
    if (filled != held.piece.numel())
      return fault(stored.pointer, "the pieces of " + in_quotes(held.name) + " leave a part of it out",
                   "pieces that cover each tensor once");
    return held.in_slow_memory ? finish() : Result<void>();
  }

  /// Reads the straight runs that are left.
  Result<void> finish() {
    const std::vector<Run> runs = std::exchange(runs_, {});
    std::vector<BlockOfRun> blocks;
    for (const Run& run : runs)
      for (std::int64_t block = run.begin / kBlockBytes; block * kBlockBytes < run.end; ++block)
        blocks.push_back({&run, block});
    std::atomic<std::size_t> next = 0;
    Diagnostics faults;
    std::mutex mutex;
    at::parallel_for(0, at::get_num_threads(), 1, [&](std::int64_t, std::int64_t) {
      StreamedDigest digest;
      std::vector<char> aside;
      for (std::size_t i = next++; i < blocks.size(); i = next++) {
        const Result<void> read = read_block(blocks[i], digest, aside);
        if (read.ok()) continue;
        next = blocks.size();
        const std::lock_guard lock(mutex);
        faults = read.faults();
      }
    });
    if (!faults.empty()) return faults;
    return {};
  }

 private:
  struct BlockOfRun {
    const Run* run;
    std::int64_t block;
  };

  Diagnostic fault(const std::string& pointer, std::string what, std::string expected) const {
    const std::string path = join_path(directory_, "manifest.json");
    return {.where = pointer.empty() ? path : path + "#" + pointer,
            .what = std::move(what),
            .expected = std::move(expected),
            .fix = "resume from an older checkpoint"};
  }

  Result<Shard*> shard(const std::string& name) {
    auto found = shards_.find(name);
    if (found == shards_.end()) {
      SATURN_TRY(Shard shard, Shard::open(directory_, files_.at(name)));
      found = shards_.emplace(name, std::move(shard)).first;
    }
    return &found->second;
  }

  Result<void> copy(const Piece& piece, const Common& common, const StateTensor& held) {
    SATURN_TRY(Shard* const from, shard(piece.file));
    const bool straight = held.piece.is_cpu() && held.piece.is_contiguous() &&
                          is_one_run(common.size, piece.shape) && is_one_run(common.size, held.piece.sizes());
    if (!straight) return copy_box(piece, common, held, *from);
    const std::int64_t begin = flat_index(common.from, piece.shape) * kElement;
    char* const into = static_cast<char*>(held.piece.mutable_data_ptr()) +
                       flat_index(common.to, held.piece.sizes()) * kElement;
    runs_.push_back({&piece, from, begin, begin + common.count * kElement, into, held.piece});
    return {};
  }

  /// Reads and verifies a whole block, and keeps of it what the run wants.
  Result<void> read_block(const BlockOfRun& wanted, StreamedDigest& digest, std::vector<char>& aside) const {
    const Run& run = *wanted.run;
    const std::int64_t begin = wanted.block * kBlockBytes;
    const std::int64_t end = std::min(begin + kBlockBytes, run.piece->bytes);
    const std::int64_t first = std::max(begin, run.begin), last = std::min(end, run.end);
    const bool in_place = first == begin && last == end;
    if (!in_place) aside.resize(static_cast<std::size_t>(kBlockBytes));
    char* const bytes = in_place ? run.into + (begin - run.begin) : aside.data();
    for (std::int64_t at = begin; at < end; at += kCachedBytes) {
      const std::int64_t size = std::min(kCachedBytes, end - at);
      SATURN_TRY_VOID(run.from->read(run.piece->begin + at, size, bytes + (at - begin)));
      digest.add({bytes + (at - begin), static_cast<std::size_t>(size)});
    }
    SATURN_TRY_VOID(check(*run.piece, wanted.block, digest.take()));
    if (!in_place)
      std::memcpy(run.into + (first - run.begin), bytes + (first - begin),
                  static_cast<std::size_t>(last - first));
    return {};
  }

  Result<void> check(const Piece& piece, std::int64_t block, const std::string& digest) const {
    const std::string& want = piece.digests[static_cast<std::size_t>(block)];
    if (digest == want) return {};
    return fault(piece.pointer + "/" + std::to_string(block),
                 "the bytes in " + piece.file + " are not those that were written", "digest " + want);
  }

  /// A box that is no single run, or lies on a device: through the mapped file.
  Result<void> copy_box(const Piece& piece, const Common& common, const StateTensor& held, Shard& from) {
    char* const map = from.map();
    if (map == nullptr) return system_fault(from.path(), "map", errno);
    char* const bytes = map + piece.begin;
    Extents end = common.from;
    for (std::size_t i = 0; i < end.size(); ++i) end[i] += common.size[i] - 1;
    const std::int64_t first = flat_index(common.from, piece.shape) * kElement / kBlockBytes;
    const std::int64_t last = flat_index(end, piece.shape) * kElement / kBlockBytes;
    for (std::int64_t block = first; block <= last; ++block) {
      if (!verified_.emplace(&piece, block).second) continue;
      const std::int64_t begin = block * kBlockBytes;
      const std::int64_t size = std::min(kBlockBytes, piece.bytes - begin);
      SATURN_TRY_VOID(check(piece, block, digest_of({bytes + begin, static_cast<std::size_t>(size)})));
    }
    at::Tensor source = at::from_blob(bytes, piece.shape, at::TensorOptions(at::kFloat));
    at::Tensor target = held.piece;
    for (std::size_t i = 0; i < common.size.size(); ++i) {
      source = source.narrow(static_cast<std::int64_t>(i), common.from[i], common.size[i]);
      target = target.narrow(static_cast<std::int64_t>(i), common.to[i], common.size[i]);
    }
    target.copy_(source);
    return {};
  }

  static constexpr std::int64_t kElement = sizeof(float);
  std::string directory_;
  std::map<std::string, checkpoint::File> files_;
  std::map<std::pair<std::string, std::string>, const Tensor*> tensors_;  // by (role, name)
  std::map<std::string, Shard> shards_;
  std::vector<Run> runs_;                                     // left to `finish`
  std::set<std::pair<const Piece*, std::int64_t>> verified_;  // blocks of mapped pieces
};

bool on_every_rank(bool mine, Communicator& communicator) {
  at::Tensor failed = at::full({1}, mine ? 0.0 : 1.0, at::kDouble);
  communicator.sum(failed);
  return failed.item<double>() == 0.0;
}

}  // namespace

Result<Progress> load_checkpoint(const std::string& directory, Technique& technique) {
  SATURN_TRY(const Manifest manifest, checkpoint::read_manifest(directory));
  Loading loading(directory, manifest);
  const at::NoGradGuard no_grad;
  SATURN_TRY_VOID(technique.for_each_state([&](const StateTensor& held) { return loading.fill(held); }));
  SATURN_TRY_VOID(loading.finish());
  technique.state_loaded();
  return manifest.progress;
}

Result<LoadedCheckpoint> load_newest_checkpoint(const std::string& directory, Technique& technique,
                                                Communicator& communicator) {
  const std::string shelf = directory_of(directory);
  LoadedCheckpoint loaded{.directory = directory, .progress = {}, .passed_over = {}};
  Diagnostics first_faults;
  for (;;) {
    const Result<Progress> mine = load_checkpoint(loaded.directory, technique);
    if (on_every_rank(mine.ok(), communicator)) {
      loaded.progress = *mine;
      return loaded;
    }
    if (!mine.ok()) {
      log_warning(to_text(mine.faults()));
      loaded.passed_over.push_back(mine.faults().front());
      if (first_faults.empty()) first_faults = mine.faults();
    }
    const std::optional<std::int64_t> step = checkpoint::step_of_name(file_name_of(loaded.directory));
    const std::optional<std::int64_t> older = step ? checkpoint::newest_before(shelf, *step) : std::nullopt;
    // Rank 0 decides: the disk may look different to a rank whose disk is the trouble.
    const std::int64_t next = of_first_rank(older.value_or(-1), communicator);
    if (next < 0) break;
    loaded.directory = join_path(shelf, checkpoint::name_of_step(next));
  }
  if (!first_faults.empty()) return first_faults;
  return Diagnostic{.where = directory,
                    .what = "another rank could not read its part of the checkpoint",
                    .expected = "its own message in the log"};
}

}  // namespace saturn::train

// The order of a save: agree, copy, write each rank's shard, join the parts on rank 0, publish.

#include "saturn/train/saver.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <sys/mman.h>

#include <chrono>
#include <cstring>
#include <mutex>
#include <thread>

#include "saturn/base/log.h"
#include "saturn/checkpoint/shelf.h"
#include "saturn/checkpoint/write.h"
#include "saturn/devices/machine.h"

namespace saturn::train {
namespace {

using checkpoint::Manifest;
using checkpoint::Part;
using checkpoint::ShardWriter;

constexpr std::size_t kCopyAlignment = 64;
constexpr std::size_t kCopyChunk = std::size_t{4} << 20;
constexpr double kMemoryToSpare = 2.0;  // of the copy's size

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

ShardWriter::Place place_of(const StateTensor& state) {
  SATURN_CHECK(state.piece.scalar_type() == at::kFloat, "training state is fp32");
  return {.name = state.name,
          .role = state.role,
          .shape = state.shape,
          .offsets = state.offsets,
          .extent = state.piece.sizes().vec()};
}

Diagnostic elsewhere(const std::string& directory) {
  return {.kind = Kind::machine,
          .where = directory,
          .what = "another rank could not write its part of the checkpoint",
          .expected = "its own message in the log"};
}

/// Memory that is neither the allocator's nor zeroed twice: mapped, or pinned where a GPU copies into it.
class CopyBuffer {
 public:
  ~CopyBuffer() { release(); }

  std::size_t size() const { return size_; }

  /// False where the system has no such memory.
  bool reserve(std::size_t size, bool pinned) {
    if (size <= size_) return true;
    release();
    if (pinned) {
      pinned_ =
          at::empty({static_cast<std::int64_t>(size)}, at::TensorOptions(at::kByte).pinned_memory(true));
      data_ = static_cast<char*>(pinned_.mutable_data_ptr());
    } else {
      void* map = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (map == MAP_FAILED) return false;
      (void)::madvise(map, size, MADV_HUGEPAGE);
      data_ = static_cast<char*>(map);
    }
    size_ = size;
    return true;
  }

  char* data() const { return data_; }

 private:
  void release() {
    if (data_ != nullptr && !pinned_.defined()) ::munmap(data_, size_);
    pinned_ = at::Tensor();
    data_ = nullptr;
    size_ = 0;
  }

  char* data_ = nullptr;
  std::size_t size_ = 0;
  at::Tensor pinned_;
};

struct CopiedPiece {
  ShardWriter::Place place;
  const char* data = nullptr;
  std::size_t bytes = 0;
};

/// Kinds of faults that matter to who hears of them, by the first word of a note.
constexpr std::pair<const char*, Kind> kKinds[] = {
    {"full", Kind::disk_full}, {"poisoned", Kind::job_failed}, {"fault", Kind::machine}};

/// What a rank that wrote its shard tells rank 0: its part, or why there is none.
std::string note_of(const Result<Part>& part) {
  if (part.ok()) return "part " + checkpoint::to_line(*part);
  for (const auto& [word, kind] : kKinds)
    if (part.faults().front().kind == kind) return std::string(word) + " " + to_text(part.faults());
  return "fault " + to_text(part.faults());
}

Result<Part> part_of_note(const std::string& note, int rank) {
  const std::size_t space = note.find(' ');
  const std::string word = note.substr(0, space);
  const std::string rest = space == std::string::npos ? "" : note.substr(space + 1);
  const std::string who = "rank " + std::to_string(rank);
  if (word == "part") return checkpoint::part_from_line(rest, who);
  Diagnostic fault{.kind = Kind::machine, .what = who + " could not write its part: " + rest};
  for (const auto& [known, kind] : kKinds)
    if (word == known) fault.kind = kind;
  return fault;
}

}  // namespace

class Saver::Work {
 public:
  Work(Technique& technique, Communicator& communicator)
      : technique_(technique), communicator_(communicator) {}
  ~Work() { wait(); }

  Result<void> begin(const SaveRequest& request);
  Result<void> save(const SaveRequest& request);
  void wait() {
    if (writer_.joinable()) writer_.join();
  }
  std::vector<SaveReport> take_reports() {
    const std::lock_guard lock(mutex_);
    return std::exchange(reports_, {});
  }

 private:
  struct Size {
    std::int64_t mine = 0, all = 0;
    bool in_slow_memory = false;  ///< some state of some rank is
    bool on_device = false;       ///< of this rank
  };

  bool first() const { return communicator_.rank() == 0; }
  bool any_rank(bool mine) {
    at::Tensor flag = at::full({1}, mine ? 1.0 : 0.0, at::kDouble);
    communicator_.sum(flag);
    return flag.item<double>() > 0.0;
  }
  /// `mine` on all ranks, or somebody's fault.
  Result<void> agreed(const std::string& directory, Result<void> mine) {
    if (any_rank(!mine.ok()) && mine.ok()) return elsewhere(directory);
    return mine;
  }

  Result<Size> measure();
  Result<void> prepare(const SaveRequest& request, const Size& size);
  /// On all ranks alike; makes room for the copy.
  bool can_copy(const Size& size);
  Result<void> save_directly(const SaveRequest& request);
  void copy(const Size& size);
  Result<Part> write_copy(const std::string& directory);
  /// Rank 0: joins the parts of all ranks, then makes the checkpoint appear.
  Result<void> publish(const SaveRequest& request, const std::string& key, Result<Part> own);
  Result<void> write_in_background(const SaveRequest& request, const std::string& key);
  /// Under which the ranks tell rank 0 of one save.
  std::string next_key() { return "save/" + std::to_string(num_saves_++) + "/"; }

  Technique& technique_;
  Communicator& communicator_;
  CopyBuffer buffer_;
  std::vector<CopiedPiece> pieces_;
  std::int64_t num_saves_ = 0;
  std::thread writer_;
  std::mutex mutex_;
  std::vector<SaveReport> reports_;
};

Result<Saver::Work::Size> Saver::Work::measure() {
  Size size;
  SATURN_TRY_VOID(technique_.for_each_state([&](const StateTensor& state) -> Result<void> {
    if (!state.primary) return {};
    const std::size_t over = state.piece.nbytes() % kCopyAlignment;
    size.mine += static_cast<std::int64_t>(state.piece.nbytes() + (over == 0 ? 0 : kCopyAlignment - over));
    size.in_slow_memory |= state.in_slow_memory;
    size.on_device |= !state.piece.is_cpu();
    return {};
  }));
  at::Tensor shared = at::empty({2}, at::kDouble);
  auto* values = shared.mutable_data_ptr<double>();
  values[0] = static_cast<double>(size.mine);
  values[1] = size.in_slow_memory ? 1.0 : 0.0;
  communicator_.sum(shared);
  size.all = static_cast<std::int64_t>(values[0]);
  size.in_slow_memory = values[1] > 0.0;
  return size;
}

Result<void> Saver::Work::prepare(const SaveRequest& request, const Size& size) {
  return agreed(request.directory,
                first() ? checkpoint::prepare(request.directory, size.all) : Result<void>());
}

bool Saver::Work::can_copy(const Size& size) {
  if (size.in_slow_memory) return false;
  const auto mine = static_cast<std::size_t>(size.mine);
  const double spare = static_cast<double>(devices::available_memory_bytes());
  const bool fits = buffer_.size() >= mine || spare >= kMemoryToSpare * static_cast<double>(size.all);
  return !any_rank(!fits || !buffer_.reserve(mine, size.on_device));
}

void Saver::Work::copy(const Size& size) {
  pieces_.clear();
  std::size_t at = 0;
  struct Chunk {
    char* to;
    const char* from;
    std::size_t bytes;
  };
  std::vector<Chunk> chunks;
  const at::NoGradGuard no_grad;
  const Result<void> visited = technique_.for_each_state([&](const StateTensor& state) -> Result<void> {
    if (!state.primary) return {};
    const at::Tensor& piece = state.piece;
    const std::size_t bytes = piece.nbytes();
    char* const to = buffer_.data() + at;
    pieces_.push_back({.place = place_of(state), .data = to, .bytes = bytes});
    at += (bytes + kCopyAlignment - 1) / kCopyAlignment * kCopyAlignment;
    if (piece.is_cpu() && piece.is_contiguous()) {
      const auto* from = static_cast<const char*>(piece.const_data_ptr());
      for (std::size_t begin = 0; begin < bytes; begin += kCopyChunk)
        chunks.push_back({to + begin, from + begin, std::min(kCopyChunk, bytes - begin)});
    } else {
      at::Tensor target = at::from_blob(to, piece.sizes(), at::TensorOptions(at::kFloat));
      target.copy_(piece, /*non_blocking=*/true);
    }
    return {};
  });
  SATURN_CHECK(visited.ok() && at <= static_cast<std::size_t>(size.mine),
               "the state is as large as it was measured");
  at::parallel_for(0, static_cast<std::int64_t>(chunks.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const Chunk& chunk = chunks[static_cast<std::size_t>(i)];
      std::memcpy(chunk.to, chunk.from, chunk.bytes);
    }
  });
  technique_.synchronize();
}

Result<Part> Saver::Work::write_copy(const std::string& directory) {
  SATURN_TRY(ShardWriter writer,
             ShardWriter::create(checkpoint::temporary_of(directory), communicator_.rank()));
  for (CopiedPiece& piece : pieces_)
    SATURN_TRY_VOID(writer.add(std::move(piece.place), {piece.data, piece.bytes}));
  return writer.finish();
}

Result<void> Saver::Work::publish(const SaveRequest& request, const std::string& key, Result<Part> own) {
  Manifest manifest{
      .progress = request.progress, .written_by = request.written_by, .files = {}, .tensors = {}};
  Diagnostics faults;
  for (int rank = 0; rank < communicator_.num_ranks(); ++rank) {
    Result<Part> part =
        rank == 0 ? std::move(own) : part_of_note(communicator_.take(key + std::to_string(rank)), rank);
    if (part.ok())
      join(manifest, *std::move(part));
    else
      faults.push_back(part.faults().front());
  }
  if (!faults.empty()) return faults;
  SATURN_TRY_VOID(checkpoint::publish(request.directory, manifest));
  if (request.keep == 0) return {};
  // The checkpoint is there; what could not be removed is no reason to doubt it.
  if (const auto pruned = checkpoint::prune(directory_of(request.directory), request.keep); !pruned.ok())
    log_warning(to_text(pruned.faults()));
  return {};
}

Result<void> Saver::Work::begin(const SaveRequest& request) {
  const double begun_s = now_s();
  wait();
  SATURN_TRY(const Size size, measure());
  SATURN_TRY_VOID(prepare(request, size));
  if (!can_copy(size)) {
    SATURN_TRY_VOID(save_directly(request));
    const double took_s = now_s() - begun_s;
    if (first()) reports_.push_back({request.directory, request.progress.step, took_s, took_s, {}});
    return {};
  }
  copy(size);
  const std::string key = next_key();
  writer_ = std::thread([this, request, key, begun_s, pause_s = now_s() - begun_s] {
    const Result<void> done = write_in_background(request, key);
    if (first()) {
      const std::lock_guard lock(mutex_);
      reports_.push_back({.directory = request.directory,
                          .step = request.progress.step,
                          .pause_s = pause_s,
                          .save_s = now_s() - begun_s,
                          .faults = done.ok() ? Diagnostics() : done.faults()});
    }
  });
  return {};
}

Result<void> Saver::Work::write_in_background(const SaveRequest& request, const std::string& key) {
  try {
    Result<Part> part = write_copy(request.directory);
    if (!first()) {
      communicator_.post(key + std::to_string(communicator_.rank()), note_of(part));
      return {};
    }
    Result<void> done = publish(request, key, std::move(part));
    if (!done.ok()) checkpoint::give_up(request.directory);
    return done;
  } catch (const std::exception& error) {
    // LibTorch's: a peer is gone, as the training will notice by itself.
    return Diagnostic{.kind = Kind::machine, .where = request.directory, .what = error.what()};
  }
}

Result<void> Saver::Work::save(const SaveRequest& request) {
  wait();
  SATURN_TRY(const Size size, measure());
  SATURN_TRY_VOID(prepare(request, size));
  return save_directly(request);
}

/// Every pass ends in an agreement: a rank that failed tells the others instead of leaving them waiting.
Result<void> Saver::Work::save_directly(const SaveRequest& request) {
  const std::string key = next_key();
  const auto write_pieces = [&]() -> Result<Part> {
    SATURN_TRY(ShardWriter writer,
               ShardWriter::create(checkpoint::temporary_of(request.directory), communicator_.rank()));
    SATURN_TRY_VOID(technique_.for_each_state([&](const StateTensor& state) -> Result<void> {
      if (!state.primary) return {};
      const at::Tensor piece = state.piece.detach().cpu().contiguous();
      return writer.add(place_of(state), {static_cast<const char*>(piece.const_data_ptr()), piece.nbytes()});
    }));
    return writer.finish();
  };
  Result<Part> part = write_pieces();
  Result<void> all = agreed(request.directory, part.ok() ? Result<void>() : part.faults());
  if (all.ok()) {
    if (!first()) communicator_.post(key + std::to_string(communicator_.rank()), note_of(part));
    all = agreed(request.directory, first() ? publish(request, key, std::move(part)) : Result<void>());
  }
  if (!all.ok() && first()) checkpoint::give_up(request.directory);
  return all;
}

Saver::Saver(Technique& technique, Communicator& communicator)
    : work_(std::make_unique<Work>(technique, communicator)) {}
Saver::~Saver() = default;
Result<void> Saver::begin(const SaveRequest& request) {
  return work_->begin(request);
}
Result<void> Saver::save(const SaveRequest& request) {
  return work_->save(request);
}
void Saver::wait() {
  work_->wait();
}
std::vector<SaveReport> Saver::take_reports() {
  return work_->take_reports();
}

Result<void> save_checkpoint(const std::string& directory, const Progress& progress, const Json& written_by,
                             Technique& technique, Communicator& communicator) {
  return Saver(technique, communicator)
      .save({.directory = directory, .progress = progress, .written_by = written_by});
}

}  // namespace saturn::train

// Listing, verifying and pruning a directory of checkpoints. Links are never followed.

#include "saturn/checkpoint/shelf.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>

#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "shelf_files.h"

namespace saturn::checkpoint {
namespace {

namespace fs = std::filesystem;

bool is_directory(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

struct Verifying {
  const std::string& directory;
  const Manifest& manifest;
  Diagnostics faults;
  std::unique_ptr<char[]> block = std::make_unique<char[]>(kBlockBytes);

  void fault(const std::string& pointer, std::string what, std::string expected) {
    faults.push_back({.where = join_path(directory, "manifest.json") + "#" + pointer,
                      .what = std::move(what),
                      .expected = std::move(expected)});
  }

  void check_pieces(const File& file, int fd) {
    const std::string path = join_path(directory, file.name);
    for (const Tensor& tensor : manifest.tensors) {
      for (const Piece& piece : tensor.pieces) {
        if (piece.file != file.name) continue;
        for (std::size_t i = 0; i < piece.digests.size(); ++i) {
          const std::int64_t from = static_cast<std::int64_t>(i) * kBlockBytes;
          const auto size = static_cast<std::size_t>(std::min(kBlockBytes, piece.bytes - from));
          const Result<void> read =
              read_all_at(fd, static_cast<std::uint64_t>(piece.begin + from), block.get(), size, path);
          if (!read.ok()) {
            faults.push_back(read.faults().front());
            return;
          }
          if (digest_of({block.get(), size}) != piece.digests[i])
            fault(piece.pointer + "/" + std::to_string(i),
                  "the bytes of " + in_quotes(tensor.name) + " in " + file.name +
                      " are not those that were written",
                  "digest " + piece.digests[i]);
        }
      }
    }
  }

  void check_file(const File& file) {
    const std::string path = join_path(directory, file.name);
    const FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    struct stat status {};
    if (!fd.valid() || ::fstat(fd.get(), &status) != 0) {
      faults.push_back(system_fault(path, "open", errno));
    } else if (status.st_size != file.bytes) {
      faults.push_back({.where = path,
                        .what = "this has " + std::to_string(status.st_size) + " bytes",
                        .expected = std::to_string(file.bytes) + ", as were written"});
    } else {
      check_pieces(file, fd.get());
    }
  }

  void check_tensor(const Tensor& tensor) {
    std::int64_t count = 0;
    for (const Piece& piece : tensor.pieces) count += elements(piece.shape);
    if (count != elements(tensor.shape))
      fault(tensor.pointer, "the pieces of " + in_quotes(tensor.name) + " do not make up the whole",
            "pieces that cover each tensor once");
  }
};

/// What pruning looks at. A manifest that cannot be read has no loss to be the best with.
std::vector<Kept> all_in(const std::string& shelf) {
  std::vector<Kept> all;
  for (const std::int64_t step : steps_in(shelf)) {
    Kept kept{.step = step, .validation_loss = std::nullopt};
    const Result<Manifest> manifest = read_manifest(join_path(shelf, name_of_step(step)));
    if (manifest.ok() && manifest->progress.validation)
      kept.validation_loss = manifest->progress.validation->loss;
    all.push_back(kept);
  }
  return all;
}

bool is_leftover(const std::string& name) {
  if (name.starts_with(std::string(kLatest) + ".tmp-")) return true;
  for (const std::string ending : {kUnfinished, kUnwanted})
    if (name.ends_with(ending) && step_of_name(name.substr(0, name.size() - ending.size()))) return true;
  return false;
}

}  // namespace

std::vector<std::int64_t> steps_in(const std::string& shelf) {
  std::vector<std::int64_t> steps;
  std::error_code error;
  for (fs::directory_iterator at(shelf, error), end; !error && at != end; at.increment(error)) {
    const std::optional<std::int64_t> step = step_of_name(at->path().filename().string());
    if (step && is_directory(at->path().string())) steps.push_back(*step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

std::optional<std::int64_t> latest_in(const std::string& shelf) {
  const std::vector<std::int64_t> steps = steps_in(shelf);
  if (steps.empty()) return std::nullopt;
  const std::string path = join_path(shelf, kLatest);
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode)) {
    Result<std::string> name = read_whole(path, 64);
    if (name.ok() && name->ends_with('\n')) name->pop_back();
    const std::optional<std::int64_t> step = name.ok() ? step_of_name(*name) : std::nullopt;
    if (step && std::binary_search(steps.begin(), steps.end(), *step)) return step;
  }
  return steps.back();
}

std::optional<std::int64_t> newest_before(const std::string& shelf, std::int64_t step) {
  const std::vector<std::int64_t> steps = steps_in(shelf);
  const auto at = std::lower_bound(steps.begin(), steps.end(), step);
  if (at == steps.begin()) return std::nullopt;
  return *std::prev(at);
}

Result<Manifest> verify(const std::string& directory) {
  SATURN_TRY(Manifest manifest, read_manifest(directory));
  Verifying verifying{.directory = directory, .manifest = manifest, .faults = {}};
  for (const File& file : manifest.files) verifying.check_file(file);
  for (const Tensor& tensor : manifest.tensors) verifying.check_tensor(tensor);
  if (!verifying.faults.empty()) return std::move(verifying.faults);
  return manifest;
}

std::optional<std::int64_t> best_of(const std::vector<Kept>& all) {
  const Kept* best = nullptr;
  for (const Kept& kept : all) {
    if (!kept.validation_loss) continue;
    const bool better = best == nullptr || *kept.validation_loss < *best->validation_loss ||
                        (*kept.validation_loss == *best->validation_loss && kept.step < best->step);
    if (better) best = &kept;
  }
  if (best == nullptr) return std::nullopt;
  return best->step;
}

std::vector<std::int64_t> unwanted(const std::vector<Kept>& all, std::int64_t latest, int keep) {
  std::vector<Kept> past;
  std::vector<std::int64_t> result;
  for (const Kept& kept : all) {
    if (kept.step <= latest)
      past.push_back(kept);
    else
      result.push_back(kept.step);
  }
  std::sort(past.begin(), past.end(), [](const Kept& a, const Kept& b) { return a.step > b.step; });
  const std::optional<std::int64_t> best = best_of(past);
  for (std::size_t i = static_cast<std::size_t>(std::max(1, keep)); i < past.size(); ++i)
    if (past[i].step != best) result.push_back(past[i].step);
  std::sort(result.begin(), result.end(), std::greater<>());
  return result;
}

Result<std::vector<std::int64_t>> prune(const std::string& shelf, int keep) {
  std::error_code error;
  for (fs::directory_iterator at(shelf, error), end; !error && at != end; at.increment(error)) {
    if (std::error_code ignored; is_leftover(at->path().filename().string()))
      fs::remove_all(at->path(), ignored);
  }
  const std::optional<std::int64_t> latest = latest_in(shelf);
  if (!latest) return std::vector<std::int64_t>();
  const std::vector<std::int64_t> steps = unwanted(all_in(shelf), *latest, keep);
  for (const std::int64_t step : steps) {
    const std::string path = join_path(shelf, name_of_step(step));
    const std::string away = path + kUnwanted;
    if (::rename(path.c_str(), away.c_str()) != 0) return system_fault(path, "remove", errno);
    SATURN_TRY_VOID(sync_directory(shelf));
    fs::remove_all(away, error);
    if (error) return system_fault(away, "remove", error.value());
  }
  return steps;
}

}  // namespace saturn::checkpoint

// Writing a checkpoint: each rank its file and its part of the manifest, rank 0 the whole; then the rename.

#include "saturn/train/checkpoint.h"

#include <ATen/ATen.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string_view>

#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/log.h"
#include "saturn/base/units.h"
#include "saturn/base/version.h"

namespace saturn::train {
namespace {

namespace fs = std::filesystem;
constexpr std::int64_t kAlignment = 64;

std::string rank_file(int rank, const char* extension) {
  char name[32];
  std::snprintf(name, sizeof name, "rank-%05d.%s", rank, extension);
  return name;
}

Result<void> write_all(int fd, std::string_view bytes, const std::string& path) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return system_fault(path, "write", errno);
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return {};
}

Result<void> sync_directory(const std::string& path) {
  FileDescriptor fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid() || ::fsync(fd.get()) != 0) return system_fault(path, "sync", errno);
  return {};
}

Result<std::int64_t> bytes_to_write(Technique& technique) {
  std::int64_t bytes = 0;
  SATURN_TRY_VOID(technique.for_each_state([&](const StateTensor& state) -> Result<void> {
    if (state.primary) bytes += static_cast<std::int64_t>(state.piece.nbytes()) + kAlignment;
    return {};
  }));
  return bytes;
}

/// Writes this rank's file and returns its entries for the manifest.
Result<Json> write_pieces(const std::string& directory, int rank, Technique& technique) {
  const std::string path = join_path(directory, rank_file(rank, "bin"));
  FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
  if (!fd.valid()) return system_fault(path, "create", errno);
  Json entries = Json::array();
  std::int64_t at = 0;
  const std::string padding(static_cast<std::size_t>(kAlignment), '\0');
  SATURN_TRY_VOID(technique.for_each_state([&](const StateTensor& state) -> Result<void> {
    if (!state.primary) return {};
    const at::Tensor piece = state.piece.detach().cpu().contiguous();
    SATURN_CHECK(piece.scalar_type() == at::kFloat, "training state is fp32");
    const std::string_view bytes(static_cast<const char*>(piece.const_data_ptr()), piece.nbytes());
    SATURN_TRY_VOID(write_all(fd.get(), bytes, path));
    entries.push_back({{"name", state.name},
                       {"role", state.role},
                       {"dtype", "F32"},
                       {"shape", state.shape},
                       {"pieces", Json::array({{{"file", rank_file(rank, "bin")},
                                                {"begin", at},
                                                {"bytes", bytes.size()},
                                                {"offsets", state.offsets},
                                                {"shape", piece.sizes().vec()},
                                                {"digest", digest_of(bytes)}}})}});
    at += static_cast<std::int64_t>(bytes.size());
    if (const std::int64_t over = at % kAlignment; over != 0) {
      SATURN_TRY_VOID(
          write_all(fd.get(), std::string_view(padding).substr(static_cast<std::size_t>(over)), path));
      at += kAlignment - over;
    }
    return {};
  }));
  if (::fsync(fd.get()) != 0) return system_fault(path, "sync", errno);
  return entries;
}

Result<void> write_part(const std::string& directory, int rank, Technique& technique) {
  SATURN_TRY(const std::int64_t bytes, bytes_to_write(technique));
  SATURN_TRY(const std::uint64_t free, free_bytes(directory));
  if (static_cast<double>(free) < 1.1 * static_cast<double>(bytes))
    return Diagnostic{.kind = Kind::disk_full,
                      .where = directory,
                      .what = "a checkpoint needs " + format_bytes(static_cast<double>(bytes)) + " and " +
                              format_bytes(static_cast<double>(free)) + " are free",
                      .expected = "a tenth more than the checkpoint",
                      .fix = "free some space, or lower keep_checkpoints"};
  SATURN_TRY(const Json entries, write_pieces(directory, rank, technique));
  return write_whole(join_path(directory, rank_file(rank, "json")), to_text(entries));
}

/// Joins the ranks' entries: pieces of one tensor come together.
Result<Json> join_entries(const std::string& directory, int num_ranks) {
  Json tensors = Json::array();
  std::map<std::pair<std::string, std::string>, std::size_t> known;
  for (int rank = 0; rank < num_ranks; ++rank) {
    const std::string path = join_path(directory, rank_file(rank, "json"));
    SATURN_TRY(const std::string text, read_whole(path));
    SATURN_TRY(const Json entries, parse_json(text, path));
    for (const Json& entry : entries) {
      const auto key =
          std::make_pair(entry.at("role").get<std::string>(), entry.at("name").get<std::string>());
      const auto [place, added] = known.emplace(key, tensors.size());
      if (added)
        tensors.push_back(entry);
      else
        tensors[place->second]["pieces"].push_back(entry.at("pieces").at(0));
    }
    if (::unlink(path.c_str()) != 0) return system_fault(path, "remove", errno);
  }
  return tensors;
}

/// Renames `temporary` to `directory`. One of the same step that is there changes places with it, so that one
/// is always there; on file systems that cannot do that it is removed first.
Result<void> put_in_place(const std::string& temporary, const std::string& directory) {
  const bool again = ::access(directory.c_str(), F_OK) == 0;
  std::error_code ignored;
  if (again && ::renameat2(AT_FDCWD, temporary.c_str(), AT_FDCWD, directory.c_str(), RENAME_EXCHANGE) == 0) {
    fs::remove_all(temporary, ignored);
    return {};
  }
  if (again) fs::remove_all(directory, ignored);
  if (::rename(temporary.c_str(), directory.c_str()) != 0) return system_fault(directory, "rename", errno);
  return {};
}

Result<void> finish(const std::string& temporary, const std::string& directory, const Progress& progress,
                    const Json& written_by, int num_ranks) {
  SATURN_TRY(Json tensors, join_entries(temporary, num_ranks));
  Json manifest = artefact_header(kCheckpointFormat, {});
  manifest["training_version"] = kTrainingVersion;
  manifest["step"] = progress.step;
  manifest["seed"] = std::to_string(progress.seed);
  manifest["data_cursor"] = {{"epoch", progress.epoch}, {"step_of_epoch", progress.step_of_epoch}};
  manifest["best_validation_loss"] = progress.best_validation_loss;
  manifest["written_by"] = written_by;
  manifest["tensors"] = std::move(tensors);
  SATURN_TRY_VOID(write_artefact(join_path(temporary, "manifest.json"), manifest));
  SATURN_TRY_VOID(sync_directory(temporary));
  SATURN_TRY_VOID(put_in_place(temporary, directory));
  return sync_directory(directory_of(directory));
}

/// True on all ranks where it is true on one. A collective.
bool any_rank(bool mine, Communicator& communicator) {
  at::Tensor flag = at::full({1}, mine ? 1.0 : 0.0, at::kDouble);
  communicator.sum(flag);
  return flag.item<double>() > 0.0;
}

Diagnostics elsewhere(const std::string& directory) {
  return {Diagnostic{.kind = Kind::machine,
                     .where = directory,
                     .what = "another rank could not write its part of the checkpoint",
                     .expected = "its own message in the log"}};
}

}  // namespace

std::string checkpoint_name(std::int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%06lld", static_cast<long long>(step));
  return name;
}

Result<void> save_checkpoint(const std::string& directory, const Progress& progress, const Json& written_by,
                             Technique& technique, Communicator& communicator) {
  const std::string temporary = directory + ".tmp";
  const bool first = communicator.rank() == 0;
  // Every pass ends in an agreement: a rank that failed tells the others instead of leaving them waiting.
  Result<void> mine;
  const auto agreed = [&]() -> Result<void> {
    if (any_rank(!mine.ok(), communicator) && mine.ok()) return elsewhere(directory);
    return mine;
  };
  const auto give_up = [&](Diagnostics faults) -> Result<void> {
    std::error_code ignored;
    if (first) fs::remove_all(temporary, ignored);
    return faults;
  };

  if (first) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    mine = make_directories(temporary);
  }
  if (Result<void> all = agreed(); !all.ok()) return give_up(all.faults());
  mine = write_part(temporary, communicator.rank(), technique);
  if (Result<void> all = agreed(); !all.ok()) return give_up(all.faults());
  if (first) mine = finish(temporary, directory, progress, written_by, communicator.num_ranks());
  if (Result<void> all = agreed(); !all.ok()) return give_up(all.faults());
  return {};
}

void prune_checkpoints(const std::string& parent, int keep) {
  std::vector<std::string> steps;
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("step-") || !entry.is_directory(error)) continue;
    if (name.ends_with(".tmp"))
      fs::remove_all(entry.path(), error);
    else
      steps.push_back(name);
  }
  // By number, not by text: past step 999999 names grow longer.
  std::sort(steps.begin(), steps.end(), [](const std::string& a, const std::string& b) {
    return std::make_pair(a.size(), a) < std::make_pair(b.size(), b);
  });
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < steps.size(); ++i)
    fs::remove_all(join_path(parent, steps[i]), error);
}

}  // namespace saturn::train

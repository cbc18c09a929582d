// The manifest's members, both ways.

#include "saturn/checkpoint/manifest.h"

#include <sys/stat.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>

#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "saturn/base/version.h"

namespace saturn::checkpoint {
namespace {

constexpr std::int64_t kElementBytes = sizeof(float);

bool is_number(std::string_view digits, std::size_t fewest) {
  return digits.size() >= fewest && digits.size() <= 18 &&
         std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
}

bool is_shard_name(const std::string& name) {
  return name.starts_with("rank-") && name.ends_with(".bin") &&
         is_number(std::string_view(name).substr(5, name.size() - 9), 5);
}

Json to_json(const Tensor& tensor) {
  Json pieces = Json::array();
  for (const Piece& piece : tensor.pieces)
    pieces.push_back({{"file", piece.file},
                      {"begin", piece.begin},
                      {"bytes", piece.bytes},
                      {"offsets", piece.offsets},
                      {"shape", piece.shape},
                      {"digests", piece.digests}});
  return {{"name", tensor.name},
          {"role", tensor.role},
          {"dtype", "F32"},
          {"shape", tensor.shape},
          {"pieces", std::move(pieces)}};
}

Json to_json(const File& file) {
  return {{"name", file.name}, {"bytes", file.bytes}};
}

Extents read_extents(JsonReader& reader, const char* key) {
  Extents values;
  for (const Json& value : reader.array(key)) {
    if (!value.is_number_integer() || value.get<std::int64_t>() < 0) {
      reader.fault(key, "this holds " + saturn::to_line(value), "whole numbers that are not negative");
      return {};
    }
    values.push_back(value.get<std::int64_t>());
  }
  return values;
}

Piece read_piece(JsonReader reader, const Extents& whole, const std::map<std::string, std::int64_t>& files) {
  Piece piece;
  piece.file = reader.string("file");
  piece.begin = reader.integer("begin");
  piece.bytes = reader.integer("bytes");
  piece.offsets = read_extents(reader, "offsets");
  piece.shape = read_extents(reader, "shape");
  piece.pointer = reader.pointer_to("digests");
  for (const Json& digest : reader.array("digests"))
    piece.digests.push_back(digest.is_string() ? digest.get<std::string>() : "");
  reader.finish();

  bool inside = piece.offsets.size() == whole.size() && piece.shape.size() == whole.size();
  for (std::size_t i = 0; inside && i < whole.size(); ++i)
    inside = piece.shape[i] <= whole[i] && piece.offsets[i] <= whole[i] - piece.shape[i];
  if (!inside) {
    reader.fault("offsets", "the piece does not lie in its tensor", "offsets + shape within the tensor's");
    return piece;
  }
  const std::int64_t count = elements(piece.shape);
  if (count < 0 || count > INT64_MAX / kElementBytes || piece.bytes != count * kElementBytes) {
    reader.fault("bytes", "the piece has " + std::to_string(piece.bytes) + " bytes",
                 "four for each element of its shape");
    return piece;
  }
  const auto file = files.find(piece.file);
  if (file == files.end()) {
    reader.fault("file", in_quotes(piece.file) + " is not among the checkpoint's files", "one of /files");
    return piece;
  }
  if (piece.begin < 0 || piece.begin % kElementBytes != 0 || piece.begin > file->second - piece.bytes)
    reader.fault("begin", "the piece does not lie in its file", "begin + bytes within the file's");
  if (static_cast<std::int64_t>(piece.digests.size()) != (piece.bytes + kBlockBytes - 1) / kBlockBytes)
    reader.fault("digests", std::to_string(piece.digests.size()) + " digests stand here",
                 "one for each block of " + std::to_string(kBlockBytes) + " bytes");
  return piece;
}

Tensor read_tensor(JsonReader reader, const std::map<std::string, std::int64_t>& files) {
  Tensor tensor;
  tensor.name = reader.string("name");
  tensor.role = reader.string("role");
  if (const std::string dtype = reader.string("dtype"); dtype != "F32")
    reader.fault("dtype", "this is " + in_quotes(dtype), "\"F32\"");
  tensor.shape = read_extents(reader, "shape");
  tensor.pointer = reader.pointer_to("shape");
  const std::size_t num_pieces = reader.array("pieces").size();
  for (std::size_t i = 0; i < num_pieces; ++i)
    tensor.pieces.push_back(read_piece(reader.child("pieces", i), tensor.shape, files));
  reader.finish();
  return tensor;
}

File read_file(JsonReader reader) {
  File file{.name = reader.string("name"), .bytes = reader.integer("bytes")};
  reader.finish();
  if (!is_shard_name(file.name))
    reader.fault("name", "this is " + in_quotes(file.name), "a file of the checkpoint's own, rank-00000.bin");
  if (file.bytes < 0) reader.fault("bytes", "this is negative", "the size of a file");
  return file;
}

std::vector<Tensor> read_tensors(JsonReader& reader, const std::vector<File>& files) {
  std::map<std::string, std::int64_t> sizes;
  for (const File& file : files) sizes[file.name] = file.bytes;
  std::vector<Tensor> tensors;
  std::map<std::pair<std::string, std::string>, bool> seen;
  const std::size_t num_tensors = reader.array("tensors").size();
  for (std::size_t i = 0; i < num_tensors; ++i) {
    tensors.push_back(read_tensor(reader.child("tensors", i), sizes));
    const Tensor& tensor = tensors.back();
    if (!seen.emplace(std::make_pair(tensor.role, tensor.name), true).second)
      reader.fault("tensors",
                   in_quotes(tensor.name) + " of role " + in_quotes(tensor.role) + " is there twice",
                   "each tensor once");
  }
  return tensors;
}

Progress read_progress(JsonReader& reader) {
  Progress progress;
  if (const std::int64_t version = reader.integer("training_version"); version != kTrainingVersion)
    reader.fault("training_version", "this was trained by version " + std::to_string(version),
                 "version " + std::to_string(kTrainingVersion) + " of the training code");
  progress.step = reader.integer("step");
  const std::string seed = reader.string("seed");
  const char* const end = seed.data() + seed.size();
  if (const auto read = std::from_chars(seed.data(), end, progress.seed);
      read.ec != std::errc() || read.ptr != end)
    reader.fault("seed", "this is " + in_quotes(seed), "a whole number");
  JsonReader cursor = reader.child("data_cursor");
  progress.epoch = cursor.integer("epoch");
  progress.step_of_epoch = cursor.integer("step_of_epoch");
  cursor.finish();
  progress.best_validation_loss = reader.number("best_validation_loss");
  if (reader.has("validation")) {
    JsonReader validation = reader.child("validation");
    progress.validation = {.step = validation.integer("step"), .loss = validation.number("loss")};
    validation.finish();
  }
  return progress;
}

// The document's own digest, which is over its text without the digest.
Result<void> check_own_digest(Json document, const std::string& path) {
  const auto found = document.find("digest");
  const std::string written = found != document.end() && found->is_string() ? found->get<std::string>() : "";
  document.erase("digest");
  if (digest_of(to_text(document)) == written) return {};
  return Diagnostic{.where = path + "#/digest",
                    .what = "the manifest is not as it was written",
                    .expected = "digest " + digest_of(to_text(document)),
                    .fix = "resume from an older checkpoint"};
}

}  // namespace

std::int64_t elements(const Extents& shape) {
  std::int64_t count = 1;
  for (const std::int64_t extent : shape)
    if (__builtin_mul_overflow(count, extent, &count)) return -1;
  return count;
}

std::int64_t Manifest::bytes() const {
  std::int64_t sum = 0;
  for (const File& file : files) sum += file.bytes;
  return sum;
}

std::string name_of_step(std::int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%06lld", static_cast<long long>(step));
  return name;
}

std::optional<std::int64_t> step_of_name(const std::string& name) {
  if (!name.starts_with("step-") || !is_number(std::string_view(name).substr(5), 6)) return std::nullopt;
  std::int64_t step = 0;
  std::from_chars(name.data() + 5, name.data() + name.size(), step);
  if (name_of_step(step) != name) return std::nullopt;
  return step;
}

std::string name_of_shard(int rank) {
  char name[32];
  std::snprintf(name, sizeof name, "rank-%05d.bin", rank);
  return name;
}

std::string to_line(const Part& part) {
  Json tensors = Json::array();
  for (const Tensor& tensor : part.tensors) tensors.push_back(to_json(tensor));
  return saturn::to_line(Json{{"file", to_json(part.file)}, {"tensors", std::move(tensors)}});
}

Result<Part> part_from_line(const std::string& line, const std::string& where) {
  SATURN_TRY(const Json document, parse_json(line, where));
  Diagnostics faults;
  JsonReader reader(document, where, "", faults);
  Part part;
  part.file = read_file(reader.child("file"));
  part.tensors = read_tensors(reader, {part.file});
  reader.finish();
  if (!faults.empty()) return faults;
  return part;
}

void join(Manifest& manifest, Part part) {
  manifest.files.push_back(std::move(part.file));
  std::map<std::pair<std::string, std::string>, std::size_t> known;
  for (std::size_t i = 0; i < manifest.tensors.size(); ++i)
    known[{manifest.tensors[i].role, manifest.tensors[i].name}] = i;
  for (Tensor& tensor : part.tensors) {
    const auto [place, added] =
        known.emplace(std::make_pair(tensor.role, tensor.name), manifest.tensors.size());
    if (added)
      manifest.tensors.push_back(std::move(tensor));
    else
      std::move(tensor.pieces.begin(), tensor.pieces.end(),
                std::back_inserter(manifest.tensors[place->second].pieces));
  }
}

Json to_json(const Manifest& manifest) {
  const Progress& progress = manifest.progress;
  Json document = artefact_header(kFormat, {});
  document["training_version"] = kTrainingVersion;
  document["step"] = progress.step;
  document["seed"] = std::to_string(progress.seed);
  document["data_cursor"] = {{"epoch", progress.epoch}, {"step_of_epoch", progress.step_of_epoch}};
  document["best_validation_loss"] = progress.best_validation_loss;
  if (progress.validation)
    document["validation"] = {{"step", progress.validation->step}, {"loss", progress.validation->loss}};
  document["written_by"] = manifest.written_by;
  Json& files = document["files"] = Json::array();
  for (const File& file : manifest.files) files.push_back(to_json(file));
  Json& tensors = document["tensors"] = Json::array();
  for (const Tensor& tensor : manifest.tensors) tensors.push_back(to_json(tensor));
  document["digest"] = digest_of(to_text(document));
  return document;
}

Result<Manifest> read_manifest(const std::string& directory) {
  const std::string path = join_path(directory, "manifest.json");
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return system_fault(path, "open", errno);
  if (!S_ISREG(status.st_mode))
    return Diagnostic{.where = path,
                      .what = "this is no file but a link or a directory",
                      .expected = "the manifest of a checkpoint"};
  SATURN_TRY(const Json document, read_artefact(path, kFormat));
  Diagnostics faults;
  Manifest manifest;
  JsonReader reader(document, path, "", faults);
  for (const char* key : {"format", "saturn", "made_from", "digest"}) reader.any(key);
  manifest.progress = read_progress(reader);
  manifest.written_by = reader.object("written_by");
  const std::size_t num_files = reader.array("files").size();
  for (std::size_t i = 0; i < num_files; ++i) manifest.files.push_back(read_file(reader.child("files", i)));
  manifest.tensors = read_tensors(reader, manifest.files);
  reader.finish();
  if (!faults.empty()) return faults;
  SATURN_TRY_VOID(check_own_digest(document, path));
  return manifest;
}

}  // namespace saturn::checkpoint

// Rows of tensors out of the pieces that ranks wrote.

#include "saturn/checkpoint/stored.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace saturn::checkpoint {
namespace {

/// Product of the extents behind the first `from`.
std::int64_t tail_elements(const Extents& shape, std::size_t from) {
  std::int64_t count = 1;
  for (std::size_t i = from; i < shape.size(); ++i) count *= shape[i];
  return count;
}

// One row of the piece into its place in one row of the tensor: run by run of the last dimension.
void place_row(const Tensor& tensor, const Piece& piece, const float* from, float* row) {
  const std::size_t rank = tensor.shape.size();
  if (rank == 1) {
    *row = *from;
    return;
  }
  const std::int64_t run = piece.shape[rank - 1];
  if (run == 0) return;
  const std::int64_t num_runs = tail_elements(piece.shape, 1) / run;
  for (std::int64_t at = 0; at < num_runs; ++at) {
    std::int64_t rest = at;
    std::int64_t offset = piece.offsets[rank - 1];
    std::int64_t stride = tensor.shape[rank - 1];
    for (std::size_t d = rank - 1; d-- > 1;) {
      offset += (piece.offsets[d] + rest % piece.shape[d]) * stride;
      rest /= piece.shape[d];
      stride *= tensor.shape[d];
    }
    std::copy_n(from + at * run, run, row + offset);
  }
}

}  // namespace

Stored::Stored(std::string directory, Manifest manifest)
    : directory_(std::move(directory)), manifest_(std::move(manifest)) {}

Result<Stored> Stored::open(const std::string& directory) {
  SATURN_TRY(Manifest manifest, read_manifest(directory));
  return Stored(directory, std::move(manifest));
}

const Tensor* Stored::find(const std::string& role, const std::string& name) const {
  for (const Tensor& tensor : manifest_.tensors) {
    if (tensor.role == role && tensor.name == name) return &tensor;
  }
  return nullptr;
}

Result<void> Stored::read_rows(const Tensor& tensor, std::int64_t first, std::int64_t count,
                               std::vector<float>& into) {
  const std::int64_t row = tail_elements(tensor.shape, 1);
  into.assign(static_cast<std::size_t>(count * row), std::numeric_limits<float>::quiet_NaN());
  for (const Piece& piece : tensor.pieces) {
    if (tensor.shape.empty()) {
      SATURN_TRY_VOID(read(piece, 0, 1, into));
      continue;
    }
    const std::int64_t begin = std::max(first, piece.offsets[0]);
    const std::int64_t end = std::min(first + count, piece.offsets[0] + piece.shape[0]);
    if (begin >= end) continue;
    const std::int64_t piece_row = tail_elements(piece.shape, 1);
    std::vector<float> part;
    SATURN_TRY_VOID(read(piece, (begin - piece.offsets[0]) * piece_row, (end - begin) * piece_row, part));
    for (std::int64_t i = begin; i < end; ++i)
      place_row(tensor, piece, part.data() + (i - begin) * piece_row, into.data() + (i - first) * row);
  }
  return {};
}

Result<void> Stored::read(const Piece& piece, std::int64_t first, std::int64_t count,
                          std::vector<float>& into) {
  const std::string path = join_path(directory_, piece.file);
  FileDescriptor& fd = files_[piece.file];
  if (!fd.valid()) fd = FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!fd.valid()) return system_fault(path, "open", errno);
  into.resize(static_cast<std::size_t>(count));
  const std::size_t size = into.size() * sizeof(float);
  const auto at = static_cast<std::uint64_t>(piece.begin) + static_cast<std::uint64_t>(first) * sizeof(float);
  SATURN_TRY(const std::size_t done, read_at(fd.get(), at, reinterpret_cast<char*>(into.data()), size, path));
  if (done < size) {
    return Diagnostic{.kind = Kind::input,
                      .where = path,
                      .what = "the file ends within a piece",
                      .expected = "as many bytes as its manifest says"};
  }
  return {};
}

}  // namespace saturn::checkpoint

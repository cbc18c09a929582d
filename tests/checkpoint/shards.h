// A small training state, written as ranks would write it, without LibTorch.

#pragma once

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "saturn/checkpoint/shelf.h"
#include "saturn/checkpoint/write.h"

namespace saturn::testing {

/// `count` floats that depend on `seed`.
inline std::string made_up_floats(std::int64_t count, int seed) {
  std::string bytes(static_cast<std::size_t>(count) * sizeof(float), '\0');
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = static_cast<float>(i * 7 + seed) * 0.25F;
    std::memcpy(bytes.data() + i * 4, &value, sizeof value);
  }
  return bytes;
}

/// Two ranks hold the halves of a matrix, each in two pieces, the second also a vector of its own.
inline Result<void> save_made_up(const std::string& directory, std::int64_t step,
                                 std::optional<double> validation_loss = std::nullopt,
                                 std::int64_t rows = 600) {
  constexpr std::int64_t kColumns = 64;
  SATURN_TRY_VOID(checkpoint::prepare(directory, 2 * rows * kColumns * 4));
  checkpoint::Manifest manifest;
  manifest.progress = {.step = step, .seed = 3, .step_of_epoch = step, .validation = std::nullopt};
  if (validation_loss)
    manifest.progress.validation = checkpoint::Validation{.step = step, .loss = *validation_loss};
  for (int rank = 0; rank < 2; ++rank) {
    SATURN_TRY(checkpoint::ShardWriter writer,
               checkpoint::ShardWriter::create(checkpoint::temporary_of(directory), rank,
                                               /*buffer_bytes=*/std::size_t{64} << 10));
    const auto add_rows = [&](std::int64_t row, std::int64_t count) {
      return writer.add({.name = "matrix",
                         .role = "weight",
                         .shape = {2 * rows, kColumns},
                         .offsets = {row, 0},
                         .extent = {count, kColumns}},
                        made_up_floats(count * kColumns, static_cast<int>(row)));
    };
    SATURN_TRY_VOID(add_rows(rank * rows, rows - 1));
    SATURN_TRY_VOID(add_rows(rank * rows + rows - 1, 1));
    if (rank == 1)
      SATURN_TRY_VOID(
          writer.add({.name = "vector", .role = "weight", .shape = {5}, .offsets = {0}, .extent = {5}},
                     made_up_floats(5, 9)));
    SATURN_TRY(const checkpoint::Part part, writer.finish());
    // As it travels between ranks.
    SATURN_TRY(checkpoint::Part sent, checkpoint::part_from_line(checkpoint::to_line(part), "a note"));
    checkpoint::join(manifest, std::move(sent));
  }
  return checkpoint::publish(directory, manifest);
}

}  // namespace saturn::testing

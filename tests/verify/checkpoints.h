// Small checkpoints as ranks would leave them, in one piece or dealt to two ranks.

#pragma once

#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/checkpoint/manifest.h"
#include "saturn/checkpoint/write.h"

namespace saturn::testing {

/// A tensor of two dimensions, or of one where `num_columns` is 0.
struct Stored {
  std::string name;
  std::string role;
  std::int64_t num_columns = 0;
  std::vector<float> values;
};

enum class Dealt { whole, by_rows, by_columns };

inline void write_checkpoint(const std::string& directory, const std::vector<Stored>& tensors,
                             Dealt dealt = Dealt::whole) {
  const auto bytes_of = [](const std::vector<float>& values) {
    return std::string_view(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  };
  REQUIRE(make_directories(directory_of(directory)).ok());
  REQUIRE(checkpoint::prepare(directory, 1 << 16).ok());
  checkpoint::Manifest manifest;
  for (int rank = 0; rank < (dealt == Dealt::whole ? 1 : 2); ++rank) {
    auto writer = checkpoint::ShardWriter::create(checkpoint::temporary_of(directory), rank);
    REQUIRE(writer.ok());
    for (const Stored& tensor : tensors) {
      const bool flat = tensor.num_columns == 0;
      const std::int64_t columns = flat ? 1 : tensor.num_columns;
      const std::int64_t rows = std::ssize(tensor.values) / columns;
      std::int64_t row_begin = 0, row_end = rows, column_begin = 0, column_end = columns;
      const bool by_columns = dealt == Dealt::by_columns && !flat;
      if (by_columns) (rank == 0 ? column_end : column_begin) = columns / 3;
      if (!by_columns && dealt != Dealt::whole) (rank == 0 ? row_end : row_begin) = rows / 3;
      std::vector<float> piece;
      for (std::int64_t row = row_begin; row < row_end; ++row) {
        for (std::int64_t column = column_begin; column < column_end; ++column)
          piece.push_back(tensor.values[static_cast<std::size_t>(row * columns + column)]);
      }
      checkpoint::ShardWriter::Place place{.name = tensor.name, .role = tensor.role};
      place.shape = {rows};
      place.offsets = {row_begin};
      place.extent = {row_end - row_begin};
      if (!flat) {
        place.shape.push_back(columns);
        place.offsets.push_back(column_begin);
        place.extent.push_back(column_end - column_begin);
      }
      REQUIRE(writer->add(place, bytes_of(piece)).ok());
    }
    auto part = writer->finish();
    REQUIRE(part.ok());
    checkpoint::join(manifest, *std::move(part));
  }
  REQUIRE(checkpoint::publish(directory, manifest).ok());
}

}  // namespace saturn::testing

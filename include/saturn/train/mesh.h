// The ranks of a job as a grid with named dimensions: data x pipeline x tensor.

#pragma once

#include <memory>
#include <string>

#include "saturn/base/json.h"
#include "saturn/base/result.h"
#include "saturn/train/communicator.h"

namespace saturn::train {

/// Extents of the grid. Ranks are numbered with the tensor dimension varying fastest, then data, then
/// pipeline: the ranks that talk most are neighbours.
struct MeshShape {
  int data = 1;
  int pipeline = 1;
  int tensor = 1;

  int num_ranks() const { return data * pipeline * tensor; }
  bool operator==(const MeshShape&) const = default;
};

/// Where a rank sits: its index along each dimension.
struct MeshPlace {
  int data = 0;
  int pipeline = 0;
  int tensor = 0;

  bool operator==(const MeshPlace&) const = default;
};

/// Preconditions: `rank` is below `shape.num_ranks()`, each index of `place` below its extent.
MeshPlace place_in(const MeshShape& shape, int rank);
int rank_at(const MeshShape& shape, const MeshPlace& place);

/// "data 2 x pipeline 2", without the dimensions of one rank.
std::string to_text(const MeshShape& shape);

/// This rank's three groups: in each, the ranks that differ from it in that index alone, in its order. A
/// dimension of one rank has a group of one, which needs no connections.
class Mesh {
 public:
  /// A collective of `world`, which outlives the mesh.
  ///
  /// Errors: Kind::input where the extents are not positive or their product is not the number of ranks.
  static Result<std::unique_ptr<Mesh>> make(Communicator& world, MeshShape shape);

  const MeshShape& shape() const { return shape_; }
  const MeshPlace& place() const { return place_; }

  Communicator& world() { return world_; }
  Communicator& data() { return *data_; }
  Communicator& pipeline() { return *pipeline_; }
  Communicator& tensor() { return *tensor_; }

 private:
  Mesh(Communicator& world, MeshShape shape);

  Communicator& world_;
  MeshShape shape_;
  MeshPlace place_;
  std::unique_ptr<Communicator> data_, pipeline_, tensor_;
};

}  // namespace saturn::train

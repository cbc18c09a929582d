// Coordinates of ranks in the grid, and a group along each dimension.

#include "saturn/train/mesh.h"

#include <vector>

#include "saturn/base/check.h"

namespace saturn::train {

MeshPlace place_in(const MeshShape& shape, int rank) {
  SATURN_CHECK(rank >= 0 && rank < shape.num_ranks(), "a rank lies in its mesh");
  return {.data = rank / shape.tensor % shape.data,
          .pipeline = rank / (shape.tensor * shape.data),
          .tensor = rank % shape.tensor};
}

int rank_at(const MeshShape& shape, const MeshPlace& place) {
  return (place.pipeline * shape.data + place.data) * shape.tensor + place.tensor;
}

std::string to_text(const MeshShape& shape) {
  std::string text;
  const auto add = [&text](const char* name, int extent) {
    if (extent == 1) return;
    text += (text.empty() ? "" : " x ") + std::string(name) + " " + std::to_string(extent);
  };
  add("data", shape.data);
  add("pipeline", shape.pipeline);
  add("tensor", shape.tensor);
  return text.empty() ? "one rank" : text;
}

Mesh::Mesh(Communicator& world, MeshShape shape)
    : world_(world), shape_(shape), place_(place_in(shape, world.rank())) {}

Result<std::unique_ptr<Mesh>> Mesh::make(Communicator& world, MeshShape shape) {
  if (shape.data < 1 || shape.pipeline < 1 || shape.tensor < 1 || shape.num_ranks() != world.num_ranks()) {
    return Diagnostic{.what = "a mesh of data = " + std::to_string(shape.data) + ", pipeline = " +
                              std::to_string(shape.pipeline) + ", tensor = " + std::to_string(shape.tensor) +
                              " does not hold " + std::to_string(world.num_ranks()) + " ranks",
                      .expected = "positive extents whose product is " + std::to_string(world.num_ranks())};
  }
  auto mesh = std::unique_ptr<Mesh>(new Mesh(world, shape));
  // One after the other, and in this order on every rank: connecting waits for the other members.
  const auto along = [&](const char* name, int MeshPlace::*index,
                         int extent) -> Result<std::unique_ptr<Communicator>> {
    MeshPlace place = mesh->place_;
    std::vector<int> ranks;
    for (place.*index = 0; place.*index < extent; ++(place.*index)) ranks.push_back(rank_at(shape, place));
    return world.subgroup(std::string(name) + "/" + std::to_string(ranks.front()), ranks);
  };
  SATURN_TRY(mesh->tensor_, along("tensor", &MeshPlace::tensor, shape.tensor));
  SATURN_TRY(mesh->data_, along("data", &MeshPlace::data, shape.data));
  SATURN_TRY(mesh->pipeline_, along("pipeline", &MeshPlace::pipeline, shape.pipeline));
  return mesh;
}

}  // namespace saturn::train

// The grid of ranks: coordinates, and groups along each dimension.

#include "saturn/train/mesh.h"

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <chrono>
#include <mutex>
#include <vector>

#include "tests/train/group_of_threads.h"

namespace saturn::testing {

using train::Mesh;
using train::MeshPlace;
using train::MeshShape;

TEST_SUITE("train") {
  TEST_CASE("train/mesh: places and ranks are each other's inverse and neighbours differ in tensor first") {
    const MeshShape shape{.data = 2, .pipeline = 3, .tensor = 4};
    for (int rank = 0; rank < shape.num_ranks(); ++rank) {
      const MeshPlace place = place_in(shape, rank);
      CHECK(place.data < 2);
      CHECK(place.pipeline < 3);
      CHECK(place.tensor < 4);
      CHECK(rank_at(shape, place) == rank);
    }
    CHECK(place_in(shape, 1) == MeshPlace{.tensor = 1});
    CHECK(place_in(shape, 4) == MeshPlace{.data = 1});
    CHECK(place_in(shape, 8) == MeshPlace{.pipeline = 1});
    CHECK(to_text(shape) == "data 2 x pipeline 3 x tensor 4");
    CHECK(to_text(MeshShape{}) == "one rank");
  }

  TEST_CASE("train/mesh: a sum along a dimension adds the ranks that differ in that index alone") {
    const MeshShape shape{.data = 2, .pipeline = 2, .tensor = 2};
    std::mutex mutex;
    int checked = 0;
    const auto errors = run_ranks(8, [&](train::Communicator& world) {
      auto mesh = *Mesh::make(world, shape);
      std::vector<double> got;
      for (train::Communicator* group : {&mesh->data(), &mesh->pipeline(), &mesh->tensor(), &world}) {
        at::Tensor rank = at::full({1}, static_cast<double>(world.rank()), at::kDouble);
        group->sum(rank);
        got.push_back(rank.item<double>());
      }
      const MeshPlace place = mesh->place();
      const auto sum_along = [&](int MeshPlace::*index) {
        MeshPlace other = place;
        other.*index = 1 - other.*index;
        return static_cast<double>(world.rank() + rank_at(shape, other));
      };
      const std::scoped_lock lock(mutex);
      CHECK(mesh->data().rank() == place.data);
      CHECK(got[0] == sum_along(&MeshPlace::data));
      CHECK(got[1] == sum_along(&MeshPlace::pipeline));
      CHECK(got[2] == sum_along(&MeshPlace::tensor));
      CHECK(got[3] == 28.0);
      ++checked;
    });
    for (const std::string& error : errors) CHECK(error == "");
    CHECK(checked == 8);
  }

  TEST_CASE("train/mesh: a dimension of one rank has a group of one and a wrong product is told") {
    const auto errors = run_ranks(2, [](train::Communicator& world) {
      const auto wrong = Mesh::make(world, {.data = 2, .pipeline = 2});
      if (wrong.ok() || wrong.faults().front().what.find("does not hold 2 ranks") == std::string::npos)
        throw std::runtime_error("a mesh of four ranks was made of two");
      const auto mesh = *Mesh::make(world, {.pipeline = 2});
      if (mesh->data().num_ranks() != 1 || mesh->data().group() != nullptr)
        throw std::runtime_error("a group of one has no connections");
      mesh->data().barrier();
    });
    for (const std::string& error : errors) CHECK(error == "");
  }

  TEST_CASE("train/mesh: a wait in a sub-group ends within the time that was set on the whole group") {
    using Clock = std::chrono::steady_clock;
    const auto errors = run_ranks(2, [](train::Communicator& world) {
      const auto mesh = *Mesh::make(world, {.data = 2});
      world.set_timeout(0.5);
      if (world.rank() == 0) {
        const auto start = Clock::now();
        try {
          mesh->data().barrier();  // rank 1 never comes
        } catch (const std::exception&) {
          if (Clock::now() - start > std::chrono::seconds(5)) throw;
          throw std::runtime_error("gave up in time");
        }
      }
      // Rank 1 stays until rank 0 has given up.
      std::this_thread::sleep_for(std::chrono::milliseconds(1500));
      throw std::runtime_error("left");
    });
    CHECK(errors == std::vector<std::string>{"gave up in time", "left"});
  }
}

}  // namespace saturn::testing

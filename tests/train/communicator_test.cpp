// What ranks say to each other, a thread each.

#include "saturn/train/communicator.h"

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include "tests/train/group_of_threads.h"

namespace saturn::testing {

TEST_SUITE("train") {
  TEST_CASE("train/communicator: ranks of one process meet at barriers at the same time") {
    const auto errors = run_ranks(4, [](train::Communicator& world) {
      for (int i = 0; i < 2000; ++i) world.barrier();
    });
    for (const std::string& error : errors) CHECK(error == "");
  }
}

}  // namespace saturn::testing

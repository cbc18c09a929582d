// Every batch of tests/golden against the exact text of its messages.

#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "tests/support/paths.h"

namespace saturn {
namespace {

// Messages hold paths as given: relative to the checkout, so that they are the same everywhere.
class InSourceDirectory {
 public:
  InSourceDirectory() : before_(std::filesystem::current_path()) {
    std::filesystem::current_path(testing::source_directory());
  }
  ~InSourceDirectory() { std::filesystem::current_path(before_); }

 private:
  std::filesystem::path before_;
};

std::vector<std::string> cases() {
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator("tests/golden")) {
    const std::string directory = entry.path().string();
    if (std::filesystem::exists(directory + "/batch.toml")) found.push_back(directory);
  }
  std::sort(found.begin(), found.end());
  return found;
}

// The faults, or one line per job as `assign` would carry it.
std::string outcome(const std::string& path) {
  const auto batch = batch::read_batch(path);
  if (!batch.ok()) return to_text(batch.faults());
  std::string text;
  for (const batch::Job& job : batch->jobs) text += to_line(to_json(job)) + "\n";
  return text;
}

TEST_SUITE("golden") {
  TEST_CASE("golden/batch: every checked-in batch gives its exact messages") {
    const InSourceDirectory in_source;
    const bool update = std::getenv("SATURN_UPDATE_GOLDEN") != nullptr;
    const std::vector<std::string> all = cases();
    REQUIRE(all.size() >= 10);
    for (const std::string& directory : all) {
      CAPTURE(directory);
      const std::string got = outcome(directory + "/batch.toml");
      const std::string expected_path = directory + "/messages.txt";
      if (update) REQUIRE(write_whole(expected_path, got).ok());
      const auto want = read_whole(expected_path);
      REQUIRE(want.ok());
      CHECK(got == *want);
    }
  }

  TEST_CASE("golden/batch: every message has its three parts and a place") {
    const InSourceDirectory in_source;
    for (const std::string& directory : cases()) {
      const auto batch = batch::read_batch(directory + "/batch.toml");
      if (batch.ok()) continue;
      for (const Diagnostic& fault : batch.faults()) {
        CAPTURE(to_text(fault));
        CHECK_FALSE(fault.where.empty());
        CHECK_FALSE(fault.what.empty());
        CHECK_FALSE(fault.expected.empty());
        CHECK_FALSE(fault.fix.empty());
        CHECK(fault.kind == Kind::input);
      }
    }
  }
}

}  // namespace
}  // namespace saturn

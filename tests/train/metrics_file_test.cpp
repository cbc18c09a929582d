// metrics.jsonl over restarts.

#include "train/metrics_file.h"

#include <doctest/doctest.h>

#include "tests/support/temporary_directory.h"

namespace saturn::train {

TEST_SUITE("train") {
  TEST_CASE("train/metrics: a restart keeps the lines up to its step and drops torn and later ones") {
    saturn::testing::TemporaryDirectory directory;
    const std::string path = directory.file("metrics.jsonl");
    {
      auto file = MetricsFile::open(path, 0);
      REQUIRE(file.ok());
      for (int step = 1; step <= 5; ++step)
        REQUIRE(file->append({{"step", step}, {"time_s", 0.5 * step}, {"loss", 4.0 - step}}).ok());
    }
    std::string text = *read_whole(path);
    REQUIRE(write_whole(path, text + "{\"step\": 2, \"lo").ok());
    {
      auto file = MetricsFile::open(path, 3);
      REQUIRE(file.ok());
      CHECK(file->kept_time_s() == 1.5);
      REQUIRE(file->append({{"step", 4}, {"loss", 9.0}}).ok());
    }
    CHECK(*read_whole(path) ==
          "{\"step\":1,\"time_s\":0.5,\"loss\":3.0}\n{\"step\":2,\"time_s\":1.0,\"loss\":2.0}\n"
          "{\"step\":3,\"time_s\":1.5,\"loss\":1.0}\n{\"step\":4,\"loss\":9.0}\n");
    auto from_start = MetricsFile::open(path, 0);
    REQUIRE(from_start.ok());
    CHECK(*read_whole(path) == "");
  }
}

}  // namespace saturn::train

// metrics.jsonl over restarts, and the files beside it.

#include "train/metrics_file.h"

#include <doctest/doctest.h>

#include <filesystem>

#include "tests/support/temporary_directory.h"

namespace saturn::train {

TEST_SUITE("train") {
  TEST_CASE("train/metrics: a restart keeps the lines up to its step and drops torn and later ones") {
    saturn::testing::TemporaryDirectory directory;
    const std::string path = directory.file("metrics.jsonl");
    {
      auto file = MetricsFile::open(path, 0, 1000.0);
      REQUIRE(file.ok());
      for (int step = 1; step <= 5; ++step)
        REQUIRE(file->append({{"step", step}, {"time_s", 0.5 * step}, {"loss", 4.0 - step}}).ok());
    }
    std::string text = *read_whole(path);
    REQUIRE(write_whole(path, text + "{\"step\": 2, \"lo").ok());
    {
      auto file = MetricsFile::open(path, 3, 2000.0);
      REQUIRE(file.ok());
      CHECK(file->kept_time_s() == 1.5);
      REQUIRE(file->append({{"step", 4}, {"loss", 9.0}}).ok());
    }
    CHECK(*read_whole(path) ==
          "{\"step\":1,\"time_s\":0.5,\"loss\":3.0}\n{\"step\":2,\"time_s\":1.0,\"loss\":2.0}\n"
          "{\"step\":3,\"time_s\":1.5,\"loss\":1.0}\n{\"step\":4,\"loss\":9.0}\n");
    CHECK(*read_whole(directory.file("metrics.csv")) ==
          "step,time_s,loss,learning_rate,gradient_norm,tokens_per_s,samples_per_s,validation_loss\n"
          "1,0.5,3.0,,,,,\n2,1.0,2.0,,,,,\n3,1.5,1.0,,,,,\n4,,9.0,,,,,\n");
    auto from_start = MetricsFile::open(path, 0, 3000.0);
    REQUIRE(from_start.ok());
    CHECK(*read_whole(path) == "");
    int num_event_files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(directory.path()))
      num_event_files += entry.path().filename().string().starts_with("events.out.tfevents.") ? 1 : 0;
    CHECK(num_event_files == 1);
  }

  TEST_CASE("train/metrics: an event has the bytes that TensorBoard's own library writes") {
    const auto hex = [](const std::string& bytes) {
      std::string text;
      for (const unsigned char byte : bytes) {
        text += "0123456789abcdef"[byte >> 4];
        text += "0123456789abcdef"[byte & 15];
      }
      return text;
    };
    // EventProto(wall_time=1.5, step=300, summary=[("loss", 0.25)]).SerializeToString(), and its record.
    const std::string event =
        scalar_event({{"step", 300}, {"time_s", 9.0}, {"loss", 0.25}, {"note", "x"}}, 1.5);
    CHECK(hex(event) == "09000000000000f83f10ac022a0d0a0b0a046c6f7373150000803e");
    CHECK(hex(tf_record(event)) ==
          "1b000000000000001a0d9e1309000000000000f83f10ac022a0d0a0b0a046c6f7373150000803e9908deed");
  }
}

}  // namespace saturn::train

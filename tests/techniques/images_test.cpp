// Classifiers of images: the same training under every technique that takes them, BatchNorm's statistics
// included.

#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "saturn/base/files.h"
#include "tests/support/temporary_directory.h"
#include "tests/techniques/compare.h"

namespace saturn::testing {
namespace {

std::string write_vit(const TemporaryDirectory& directory) {
  const std::string path = directory.file("vit.toml");
  REQUIRE(write_whole(path,
                      "family = \"vit\"\nlayers = 2\nheads = 2\nwidth = 24\nfeed_forward = 48\n"
                      "patch_size = 4\n")
              .ok());
  return path;
}

std::string write_resnet(const TemporaryDirectory& directory) {
  const std::string path = directory.file("resnet.toml");
  REQUIRE(write_whole(path,
                      "family = \"resnet\"\nblocks_1 = 1\nblocks_2 = 1\nblocks_3 = 1\nblocks_4 = 1\n"
                      "width = 4\nbottleneck = false\n")
              .ok());
  return path;
}

/// Relative, of a curve behind BatchNorm: LibTorch's operator, which single has, sums in fp32, and dividing
/// by the deviation of few values makes that larger. Statistics of a rank's own rows would differ by
/// hundredths.
constexpr double kOfBatchNorm = 3e-4;

/// Under each way what single gives, in first gradients within 1e-5; `tolerance` of the losses and buffers.
void check_same_training(const GroupRun& run, const std::vector<Way>& ways, double tolerance) {
  const GroupResult start = run_well(with_steps(run, 0));
  const GroupResult want = run_well(run);
  REQUIRE(want.losses.front() - want.losses.back() > 0.05);
  for (const Way& way : ways) {
    const std::string under = to_text(way);
    CAPTURE(under);
    const GroupResult got = run_well(in_way(run, way));
    CHECK(largest_difference(want, got, run.optimizer == "sgd" ? "first_momentum_buffer" : "first_exp_avg") <
          1e-5);
    CHECK(largest_loss_difference(want, got) < tolerance);
    CHECK(largest_moved_difference(start, want, got) < 1e-3);
    CHECK(std::abs(want.validation_loss - got.validation_loss) < tolerance * want.validation_loss);
    CHECK(want.num_right == got.num_right);
    if (want.state.contains("buffer/bn1.running_mean"))
      CHECK(largest_difference(want, got, "buffer") < tolerance);
  }
}

}  // namespace

TEST_SUITE("techniques") {
  TEST_CASE("techniques/images: a ViT trains under every technique as under single") {
    const TemporaryDirectory directory;
    check_same_training({.micro_batches = 2, .num_steps = 15, .dropout = 0.1, .model = write_vit(directory)},
                        {{"single", 1, {{"checkpointing", "full"}}},
                         {"ddp", 3},
                         {"fsdp", 2},
                         {"pipeline", 2},
                         {"hybrid", 4, {{"data", 2}, {"pipeline", 2}}},
                         {"offload", 1, {{"resident", 1}}}},
                        1e-5);
  }

  // With SGD: AdamW makes large steps of gradients that are small but for rounding, as behind norms that
  // begin at zero.
  TEST_CASE("techniques/images: a ResNet on several ranks has the statistics of the global batch") {
    const TemporaryDirectory directory;
    GroupRun run{
        .num_steps = 15, .optimizer = "sgd", .learning_rate = 0.02, .model = write_resnet(directory)};
    check_same_training(run,
                        {{"single", 1, {{"checkpointing", "full"}}},
                         {"ddp", 2, {{"checkpointing", "selective"}}},
                         {"ddp", 3, {{"shard_optimizer", true}}},
                         {"fsdp", 2, {{"checkpointing", "full"}}},
                         {"fsdp", 3, {{"reshard_after_forward", false}}}},
                        kOfBatchNorm);
    // The last batch of each epoch has one row: all ranks but one have none that counts, and the variance of
    // still fewer values makes rounding larger yet.
    run.num_samples = 25;
    check_same_training(run, {{"ddp", 2}, {"fsdp", 3}}, 10 * kOfBatchNorm);
  }

  TEST_CASE("techniques/images: running statistics are kept by checkpoints of any technique and width") {
    const TemporaryDirectory directory;
    GroupRun run =
        with_steps({.optimizer = "sgd", .learning_rate = 0.02, .model = write_resnet(directory)}, 10);
    const GroupResult want = run_well(run);
    REQUIRE(want.state.contains("buffer/layer4.0.bn2.running_var"));
    const std::vector<Way> ways = {{"single", 1}, {"ddp", 2}, {"fsdp", 3}};
    for (std::size_t i = 0; i < ways.size(); ++i) {
      const Way &from = ways[i], &to = ways[(i + 1) % ways.size()];
      CAPTURE(to_text(from));
      CAPTURE(to_text(to));
      GroupRun half = in_way(with_steps(run, 5), from);
      half.save_to = directory.file(from.technique + "/step-000005");
      run_well(half);
      GroupRun rest = in_way(run, to);
      rest.resume_from = half.save_to;
      const GroupResult got = run_well(rest);
      REQUIRE(got.losses.size() == 5);
      CHECK(std::abs(got.losses.back() - want.losses.back()) < kOfBatchNorm * want.losses.back());
      CHECK(std::abs(got.validation_loss - want.validation_loss) < kOfBatchNorm * want.validation_loss);
    }
  }
}

}  // namespace saturn::testing

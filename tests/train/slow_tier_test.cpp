// The slow tier of CPU slots, and the copies between it and the device.

#include "train/slow_tier.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <future>
#include <stdexcept>

#include "saturn/base/diagnostic.h"
#include "saturn/base/files.h"
#include "saturn/train/memory.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/torch_doctest.h"
#include "train/copier.h"

namespace saturn::train {
namespace {

namespace fs = std::filesystem;
using testing::TemporaryDirectory;

constexpr std::int64_t kMiB = std::int64_t{1} << 20;

std::unique_ptr<SlowTier> tier_in(const std::string& directory, std::int64_t num_bytes,
                                  std::int64_t most_dirty_bytes = 0) {
  Result<std::unique_ptr<SlowTier>> made = map_slow_tier(directory, num_bytes, most_dirty_bytes);
  REQUIRE(made.ok());
  return *std::move(made);
}

/// A descriptor of the process's only open file that no directory lists.
int descriptor_of_nameless_file() {
  int found = -1;
  for (const fs::directory_entry& entry : fs::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    const std::string target = fs::read_symlink(entry.path(), gone).string();
    if (target.ends_with(" (deleted)") && target.starts_with("/")) found = std::stoi(entry.path().filename());
  }
  REQUIRE(found >= 0);
  return found;
}

}  // namespace

TEST_SUITE("train") {
  TEST_CASE("train/slow_tier: a mapped file holds zeros and has no name and is not the slot's memory") {
    TemporaryDirectory directory;
    const std::int64_t before = cpu_memory().now_bytes;
    const auto tier = tier_in(directory.file("made/on/the/way"), 5 * kMiB + 1);
    CHECK(tier->num_bytes() >= 5 * kMiB + 1);
    CHECK(fs::is_empty(directory.file("made/on/the/way")));
    const at::Tensor part = tier->tensor(4096, {3, 5}, at::kFloat);
    CHECK(part.sum().item<float>() == 0.0F);
    part.fill_(2.5F);
    CHECK(tier->tensor(4096 + 7 * 4, {1}, at::kFloat).item<float>() == 2.5F);
    CHECK(tier->tensor(0, {1024}, at::kFloat).sum().item<float>() == 0.0F);
    CHECK(cpu_memory().now_bytes - before < kMiB);
    CHECK(tier->check().ok());
  }

  TEST_CASE("train/slow_tier: a disk that is too small is said before anything is written") {
    TemporaryDirectory directory;
    const auto made = map_slow_tier(directory.path(), std::int64_t{1} << 50);
    REQUIRE_FALSE(made.ok());
    const Diagnostic& fault = made.faults().front();
    CHECK(fault.kind == Kind::disk_full);
    CHECK(fault.where == directory.path());
    CHECK(fault.what.starts_with("offloading keeps 1024.0 TiB in a file here, and "));
    CHECK_FALSE(fault.fix.empty());
    CHECK(fs::is_empty(directory.path()));
    const auto nowhere = map_slow_tier("/proc/no-such-place", kMiB);
    REQUIRE_FALSE(nowhere.ok());
    CHECK(nowhere.faults().front().where.starts_with("/proc/no-such-place"));
  }

  TEST_CASE("train/slow_tier: a file cut short is a fault with both sizes") {
    TemporaryDirectory directory;
    const auto tier = tier_in(directory.path(), 8 * kMiB);
    REQUIRE(::ftruncate(descriptor_of_nameless_file(), 3 * kMiB) == 0);
    const Result<void> found = tier->check();
    REQUIRE_FALSE(found.ok());
    CHECK(found.faults().front().what == "the file that offloading keeps its state in has 3.0 MiB");
    CHECK(found.faults().front().expected == "the 8.0 MiB that were reserved");
  }

  TEST_CASE("train/slow_tier: a page that cannot be had ends the process with its reason in the log") {
    TemporaryDirectory directory;
    const std::string log = directory.file("log");
    const auto tier = tier_in(directory.file("tier"), kMiB);
    const at::Tensor all = tier->tensor(0, {kMiB}, at::kByte);
    REQUIRE(::ftruncate(descriptor_of_nameless_file(), 4096) == 0);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      ::dup2(::open(log.c_str(), O_WRONLY | O_CREAT, 0600), STDERR_FILENO);
      static_cast<volatile char*>(all.mutable_data_ptr())[8192] = 1;
      ::_exit(0);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(WIFSIGNALED(status));
    CHECK(WTERMSIG(status) == SIGBUS);
    const auto text = read_whole(log);
    REQUIRE(text.ok());
    CHECK(text->starts_with("error: a page of the file that offloading keeps its state in cannot be read"));
  }

  TEST_CASE("train/slow_tier: what is written goes to the disk beyond a window and is read back the same") {
    TemporaryDirectory directory;
    const auto tier = tier_in(directory.path(), 12 * kMiB, /*most_dirty_bytes=*/2 * kMiB);
    std::vector<at::Tensor> parts;
    for (int i = 0; i < 12; ++i) {
      parts.push_back(tier->tensor(i * kMiB + 64, {(kMiB - 128) / 4}, at::kFloat));
      parts.back().fill_(i + 1);
      tier->written(parts.back());
    }
    struct stat status {};
    REQUIRE(::fstat(descriptor_of_nameless_file(), &status) == 0);
    CHECK(status.st_blocks * 512 >= 12 * kMiB);
    for (int i = 0; i < 12; ++i) {
      tier->will_read(parts[i]);
      CHECK(parts[i].eq(i + 1).all().item<bool>());
    }
    CHECK(tier->check().ok());
  }

  TEST_CASE("train/copier: copies go both ways in order and after what they wait for") {
    TemporaryDirectory directory;
    const auto tier = tier_in(directory.path(), kMiB);
    const at::Tensor slow = tier->tensor(0, {1000}, at::kFloat);
    const at::Tensor narrow = tier->tensor(8192, {1000}, at::kBFloat16);
    slow.copy_(at::arange(1000, at::kFloat));
    narrow.fill_(3.0);
    Copier copier(c10::kCPU);
    const at::Tensor fast = at::empty({1000}, at::kFloat);
    const at::Tensor widened = at::empty({1000}, at::kFloat);
    std::promise<void> updated;
    const CopyPtr fetched = copier.fetch({{fast, slow}, {widened, narrow}}, {updated.get_future().share()});
    CHECK(fetched->done().wait_for(std::chrono::milliseconds(20)) == std::future_status::timeout);
    slow[1] = 50.0;  // as an update would, which the fetch has to see
    updated.set_value();
    copier.wait_on_device(fetched);
    CHECK(fast[1].item<float>() == 50.0F);
    CHECK(fast[999].item<float>() == 999.0F);
    CHECK(widened.eq(3.0).all().item<bool>());

    bool told = false;
    const CopyPtr back = copier.write_back({{slow, at::full({1000}, 7.0)}}, [&] { told = true; });
    copier.wait_on_host(back->done());
    CHECK(told);
    CHECK(slow.eq(7.0).all().item<bool>());
    const Copier::Times times = copier.times();
    CHECK(times.copy_s > 0.0);
    CHECK(times.waited_s > 0.0);
  }

  TEST_CASE("train/copier: what a copy waits for fails it and nothing is held afterwards") {
    Copier copier(c10::kCPU);
    const at::Tensor from = at::ones({10});
    const at::Tensor to = at::zeros({10});
    std::promise<void> broken;
    broken.set_exception(std::make_exception_ptr(std::runtime_error("the update failed")));
    const CopyPtr copy = copier.fetch({{to, from}}, {broken.get_future().share()});
    CHECK_THROWS_WITH(copier.wait_on_host(copy->done()), "the update failed");
    CHECK(to.sum().item<float>() == 0.0F);
    CHECK(to.use_count() == 1);
    const CopyPtr next = copier.fetch({{to, from}}, {});
    copier.wait_on_host(next->done());
    CHECK(to.sum().item<float>() == 10.0F);
  }
}

}  // namespace saturn::train

// A job's checkpoints: what is listed, what stays, and every damage by its name.

#include "saturn/checkpoint/shelf.h"

#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <functional>

#include "saturn/base/files.h"
#include "saturn/checkpoint/space.h"
#include "saturn/checkpoint/write.h"
#include "tests/checkpoint/shards.h"
#include "tests/support/temporary_directory.h"

namespace saturn::checkpoint {
namespace {

using saturn::testing::save_made_up;
using saturn::testing::TemporaryDirectory;
namespace fs = std::filesystem;
using Steps = std::vector<std::int64_t>;

struct Shelf {
  TemporaryDirectory directory;
  std::string path = directory.path();
  std::string at(std::int64_t step) const { return join_path(path, name_of_step(step)); }
  void save(std::int64_t step, std::optional<double> loss = std::nullopt, std::int64_t rows = 8) {
    const Result<void> saved = save_made_up(at(step), step, loss, rows);
    const std::string faults = saved.ok() ? "" : to_text(saved.faults());
    REQUIRE(faults == "");
  }
};

void flip_bit(const std::string& file, std::size_t at) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(static_cast<std::streamoff>(at));
  const int byte = stream.get();
  stream.seekp(static_cast<std::streamoff>(at));
  stream.put(static_cast<char>(byte ^ 1));
}

void put_link(const std::string& directory, const std::string& name) {
  fs::rename(directory + "/" + name, directory + "/../elsewhere");
  fs::create_symlink("../elsewhere", directory + "/" + name);
}

}  // namespace

TEST_SUITE("checkpoint") {
  TEST_CASE("checkpoint/shelf: a checkpoint that does not fit is refused before a byte of it is written") {
    const TemporaryDirectory directory;
    const std::string path = directory.file("checkpoints/step-000005");
    const Result<void> prepared = prepare(path, std::int64_t{1} << 60);
    REQUIRE_FALSE(prepared.ok());
    CHECK(prepared.faults().front().kind == Kind::disk_full);
    CHECK(prepared.faults().front().what.starts_with("a checkpoint of 1048576.0 TiB is due and "));
    CHECK_FALSE(fs::exists(temporary_of(path)));
    REQUIRE(prepare(path, 1000).ok());
    CHECK(fs::exists(temporary_of(path)));
  }

  TEST_CASE("checkpoint/manifest: names of steps and nothing else are steps") {
    CHECK(name_of_step(400) == "step-000400");
    CHECK(name_of_step(12345678) == "step-12345678");
    CHECK(step_of_name("step-000400") == 400);
    CHECK(step_of_name("step-12345678") == 12345678);
    for (const char* name : {"step-400", "step-000400.tmp", "step-0000400", "step--00400", "step-00040x",
                             "step-", "LATEST", "", "step-99999999999999999999"}) {
      CAPTURE(name);
      CHECK(!step_of_name(name));
    }
  }

  TEST_CASE("checkpoint/shelf: what was written verifies and says where it stood") {
    Shelf shelf;
    shelf.save(7, 2.5, /*rows=*/70000);  // pieces of several blocks
    const Result<Manifest> manifest = verify(shelf.at(7));
    const std::string faults = manifest.ok() ? "" : to_text(manifest.faults());
    REQUIRE(faults == "");
    CHECK(manifest->progress.step == 7);
    CHECK(manifest->progress.seed == 3);
    CHECK((manifest->progress.validation == Validation{.step = 7, .loss = 2.5}));
    REQUIRE(manifest->files.size() == 2);
    REQUIRE(manifest->tensors.size() == 2);
    CHECK(manifest->tensors[0].pieces.size() == 4);
    CHECK(manifest->tensors[0].pieces[2].digests.size() == 5);
    CHECK(manifest->bytes() == static_cast<std::int64_t>(fs::file_size(shelf.at(7) + "/rank-00000.bin") +
                                                         fs::file_size(shelf.at(7) + "/rank-00001.bin")));
  }

  TEST_CASE("checkpoint/shelf: every damage is named with its place") {
    struct Row {
      std::string label;
      std::function<void(const std::string&)> damage;
      std::string want;
    };
    const std::vector<Row> rows = {
        {"a bit in the second block",
         [](const std::string& d) { flip_bit(d + "/rank-00001.bin", kBlockBytes + 9); },
         "manifest.json#/tensors/0/pieces/2/digests/1: error: the bytes of \"matrix\" in rank-00001.bin"},
        {"a bit of the manifest's step",
         [](const std::string& d) {
           flip_bit(d + "/manifest.json", read_whole(d + "/manifest.json")->find("\"step\": 7") + 8);
         },
         "manifest.json#/digest: error: the manifest is not as it was written"},
        {"a truncated shard", [](const std::string& d) { fs::resize_file(d + "/rank-00000.bin", 1000); },
         "rank-00000.bin: error: this has 1000 bytes"},
        {"a shard of no bytes", [](const std::string& d) { fs::resize_file(d + "/rank-00000.bin", 0); },
         "rank-00000.bin: error: this has 0 bytes"},
        {"a shard that is too long",
         [](const std::string& d) { fs::resize_file(d + "/rank-00000.bin", 99999999); },
         "rank-00000.bin: error: this has 99999999 bytes"},
        {"no shard", [](const std::string& d) { fs::remove(d + "/rank-00000.bin"); },
         "rank-00000.bin: error: cannot open"},
        {"no manifest", [](const std::string& d) { fs::remove(d + "/manifest.json"); },
         "manifest.json: error: cannot open"},
        {"half a manifest", [](const std::string& d) { fs::resize_file(d + "/manifest.json", 500); },
         "manifest.json:"},
        {"a format of the future",
         [](const std::string& d) {
           std::string text = *read_whole(d + "/manifest.json");
           text.replace(text.find("saturn.checkpoint/1"), 19, "saturn.checkpoint/7");
           REQUIRE(write_whole(d + "/manifest.json", text).ok());
         },
         "manifest.json#/format: error: format \"saturn.checkpoint/7\""},
        {"a link instead of a shard", [](const std::string& d) { put_link(d, "rank-00000.bin"); },
         "rank-00000.bin: error: cannot open"},
        {"a link instead of the manifest", [](const std::string& d) { put_link(d, "manifest.json"); },
         "manifest.json: error: this is no file but a link"},
    };
    Shelf good;
    good.save(7, std::nullopt, /*rows=*/20000);
    for (const Row& row : rows) {
      CAPTURE(row.label);
      Shelf shelf;
      fs::copy(good.path, shelf.path, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
      REQUIRE(verify(shelf.at(7)).ok());
      row.damage(shelf.at(7));
      const Result<Manifest> manifest = verify(shelf.at(7));
      REQUIRE(!manifest.ok());
      const std::string text = to_text(manifest.faults());
      CAPTURE(text);
      CHECK(text.find(row.want) != std::string::npos);
    }
  }

  TEST_CASE("checkpoint/shelf: the newest few stay and the best and nothing that was left behind") {
    struct Row {
      std::string label;
      std::vector<Kept> all;
      std::int64_t latest;
      int keep;
      Steps want;
    };
    const std::optional<double> none;
    const std::vector<Row> rows = {
        {"the two newest", {{1, none}, {2, none}, {3, none}}, 3, 2, {1}},
        {"the best is older", {{1, 0.5}, {2, 0.9}, {3, 0.8}, {4, 0.7}}, 4, 2, {2}},
        {"the first of equals", {{1, 0.5}, {2, 0.5}, {3, 0.8}}, 3, 1, {2}},
        {"the best is among the newest", {{1, 0.9}, {2, 0.8}, {3, 0.7}}, 3, 2, {1}},
        {"what is beyond the latest goes", {{1, none}, {2, none}, {8, 0.1}, {9, none}}, 2, 2, {9, 8}},
        {"less than asked for", {{1, none}}, 1, 3, {}},
        {"at least one stays", {{1, none}, {2, none}}, 2, 0, {1}},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      CHECK(unwanted(row.all, row.latest, row.keep) == row.want);
    }
  }

  TEST_CASE("checkpoint/shelf: pruning goes by number and clears what was interrupted and follows no link") {
    Shelf shelf;
    for (const std::int64_t step : {2, 10, 999999, 1000000}) shelf.save(step);
    fs::create_directories(shelf.path + "/step-000011.tmp/deep");
    fs::create_directories(shelf.path + "/step-000003.removed");
    fs::create_directories(shelf.path + "/other.tmp");
    TemporaryDirectory outside;
    REQUIRE(write_whole(outside.file("kept"), "x").ok());
    fs::create_directory_symlink(outside.path(), shelf.path + "/step-000001");
    fs::create_directory_symlink(outside.path(), shelf.path + "/step-000005.tmp");
    const auto removed = prune(shelf.path, 2);
    REQUIRE(removed.ok());
    CHECK(*removed == Steps{10, 2});
    CHECK(steps_in(shelf.path) == Steps{999999, 1000000});
    CHECK(fs::exists(outside.file("kept")));
    CHECK(fs::exists(shelf.path + "/other.tmp"));
    CHECK(fs::is_symlink(shelf.path + "/step-000001"));
    CHECK(!fs::exists(shelf.path + "/step-000011.tmp"));
    CHECK(!fs::exists(shelf.path + "/step-000003.removed"));
  }

  TEST_CASE("checkpoint/shelf: LATEST says which is the newest unless it is nonsense") {
    Shelf shelf;
    CHECK(!latest_in(shelf.path));
    CHECK(!newest_before(shelf.path, 5));
    shelf.save(9);
    shelf.save(4);  // the training went back
    CHECK(latest_in(shelf.path) == 4);
    CHECK(newest_before(shelf.path, 9) == 4);
    CHECK(!newest_before(shelf.path, 4));
    for (const std::string text : {"", "step-000005\n", "../step-000009\n", "step-000004"}) {
      CAPTURE(text);
      REQUIRE(write_whole(shelf.path + "/LATEST", text).ok());
      CHECK(latest_in(shelf.path) == (text == "step-000004" ? 4 : 9));
    }
    const auto removed = prune(shelf.path, 2);
    REQUIRE(removed.ok());
    CHECK(steps_in(shelf.path) == Steps{4});
  }

  TEST_CASE("checkpoint/space: a job needs its weights once and its checkpoints as often as they are kept") {
    batch::Job job;
    job.model.num_parameters = 1000;
    batch::RunSettings run;
    CHECK(space_needed(job, run).weights_bytes == 4000);
    CHECK(space_needed(job, run).checkpoint_bytes == 12000);
    CHECK(space_needed(job, run).num_checkpoints == 1);
    CHECK(space_needed(job, run).bytes() == 4000 + 12000 + 1200);
    run.checkpoint_every = 10;
    run.keep_checkpoints = 3;
    CHECK(space_needed(job, run).num_checkpoints == 4);
    job.evaluate_every = 5;
    CHECK(space_needed(job, run).num_checkpoints == 5);
  }
}

}  // namespace saturn::checkpoint

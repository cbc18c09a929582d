// Checkpoints: any cut into boxes is read by any other, and every damage is named.

#include "saturn/train/checkpoint.h"

#include <filesystem>
#include <fstream>

#include "saturn/base/digest.h"
#include "saturn/base/files.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/torch_doctest.h"
#include "tests/train/boxes.h"

namespace saturn::train {
namespace {

using saturn::testing::box;
using saturn::testing::Boxes;
using saturn::testing::cut;
using saturn::testing::TemporaryDirectory;
using saturn::testing::whole;
namespace fs = std::filesystem;

struct Fixture {
  TemporaryDirectory directory;
  std::unique_ptr<Communicator> alone = *Communicator::connect({});
  std::string path = directory.file("step-000012");

  void save(std::vector<StateTensor> boxes) {
    Boxes writer(std::move(boxes), *alone);
    const auto saved =
        save_checkpoint(path, {.step = 12, .seed = ~std::uint64_t{0}, .epoch = 3, .step_of_epoch = 2},
                        {{"technique", "boxes"}}, writer, *alone);
    const std::string faults = saved.ok() ? "" : to_text(saved.faults());
    CAPTURE(faults);
    REQUIRE(saved.ok());
  }
  void save_whole() { save({box("weight", whole(), {0, 0}), box("exp_avg", whole(1000.0), {0, 0})}); }

  /// Text of the faults of loading the whole weight; empty where it worked.
  std::string load_whole() {
    Boxes reader({box("weight", at::zeros({6, 5}), {0, 0})}, *alone);
    const auto loaded = load_checkpoint(path, reader);
    return loaded.ok() ? "" : to_text(loaded.faults());
  }

  void edit_manifest(const std::string& from, const std::string& to) {
    const std::string file = join_path(path, "manifest.json");
    std::string text = *read_whole(file);
    const std::size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    text.replace(at, from.size(), to);
    REQUIRE(write_whole(file, text).ok());
  }

  /// The same by someone who makes the manifest's own digest fit.
  void forge_manifest(const std::string& from, const std::string& to) {
    edit_manifest(from, to);
    const std::string file = join_path(path, "manifest.json");
    Json document = *parse_json(*read_whole(file), file);
    document.erase("digest");
    document["digest"] = digest_of(to_text(document));
    REQUIRE(write_artefact(file, document).ok());
  }
};

}  // namespace

TEST_SUITE("train") {
  TEST_CASE("train/checkpoint: what was cut one way is read by those who cut another way") {
    Fixture fixture;
    // Rows 0-1, then rows 2-5 by columns; the second tensor in flat thirds that end inside rows.
    fixture.save({cut("weight", 0, 0, 2, 0, 5), cut("weight", 0, 2, 4, 0, 3), cut("weight", 0, 2, 4, 3, 2),
                  cut("exp_avg", 1000, 0, 1, 0, 5), cut("exp_avg", 1000, 1, 1, 0, 2),
                  cut("exp_avg", 1000, 1, 1, 2, 3), cut("exp_avg", 1000, 2, 4, 0, 5)});
    Boxes reader({box("weight", at::zeros({6, 5}), {0, 0}), box("weight", at::zeros({3, 2}), {1, 2}, false),
                  box("exp_avg", at::zeros({5, 1}), {1, 4})},
                 *fixture.alone);
    const auto progress = load_checkpoint(fixture.path, reader);
    const std::string faults = progress.ok() ? "" : to_text(progress.faults());
    CAPTURE(faults);
    REQUIRE(progress.ok());
    CHECK(progress->step == 12);
    CHECK(progress->seed == ~std::uint64_t{0});
    CHECK(progress->epoch == 3);
    CHECK(progress->step_of_epoch == 2);
    CHECK(reader.loaded);
    CHECK(reader.piece(0).equal(whole()));
    CHECK(reader.piece(1).equal(whole().narrow(0, 1, 3).narrow(1, 2, 2)));
    CHECK(reader.piece(2).equal(whole(1000.0).narrow(0, 1, 5).narrow(1, 4, 1)));
  }

  TEST_CASE("train/checkpoint: saving a step again leaves the new state and no leftovers") {
    Fixture fixture;
    fixture.save({box("weight", at::zeros({6, 5}), {0, 0})});
    fs::create_directories(fixture.path + ".tmp/old");
    fixture.save_whole();
    Boxes reader({box("weight", at::zeros({6, 5}), {0, 0})}, *fixture.alone);
    REQUIRE(load_checkpoint(fixture.path, reader).ok());
    CHECK(reader.piece(0).equal(whole()));
    CHECK(std::distance(fs::directory_iterator(fixture.directory.path()), fs::directory_iterator()) ==
          2);  // and LATEST
  }

  TEST_CASE("train/checkpoint: pieces that no rank owns are not written and their absence is named") {
    Fixture fixture;
    fixture.save({box("weight", whole().narrow(0, 0, 3).clone(), {0, 0}),
                  box("weight", whole().narrow(0, 3, 3).clone(), {3, 0}, /*primary=*/false)});
    CHECK(fixture.load_whole().find("the pieces of \"w\" leave a part of it out") != std::string::npos);
  }

  TEST_CASE("train/checkpoint: every damage is refused with its place") {
    struct Row {
      std::string label;
      std::function<void(Fixture&)> damage;
      std::string want;
    };
    const std::vector<Row> rows = {
        {"a flipped bit",
         [](Fixture& f) {
           std::fstream file(join_path(f.path, "rank-00000.bin"),
                             std::ios::in | std::ios::out | std::ios::binary);
           file.seekp(50);
           file.put('\x55');
         },
         "manifest.json#/tensors/0/pieces/0/digests/0: error: the bytes in rank-00000.bin are not those"},
        {"a truncated file", [](Fixture& f) { fs::resize_file(join_path(f.path, "rank-00000.bin"), 64); },
         "rank-00000.bin has 64 bytes"},
        {"an empty file", [](Fixture& f) { fs::resize_file(join_path(f.path, "rank-00000.bin"), 0); },
         "rank-00000.bin has 0 bytes"},
        {"a missing file", [](Fixture& f) { fs::remove(join_path(f.path, "rank-00000.bin")); },
         "rank-00000.bin"},
        {"no manifest", [](Fixture& f) { fs::remove(join_path(f.path, "manifest.json")); }, "manifest.json"},
        {"a cut manifest", [](Fixture& f) { fs::resize_file(join_path(f.path, "manifest.json"), 300); },
         "manifest.json"},
        {"a file of another directory",
         [](Fixture& f) { f.forge_manifest("\"rank-00000.bin\"", "\"../rank-00000.bin\""); },
         "a file of the checkpoint's own"},
        {"a tensor of another shape",
         [](Fixture& f) { f.forge_manifest("\"name\": \"w\"", "\"name\": \"v\""); },
         "there is no weight of \"w\""},
        {"a manifest that was edited", [](Fixture& f) { f.edit_manifest("\"step\": 12", "\"step\": 13"); },
         "manifest.json#/digest: error: the manifest is not as it was written"},
        {"a link in place of a file",
         [](Fixture& f) {
           fs::rename(join_path(f.path, "rank-00000.bin"), f.directory.file("elsewhere"));
           fs::create_symlink(f.directory.file("elsewhere"), join_path(f.path, "rank-00000.bin"));
         },
         "rank-00000.bin: error: cannot open"},
        {"training of another version",
         [](Fixture& f) { f.forge_manifest("\"training_version\": ", "\"training_version\": 9"); },
         "manifest.json#/training_version"},
        {"a format of the future",
         [](Fixture& f) { f.edit_manifest("saturn.checkpoint/1", "saturn.checkpoint/9"); },
         "manifest.json#/format"},
        {"bytes that do not fit the shape",
         [](Fixture& f) { f.forge_manifest("\"bytes\": 120", "\"bytes\": 124"); },
         "/tensors/0/pieces/0/bytes"},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      Fixture fixture;
      fixture.save_whole();
      REQUIRE(fixture.load_whole() == "");
      row.damage(fixture);
      const std::string text = fixture.load_whole();
      CAPTURE(text);
      CHECK(text.find(row.want) != std::string::npos);
    }
  }

  TEST_CASE("train/checkpoint: a directory that cannot be written is a fault") {
    Fixture fixture;
    REQUIRE(write_whole(fixture.directory.file("file"), "x").ok());
    Boxes writer({box("weight", whole(), {0, 0})}, *fixture.alone);
    const auto saved =
        save_checkpoint(fixture.directory.file("file") + "/step-000001", {}, {}, writer, *fixture.alone);
    REQUIRE(!saved.ok());
    CHECK(saved.faults()[0].kind == Kind::machine);
  }
}

}  // namespace saturn::train

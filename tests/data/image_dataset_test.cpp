// Images by index: the same whatever the threads and the order, and what happens to those that cannot be
// read.

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "saturn/base/files.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/image_index.h"
#include "saturn/data/loader.h"
#include "tests/support/images.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/torch_doctest.h"

namespace saturn::data {
namespace {

using testing::jpeg_of;
using testing::png_of;
using testing::smooth_image;
using testing::TemporaryDirectory;

void write(const std::string& path, const std::string& content) {
  REQUIRE(make_directories(directory_of(path)).ok());
  REQUIRE(write_whole(path, content).ok());
}

/// `count` images of two classes in turn, JPEG and PNG, of several shapes.
std::vector<testing::TarEntry> files_of(int count) {
  std::vector<testing::TarEntry> files;
  for (int i = 0; i < count; ++i) {
    const auto image = smooth_image(40 + 3 * i, 60 - i, 3, static_cast<std::uint64_t>(i));
    const std::string name = std::string(i % 2 == 0 ? "a/" : "b/") + std::to_string(100 + i);
    if (i % 3 == 0) {
      files.push_back({name + ".png", png_of(image)});
    } else {
      files.push_back({name + ".jpg", jpeg_of(image)});
    }
  }
  return files;
}

batch::DataSource source_of(const std::vector<std::string>& paths, double validation_share = 0.0) {
  batch::DataSource source;
  source.name = "pictures";
  source.kind = batch::DataKind::images;
  source.files = paths;
  source.validation_share = validation_share;
  source.images.size = 24;
  source.images.resize = 28;
  source.images.max_corrupt = 2;
  REQUIRE(batch::index_images(source).ok());
  return source;
}

std::unique_ptr<Dataset> open(const batch::DataSource& source, int num_threads = 1) {
  auto dataset = open_dataset(source, source.vocabulary_size, num_threads);
  REQUIRE_MESSAGE(dataset.ok(), to_text(dataset.faults()));
  return *std::move(dataset);
}

Samples read(const Dataset& dataset, const std::vector<std::int64_t>& samples, const Draw& draw = {},
             Part part = Part::training) {
  auto got = dataset.read(part, samples, draw);
  REQUIRE_MESSAGE(got.ok(), to_text(got.faults()));
  return *std::move(got);
}

class Pictures {
 public:
  explicit Pictures(int count = 12) {
    for (const auto& [name, content, type] : files_of(count)) write(path(name), content);
  }
  std::string root() const { return directory_.file("pictures"); }
  std::string path(const std::string& name) const { return root() + "/" + name; }

 private:
  TemporaryDirectory directory_;
};

}  // namespace

TEST_SUITE("data") {
  TEST_CASE("data/image_dataset: a sample is a function of seed and epoch and index alone") {
    const Pictures pictures;
    const batch::DataSource source = source_of({pictures.root()});
    const auto one = open(source), four = open(source, 4);
    const Draw draw{.seed = 5, .epoch = 3};
    const Samples all = read(*one, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, draw);
    CHECK(all.inputs.sizes() == std::vector<std::int64_t>{12, 3, 24, 24});
    CHECK(all.inputs.equal(read(*four, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, draw).inputs));
    const Samples turned = read(*four, {7, 2}, draw);
    CHECK(turned.inputs[0].equal(all.inputs[7]));
    CHECK(turned.inputs[1].equal(all.inputs[2]));
    CHECK(turned.targets[0].item<std::int64_t>() == 1);
    CHECK_FALSE(read(*one, {7}, {.seed = 5, .epoch = 4}).inputs[0].equal(all.inputs[7]));
    CHECK_FALSE(read(*one, {7}, {.seed = 6, .epoch = 3}).inputs[0].equal(all.inputs[7]));
  }

  TEST_CASE("data/image_dataset: training from any step reads what training from the start reads") {
    const Pictures pictures;
    const batch::DataSource source = source_of({pictures.root()});
    const auto dataset = open(source, 2);
    const SampleOrder order(9, 12, 5);
    const auto whole = [](std::int64_t num_rows) { return std::vector<RowRange>{{0, num_rows}}; };
    Loader first(*dataset, order, whole, 0);
    std::vector<at::Tensor> batches;
    for (int step = 0; step < 8; ++step) {
      auto next = first.next();
      REQUIRE(next.ok());
      batches.push_back(next->parts[0].inputs);
    }
    Loader later(*dataset, order, whole, 6);
    CHECK(later.next()->parts[0].inputs.equal(batches[6]));
    CHECK(later.next()->parts[0].inputs.equal(batches[7]));
  }

  TEST_CASE("data/image_dataset: validation images are cut from the centre and the same in every epoch") {
    const Pictures pictures;
    const batch::DataSource source = source_of({pictures.root()}, 0.5);
    const auto dataset = open(source);
    REQUIRE(dataset->num_samples(Part::validation) == 6);
    const Samples once = read(*dataset, {0, 1}, {}, Part::validation);
    CHECK(once.inputs.equal(read(*dataset, {0, 1}, {.seed = 8, .epoch = 2}, Part::validation).inputs));
  }

  TEST_CASE("data/image_dataset: shards give the same samples as the folder that they hold") {
    const Pictures pictures;
    std::vector<testing::TarEntry> members;
    for (const auto& [name, content, type] : files_of(12)) {
      members.push_back({name, content});
      members.push_back({name.substr(0, name.size() - 4) + ".cls", name[0] == 'a' ? "0" : "1"});
    }
    std::stable_sort(members.begin(), members.end(),
                     [](const auto& x, const auto& y) { return x.name.substr(0, 5) < y.name.substr(0, 5); });
    const TemporaryDirectory directory;
    write(directory.file("0.tar"), testing::tar_of(members));
    const auto of_shards = open(source_of({directory.file("0.tar")}), 2);
    const auto of_folder = open(source_of({pictures.root()}), 2);
    const Samples want = read(*of_folder, {0, 5, 11}), got = read(*of_shards, {0, 5, 11});
    CHECK(got.inputs.equal(want.inputs));
    CHECK(got.targets.equal(want.targets));

    SUBCASE("a shard that becomes shorter is a change and no corrupt sample") {
      REQUIRE(::truncate(directory.file("0.tar").c_str(), 4096) == 0);
      const auto fault = of_shards->read(Part::training, {11}, {});
      REQUIRE_FALSE(fault.ok());
      CHECK(fault.faults()[0].what.find("became shorter") != std::string::npos);
      CHECK(of_shards->num_corrupt() == 0);
    }
  }

  TEST_CASE("data/image_dataset: corrupt images are replaced by the next and counted and capped") {
    const Pictures pictures;
    const std::string whole = *read_whole(pictures.path("a/104.jpg"));
    write(pictures.path("a/104.jpg"), whole.substr(0, whole.size() / 2));
    write(pictures.path("b/103.png"), "no image at all");
    const batch::DataSource source = source_of({pictures.root()});
    for (const int num_threads : {1, 3}) {
      const auto dataset = open(source, num_threads);
      // a/100 a/102 a/104 a/106 ...: sample 2 is the cut one.
      const Samples samples = read(*dataset, {1, 2, 3});
      CHECK(samples.targets.sum().item<std::int64_t>() == 0);
      CHECK(dataset->num_corrupt() == 1);
      (void)read(*dataset, {2});
      CHECK(dataset->num_corrupt() == 1);         // the same one again
      const Samples after = read(*dataset, {7});  // b/103
      CHECK(after.targets[0].item<std::int64_t>() == 1);
      CHECK(dataset->num_corrupt() == 2);
    }
    write(pictures.path("b/105.jpg"), "");
    const auto dataset = open(source_of({pictures.root()}));
    const auto all = dataset->read(Part::training, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, {});
    REQUIRE_FALSE(all.ok());
    CHECK(all.faults()[0].where.find(pictures.root()) == 0);
    CHECK(all.faults()[1].what.find("3 images cannot be read") != std::string::npos);
    CHECK(all.faults()[1].expected == "at most max_corrupt = 2");
  }

  TEST_CASE("data/image_dataset: data that change during the run are faults with the image") {
    const Pictures pictures;
    const auto dataset = open(source_of({pictures.root()}));
    const std::string grown = *read_whole(pictures.path("a/100.png")) + "x";
    write(pictures.path("a/100.png"), grown);
    REQUIRE(::unlink(pictures.path("b/101.jpg").c_str()) == 0);
    const auto other = dataset->read(Part::training, {0}, {});
    REQUIRE_FALSE(other.ok());
    CHECK(other.faults()[0].where == pictures.path("a/100.png"));
    CHECK(other.faults()[0].what.find("another size") != std::string::npos);
    const auto gone = dataset->read(Part::training, {6}, {});
    REQUIRE_FALSE(gone.ok());
    CHECK(gone.faults()[0].what == "this image is gone");
    CHECK(dataset->num_corrupt() == 0);
  }

  TEST_CASE("data/image_dataset: an image far longer than wide counts as corrupt") {
    const TemporaryDirectory directory;
    write(directory.file("p/a/1.png"), png_of(smooth_image(1300, 20, 1)));
    write(directory.file("p/a/2.png"), png_of(smooth_image(30, 20, 1)));
    const auto dataset = open(source_of({directory.file("p")}));
    (void)read(*dataset, {0, 1});
    CHECK(dataset->num_corrupt() == 1);
  }

  TEST_CASE("data/image_dataset: the baseline is the entropy of the classes") {
    const Pictures pictures;
    const auto dataset = open(source_of({pictures.root()}, 0.5));
    const auto got = dataset->baseline_loss();
    REQUIRE(got.ok());
    CHECK(*got == doctest::Approx(std::log(2.0)));
  }
}

}  // namespace saturn::data

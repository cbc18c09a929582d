// Folders of classes and shards: what their samples are, and which data are refused.

#include "saturn/batch/image_index.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>

#include "tests/batch/support.h"
#include "tests/support/images.h"

namespace saturn {
namespace {

using batch::DataKind;
using batch::DataSource;
using batch::ImageIndex;
using testing::faults_of;
using testing::tar_of;
using testing::TemporaryDirectory;

void write(const TemporaryDirectory& directory, const std::string& name, const std::string& content = "x") {
  REQUIRE(make_directories(directory_of(directory.file(name))).ok());
  REQUIRE(write_whole(directory.file(name), content).ok());
}

DataSource images_of(const std::vector<std::string>& files, double validation_share = 0.0) {
  DataSource data;
  data.kind = DataKind::images;
  data.files = files;
  data.validation_share = validation_share;
  return data;
}

std::string text_of(const std::vector<batch::ImageSample>& samples) {
  std::string text;
  for (const auto& sample : samples)
    text += (text.empty() ? "" : " ") + sample.name + "=" + std::to_string(sample.label);
  return text;
}

TEST_SUITE("batch") {
  TEST_CASE("batch/image_index: a folder is one class and its images come by name") {
    const TemporaryDirectory directory;
    for (const char* name : {"dog/2.png", "dog/10.JPG", "cat/deep/er/1.jpeg", "cat/0.jpg", "cat/notes.txt",
                             ".git/config", "dog/.hidden.png", "readme.md"})
      write(directory, name);
    DataSource data = images_of({directory.path()});
    const auto index = batch::index_images(data);
    REQUIRE_MESSAGE(index.ok(), faults_of(index));
    CHECK(data.images.classes == std::vector<std::string>{"cat", "dog"});
    CHECK(data.vocabulary_size == 2);
    CHECK_FALSE(index->in_shards);
    CHECK(text_of(index->training) == "cat/0.jpg=0 cat/deep/er/1.jpeg=0 dog/10.JPG=1 dog/2.png=1");
    CHECK(index->validation.empty());
  }

  TEST_CASE("batch/image_index: labels decide the order of the classes") {
    const TemporaryDirectory directory;
    for (const char* name : {"a/1.png", "b/1.png"}) write(directory, name);
    DataSource data = images_of({directory.path()});
    data.images.classes = {"b", "a"};
    const auto index = batch::index_images(data);
    REQUIRE(index.ok());
    CHECK(text_of(index->training) == "b/1.png=0 a/1.png=1");
    data.images.classes = {"b", "c"};
    const std::string faults = faults_of(batch::index_images(data));
    CHECK(faults.find("these classes have no image: c") != std::string::npos);
    CHECK(faults.find("these folders are no class: a") != std::string::npos);
  }

  TEST_CASE("batch/image_index: each class gives its share to validation") {
    const TemporaryDirectory directory;
    for (int i = 0; i < 40; ++i) {
      write(directory, "a/" + std::to_string(100 + i) + ".png");
      if (i < 10) write(directory, "b/" + std::to_string(100 + i) + ".png");
    }
    DataSource data = images_of({directory.path()}, 0.2);
    const auto index = batch::index_images(data);
    REQUIRE(index.ok());
    std::map<int, int> held_out;
    for (const auto& sample : index->validation) ++held_out[sample.label];
    CHECK(held_out == std::map<int, int>{{0, 8}, {1, 2}});
    CHECK(index->training.size() == 40);
    for (const auto& kept : index->training)
      for (const auto& other : index->validation) CHECK(kept.name != other.name);
  }

  TEST_CASE("batch/image_index: a validation folder has the classes of the training folder") {
    const TemporaryDirectory directory;
    for (const char* name : {"train/a/1.png", "train/b/1.png", "valid/b/7.png"}) write(directory, name);
    DataSource data = images_of({directory.file("train")});
    data.validation_files = {directory.file("valid")};
    const auto index = batch::index_images(data);
    REQUIRE_MESSAGE(index.ok(), faults_of(index));
    CHECK(text_of(index->validation) == "b/7.png=1");
    write(directory, "valid/c/1.png");
    CHECK(faults_of(batch::index_images(data)).find("these folders are no class: c") != std::string::npos);
  }

  TEST_CASE("batch/image_index: empty classes and folders without classes are refused by name") {
    const TemporaryDirectory directory;
    DataSource none = images_of({directory.path()});
    CHECK(faults_of(batch::index_images(none)).find("there is no folder in") != std::string::npos);
    write(directory, "full/1.png");
    for (const char* name : {"empty", "texts"}) REQUIRE(make_directories(directory.file(name)).ok());
    write(directory, "texts/a.txt");
    DataSource data = images_of({directory.path()});
    const std::string faults = faults_of(batch::index_images(data));
    CHECK(faults.find("these classes have no image: empty, texts") != std::string::npos);
    DataSource gone = images_of({directory.file("gone")});
    CHECK_FALSE(batch::index_images(gone).ok());
  }

  TEST_CASE("batch/image_index: a link that leads back into the folder is a fault") {
    const TemporaryDirectory directory;
    write(directory, "a/1.png");
    REQUIRE(::symlink(directory.file("a").c_str(), directory.file("a/again").c_str()) == 0);
    DataSource data = images_of({directory.path()});
    CHECK(faults_of(batch::index_images(data)).find("folders lie deeper than") != std::string::npos);
  }

  TEST_CASE("batch/image_index: members of a shard that share a name are one sample") {
    const TemporaryDirectory directory;
    write(directory, "0.tar",
          tar_of({{"x/1.jpg", "JJ"},
                  {"x/1.cls", "2\n"},
                  {"x/1.json", "{}"},
                  {"d/", "", '5'},
                  {"2.cls", "0"},
                  {"2.seg.png", "PPP"}}));
    write(directory, "1.tar", tar_of({{"meta.json", "{}"}, {"3.png", "P"}, {"3.cls", "1"}}));
    DataSource data = images_of({directory.file("0.tar"), directory.file("1.tar")});
    const auto index = batch::index_images(data);
    REQUIRE_MESSAGE(index.ok(), faults_of(index));
    CHECK(index->in_shards);
    CHECK(text_of(index->training) == "x/1.jpg=2 2.seg.png=0 3.png=1");
    CHECK(index->training[0].offset == 512);
    CHECK(index->training[0].size == 2);
    CHECK(index->training[2].source == 1);
    CHECK(data.images.classes == std::vector<std::string>{"0", "1", "2"});
    CHECK(data.vocabulary_size == 3);
  }

  TEST_CASE("batch/image_index: labels of shards may be names that `labels` knows") {
    const TemporaryDirectory directory;
    write(directory, "0.tar", tar_of({{"1.png", "P"}, {"1.cls", "dog"}, {"2.png", "P"}, {"2.cls", "0"}}));
    DataSource data = images_of({directory.file("0.tar")});
    data.images.classes = {"cat", "dog"};
    const auto index = batch::index_images(data);
    REQUIRE_MESSAGE(index.ok(), faults_of(index));
    CHECK(text_of(index->training) == "1.png=1 2.png=0");
    data.images.classes = {"cat"};
    CHECK(faults_of(batch::index_images(data)).find("holds \"dog\"") != std::string::npos);
  }

  TEST_CASE("batch/image_index: shards whose samples are not whole are refused with the sample") {
    struct Row {
      std::vector<testing::TarEntry> entries;
      std::string says;
    };
    for (const Row& row : std::vector<Row>{
             {{{"1.jpg", "J"}, {"2.jpg", "J"}, {"2.cls", "1"}}, "sample \"1\" has no label"},
             {{{"1.cls", "1"}, {"2.jpg", "J"}, {"2.cls", "1"}}, "sample \"1\" has no image"},
             {{{"1.jpg", "J"}, {"1.png", "P"}, {"1.cls", "1"}}, "sample \"1\" has two images"},
             {{{"1.jpg", "J"}, {"1.cls", "1"}, {"1.cls", "2"}}, "sample \"1\" has two labels"},
             {{{"1.jpg", "J"}, {"1.cls", "-1"}}, "holds \"-1\""},
             {{{"1.jpg", "J"}, {"1.cls", ""}}, "holds \"\""},
             {{{"1.jpg", "J"}, {"1.cls", "99999999999"}}, "holds \"99999999999\""},
             {{{"1.jpg", "J"}, {"1.cls", std::string(300, '1')}}, "is no label"},
             {{{"1.jpg", "J"}, {"1.cls", "1"}, {"../x", "1"}}, "would leave its folder"},
             {{{"1.jpg", "J"}, {"1.cls", "1"}, {"link", "", '2'}}, "is a link"},
         }) {
      CAPTURE(row.says);
      const TemporaryDirectory directory;
      write(directory, "0.tar", tar_of(row.entries));
      DataSource data = images_of({directory.file("0.tar")});
      const std::string faults = faults_of(batch::index_images(data));
      CHECK(faults.find(row.says) != std::string::npos);
      CHECK(faults.find("0.tar") != std::string::npos);
    }
  }

  TEST_CASE("batch/image_index: the digest is of what training reads") {
    const TemporaryDirectory directory;
    write(directory, "a/1.png", "one");
    write(directory, "a/notes.txt", "notes");
    DataSource data = images_of({directory.path()});
    REQUIRE(batch::index_images(data).ok());
    const auto before = batch::digest_of_images(data);
    REQUIRE(before.ok());
    write(directory, "a/notes.txt", "other");
    CHECK(*batch::digest_of_images(data) == *before);
    write(directory, "a/1.png", "two");
    CHECK(*batch::digest_of_images(data) != *before);
  }
}

}  // namespace
}  // namespace saturn

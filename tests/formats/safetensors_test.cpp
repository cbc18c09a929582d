#include "saturn/formats/safetensors.h"

#include <doctest/doctest.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>

#include "saturn/base/diagnostic.h"
#include "saturn/base/files.h"
#include "saturn/base/random.h"
#include "tests/support/temporary_directory.h"

namespace saturn::formats {
namespace {

std::string file_of(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), sizeof length) + header + data;
}

std::string first_fault(const std::string& file) {
  const Result<SafetensorsContent> content = parse_safetensors(file, "f");
  return content.ok() ? "" : to_text(content.faults());
}

constexpr const char* kTwoTensors =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]},)"
    R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}}  )";

struct Written {
  std::vector<StoredTensor> tensors;
  std::vector<std::string> bytes;
  TensorBytes source() const {
    return [this](std::size_t index) { return std::string_view(bytes[index]); };
  }
};

/// Tensors a (f32, 4 x 2), b (u8, 5), c (bf16, scalar) and d (f32, empty) with bytes that differ.
Written some_tensors() {
  Written written;
  const auto add = [&](const char* name, Dtype dtype, std::vector<std::int64_t> shape,
                       std::size_t num_bytes) {
    written.tensors.push_back({.name = name, .dtype = dtype, .shape = std::move(shape), .bytes = {}});
    std::string bytes(num_bytes, '\0');
    for (std::size_t i = 0; i < num_bytes; ++i) bytes[i] = static_cast<char>(i * 7 + written.tensors.size());
    written.bytes.push_back(std::move(bytes));
  };
  add("a", Dtype::f32, {4, 2}, 32);
  add("b", Dtype::u8, {5}, 5);
  add("c", Dtype::bf16, {}, 2);
  add("d", Dtype::f32, {0, 7}, 0);
  return written;
}

TEST_SUITE("formats") {
  TEST_CASE("formats/safetensors: a file gives its tensors in the order of their bytes") {
    const std::string file = file_of(kTwoTensors, "01234567xyz");
    const Result<SafetensorsContent> content = parse_safetensors(file, "f");
    REQUIRE(content.ok());
    REQUIRE(content->tensors.size() == 2);
    CHECK(content->tensors[0].name == "a");
    CHECK(content->tensors[0].shape == std::vector<std::int64_t>{2, 1});
    CHECK(content->tensors[0].bytes == "01234567");
    CHECK(content->tensors[1].dtype == Dtype::u8);
    CHECK(content->tensors[1].bytes == "xyz");
    CHECK(content->metadata.at("format") == "pt");
  }

  TEST_CASE("formats/safetensors: each way a header can lie is refused by name") {
    struct Row {
      std::string header;
      std::string want;
      std::string data = "01234567";
    };
    const std::string good_offsets = R"("data_offsets":[0,8])";
    const Row rows[] = {
        {R"([])", "does not begin with {"},
        {R"({"a":3})", "3 cannot stand here"},
        {R"({"a":{"dtype":"F32","shape":[2])", "is not JSON"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}x)", "is not JSON"},
        {R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})",
         "f#/a/dtype: error: dtype \"F31\" is not known"},
        {R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "-2 cannot stand here"},
        {R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", "\"2.0\" cannot stand here"},
        {R"({"a":{"dtype":"F32","shape":[[2]],"data_offsets":[0,8]}})", "an array cannot stand here"},
        {R"({"a":{"dtype":"F32","shape":2,"data_offsets":[0,8]}})", "2 cannot stand here"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4,8]}})", "8 cannot stand here"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8]}})", "there are 1 offsets"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "bytes 8 to 0 are not within"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,9]}})", "bytes 0 to 9 are not within"},
        {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,99999999999999999999]}})", "cannot stand here"},
        {R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "ask for 12 bytes"},
        {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})",
         "does not fit 64 bits"},
        {R"({"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,8]}})", "cannot stand here"},
        {R"({"a":{"dtype":"F32","shape":[2]}})", "has no data_offsets"},
        {R"({"a":{"dtype":"F32","shape":[2],"more":1}})", "key \"more\" of a tensor is not known"},
        {R"({"a":{"dtype":"F32","dtype":"F32"}})", "key \"dtype\" appears twice"},
        {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
         "tensor \"a\" appears twice"},
        {R"({"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
         "overlaps"},
        {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
         "hole"},
        {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})",
         "5 bytes at the end belong to no tensor"},
        {R"({"__metadata__":{"a":1}})", "1 cannot stand here"},
        {R"({"__metadata__":{"a":"1","a":"2"}})", "appears twice"},
        {R"({"__metadata__":{},"__metadata__":{}})", "appears twice"},
        {R"({"a":null})", "null cannot stand here"},
    };
    for (const Row& row : rows) {
      CAPTURE(row.header);
      CHECK(first_fault(file_of(row.header, row.data)).find(row.want) != std::string::npos);
    }
  }

  TEST_CASE("formats/safetensors: lengths beyond the file and files of other kinds are refused") {
    CHECK(first_fault("abc").find("has 3 bytes") != std::string::npos);
    CHECK(first_fault(std::string(8, '\xff')).find("header should have 18446744073709551615") !=
          std::string::npos);
    std::string large = file_of(std::string(100'000'001, ' '), "");
    CHECK(first_fault(large).find("the format allows 100000000") != std::string::npos);
    CHECK(first_fault("PK\x03\x04 and more bytes").find("pickled PyTorch file") != std::string::npos);
    CHECK(first_fault("version https://git-lfs.github.com/spec/v1").find("git lfs pull") !=
          std::string::npos);
  }

  TEST_CASE("formats/safetensors: a file cut anywhere or with any bit flipped never reads past its end") {
    const std::string file = file_of(kTwoTensors, "01234567xyz");
    for (std::size_t length = 0; length < file.size(); ++length) {
      CHECK_FALSE(parse_safetensors(std::string_view(file).substr(0, length), "f").ok());
    }
    for (std::size_t bit = 0; bit < 8 * (file.size() - 11); ++bit) {
      std::string changed = file;
      changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
      const Result<SafetensorsContent> content = parse_safetensors(changed, "f");
      if (!content.ok()) continue;
      for (const StoredTensor& tensor : content->tensors) {
        CHECK(tensor.bytes.data() >= changed.data());
        CHECK(tensor.bytes.data() + tensor.bytes.size() <= changed.data() + changed.size());
      }
    }
  }

  TEST_CASE("formats/safetensors: what is written is read back from one file") {
    testing::TemporaryDirectory directory;
    const Written written = some_tensors();
    REQUIRE(write_safetensors(directory.file("x.safetensors"), written.tensors, written.source()).ok());
    const Result<Safetensors> read = Safetensors::open(directory.file("x.safetensors"));
    REQUIRE(read.ok());
    REQUIRE(read->tensors().size() == written.tensors.size());
    for (std::size_t i = 0; i < written.tensors.size(); ++i) {
      const StoredTensor* tensor = read->find(written.tensors[i].name);
      REQUIRE(tensor != nullptr);
      CHECK(tensor->dtype == written.tensors[i].dtype);
      CHECK(tensor->shape == written.tensors[i].shape);
      CHECK(tensor->bytes == written.bytes[i]);
      read->forget(*tensor);
      CHECK(tensor->bytes == written.bytes[i]);
    }
    CHECK(read->find("none") == nullptr);
    CHECK(read->metadata().at("format") == "pt");
  }

  TEST_CASE("formats/safetensors: ranges are read into place and a file that was cut short is a fault") {
    testing::TemporaryDirectory directory;
    const std::string path = directory.file("x.safetensors");
    const Written written = some_tensors();
    REQUIRE(write_safetensors(path, written.tensors, written.source()).ok());
    const Result<Safetensors> file = Safetensors::open(path);
    REQUIRE(file.ok());
    const StoredTensor& a = *file->find("a");
    std::string into(12, '\0');
    REQUIRE(file->read(a, 8, into.data(), into.size()).ok());
    CHECK(into == written.bytes[0].substr(8, 12));
    CHECK(file->read(a, 32, into.data(), 0).ok());

    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 20);
    const StoredTensor* const last = file->find("b");
    const bool b_is_last = last->bytes.data() > a.bytes.data();
    std::string bytes(b_is_last ? last->bytes.size() : a.bytes.size(), '\0');
    const Result<void> cut = file->read(b_is_last ? *last : a, 0, bytes.data(), bytes.size());
    REQUIRE_FALSE(cut.ok());
    CHECK(to_text(cut.faults()).find(path) != std::string::npos);
  }

  // What a rank that loads a model holds of it is the model, and not the file's pages beside it.
  TEST_CASE("formats/safetensors: reading into place leaves no page of the file in this process") {
    constexpr std::size_t kBytes = std::size_t{64} << 20;
    testing::TemporaryDirectory directory;
    const std::string path = directory.file("x.safetensors");
    const std::string zeros(kBytes, '\0');
    const std::vector<StoredTensor> tensors = {
        {.name = "w", .dtype = Dtype::f32, .shape = {static_cast<std::int64_t>(kBytes / 4)}, .bytes = {}}};
    REQUIRE(write_safetensors(path, tensors, [&](std::size_t) { return std::string_view(zeros); }).ok());
    const auto mapped_kib = [] {
      const auto status = read_whole("/proc/self/status", 1 << 16);
      REQUIRE(status.ok());
      return std::stol(status->substr(status->find("RssFile:") + 8));
    };
    const Result<Safetensors> file = Safetensors::open(path);
    REQUIRE(file.ok());
    std::string into(kBytes, '\1');
    const long before = mapped_kib();
    REQUIRE(file->read(*file->find("w"), 0, into.data(), kBytes).ok());
    CHECK(mapped_kib() - before < static_cast<long>(kBytes / 1024 / 20));
    CHECK(into == zeros);
  }

  TEST_CASE("formats/safetensors: a directory is sharded by size and replaces the one before it") {
    testing::TemporaryDirectory directory;
    const std::string model = directory.file("model");
    const Written written = some_tensors();
    const std::vector<SmallFile> config = {{"config.json", "{}\n"}};
    REQUIRE(write_safetensors_directory(model, written.tensors, written.source(), config).ok());
    CHECK(std::filesystem::exists(model + "/model.safetensors"));
    REQUIRE(
        write_safetensors_directory(model, written.tensors, written.source(), config, /*max_shard_bytes=*/7)
            .ok());
    CHECK_FALSE(std::filesystem::exists(model + "/model.safetensors"));
    CHECK(std::filesystem::exists(model + "/model-00002-of-00002.safetensors"));
    CHECK(*read_whole(model + "/config.json") == "{}\n");
    const Result<Safetensors> read = Safetensors::open(model);
    REQUIRE(read.ok());
    CHECK(read->paths().size() == 2);
    CHECK(read->find("a")->bytes == written.bytes[0]);
    CHECK(read->find("c")->bytes == written.bytes[2]);
    CHECK(std::distance(std::filesystem::directory_iterator(directory.path()), {}) == 1);
  }

  TEST_CASE("formats/safetensors: an index that disagrees with its shards is refused with every fault") {
    testing::TemporaryDirectory directory;
    const Written written = some_tensors();
    REQUIRE(write_safetensors(directory.file("s1.safetensors"), {written.tensors[0]}, written.source()).ok());
    const std::string index = directory.file("model.safetensors.index.json");
    const auto faults_of = [&](const std::string& text) {
      REQUIRE(write_whole(index, text).ok());
      const Result<Safetensors> read = Safetensors::open(directory.path());
      return read.ok() ? std::string() : to_text(read.faults());
    };
    CHECK(faults_of(R"({"weight_map":{"a":"s1.safetensors"}})").empty());
    CHECK(faults_of(R"({})").find("no map from tensors") != std::string::npos);
    CHECK(faults_of(R"({"weight_map":{"a":3}})").find("3 does not name a file") != std::string::npos);
    CHECK(faults_of(R"({"weight_map":{"a":"../s1.safetensors","b":"/etc/passwd"}})").find("#/weight_map/b") !=
          std::string::npos);
    CHECK(faults_of(R"({"weight_map":{"a":"none.safetensors"}})").find("No such file") != std::string::npos);
    const std::string both = faults_of(R"({"weight_map":{"x":"s1.safetensors"}})");
    CHECK(both.find("#/a: error: the index does not say") != std::string::npos);
    CHECK(both.find("tensor \"x\" is not in") != std::string::npos);
  }

  TEST_CASE("formats/safetensors: pickled weights and odd files are refused with advice") {
    testing::TemporaryDirectory directory;
    REQUIRE(write_whole(directory.file("pytorch_model.bin"), "PK\x03\x04").ok());
    const Result<Safetensors> pickled = Safetensors::open(directory.path());
    REQUIRE_FALSE(pickled.ok());
    CHECK(to_text(pickled.faults()).find("save_pretrained") != std::string::npos);
    REQUIRE(write_whole(directory.file("empty"), "").ok());
    CHECK_FALSE(Safetensors::open(directory.file("empty")).ok());
    REQUIRE(::mkfifo(directory.file("pipe").c_str(), 0600) == 0);
    CHECK_FALSE(Safetensors::open(directory.file("pipe")).ok());
    CHECK_FALSE(Safetensors::open(directory.file("none")).ok());
  }

  TEST_CASE("formats/safetensors: a directory that cannot be written leaves nothing") {
    const Written written = some_tensors();
    CHECK_FALSE(write_safetensors_directory("/proc/none/model", written.tensors, written.source(), {}).ok());
  }
}

}  // namespace
}  // namespace saturn::formats

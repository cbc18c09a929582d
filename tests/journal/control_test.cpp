// Requests as files: what is written is read back, and what is hostile is told of and gone.

#include "saturn/journal/control.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

#include "saturn/base/files.h"
#include "tests/support/temporary_directory.h"

namespace saturn::journal {
namespace {

using Verb = Request::Verb;

std::size_t num_files(const std::string& directory) {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory)) ++n;
  return n;
}

TEST_SUITE("journal") {
  TEST_CASE("journal/control: requests are read in the order they were posted until they are removed") {
    testing::TemporaryDirectory folder;
    const RunPaths paths(folder.file("run"));
    ControlBox box(paths);
    CHECK(box.look().empty());
    for (const Verb verb :
         {Verb::pause, Verb::resume, Verb::cancel, Verb::stop, Verb::add, Verb::drain, Verb::undrain}) {
      const Result<std::string> id = post(paths, {.verb = verb, .target = "a job"});
      REQUIRE(id.ok());
      const std::vector<Request> requests = box.look();
      REQUIRE(requests.size() == 1);
      CHECK(requests.front().verb == verb);
      CHECK(requests.front().target == "a job");
      CHECK(requests.front().id == *id);
      box.remove(requests.front());
    }
    REQUIRE(post(paths, {.verb = Verb::pause, .target = "first"}).ok());
    REQUIRE(post(paths, {.verb = Verb::resume, .target = "second"}).ok());
    const std::vector<Request> two = box.look();
    REQUIRE(two.size() == 2);
    CHECK(two[0].target == "first");
    CHECK(two[1].target == "second");
    CHECK(box.look().size() == 2);
    CHECK(box.take_warnings().empty());
    CHECK(num_files(paths.root()) == 1);
  }

  TEST_CASE("journal/control: what is put there is told of until it is looked at") {
    testing::TemporaryDirectory folder;
    const RunPaths paths(folder.file("run"));
    ControlBox box(paths);
    CHECK(box.look().empty());
    CHECK(box.fd() == -1);  // there is no directory yet
    CHECK_FALSE(box.has_news());
    for (int round = 0; round < 2; ++round) {  // the second time in a directory that was made anew
      CAPTURE(round);
      REQUIRE(make_directories(paths.control()).ok());
      CHECK(box.look().empty());
      REQUIRE(box.fd() >= 0);
      CHECK_FALSE(box.has_news());
      REQUIRE(post(paths, {.verb = Verb::stop}).ok());
      CHECK(box.has_news());
      const std::vector<Request> requests = box.look();
      REQUIRE(requests.size() == 1);
      CHECK_FALSE(box.has_news());
      box.remove(requests.front());
      CHECK_FALSE(box.has_news());
      std::filesystem::remove_all(paths.control());
      CHECK(box.has_news());
      CHECK(box.look().empty());
      CHECK(box.fd() == -1);
    }
  }

  TEST_CASE("journal/control: what is no request is told of once and removed and never shown (fault 15)") {
    testing::TemporaryDirectory folder;
    const RunPaths paths(folder.file("run"));
    const std::string control = paths.control();
    REQUIRE(make_directories(control).ok());
    REQUIRE(write_whole(folder.file("secret.json"),
                        "{\"format\":\"saturn.request/1\",\"verb\":\"stop\",\"target\":\"\"}")
                .ok());
    struct Row {
      std::string name;
      std::string content;
    };
    const std::string head = "{\"format\": \"saturn.request/1\", ";
    const std::vector<Row> rows = {
        {"torn.json", head + "\"verb\": \"st"},
        {"empty.json", ""},
        {"array.json", "[1]"},
        {"verb.json", head + "\"verb\": \"explode\", \"target\": \"\"}"},
        {"format.json", "{\"format\": \"saturn.request/9\", \"verb\": \"stop\", \"target\": \"\"}"},
        {"type.json", head + "\"verb\": 7, \"target\": {}}"},
        {"key.json", head + "\"verb\": \"stop\", \"target\": \"\", \"run\": \"rm -rf /\"}"},
        {"deep.json", std::string(5000, '[')},
        {"long.json", head + "\"verb\": \"stop\", \"target\": \"" + std::string(100000, 'x') + "\"}"},
        {"no-ending", head + "\"verb\": \"stop\", \"target\": \"\"}"},
        {"-rf \n\x1b[31m.json", "x"},
    };
    for (const Row& row : rows) REQUIRE(write_whole(control + "/" + row.name, row.content).ok());
    REQUIRE(::symlink(folder.file("secret.json").c_str(), (control + "/link.json").c_str()) == 0);
    REQUIRE(::mkfifo((control + "/pipe.json").c_str(), 0600) == 0);
    REQUIRE(::mkdir((control + "/directory.json").c_str(), 0700) == 0);
    REQUIRE(make_directories(control + "/full.json/inside").ok());

    ControlBox box(paths);
    CHECK(box.look().empty());
    const std::vector<std::string> warnings = box.take_warnings();
    CHECK(warnings.size() == rows.size() + 4);
    for (const std::string& warning : warnings) {
      CAPTURE(warning);
      CHECK(warning.starts_with("control/"));
      CHECK(warning.find('\n') == std::string::npos);
      CHECK(warning.find('\x1b') == std::string::npos);
      CHECK(warning.find("explode") == std::string::npos);
      CHECK(warning.size() < 300);
    }
    CHECK(num_files(control) == 1);  // a directory that is not empty stays and is told of once
    CHECK(box.look().empty());
    CHECK(box.take_warnings().empty());
    CHECK(std::filesystem::exists(folder.file("secret.json")));

    REQUIRE(post(paths, {.verb = Verb::stop}).ok());
    CHECK(box.look().size() == 1);
  }
}

}  // namespace
}  // namespace saturn::journal

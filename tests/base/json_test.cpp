#include "saturn/base/json.h"

#include <doctest/doctest.h>

#include "saturn/base/files.h"
#include "tests/support/temporary_directory.h"

namespace saturn {
namespace {

std::string first_fault(const Result<Json>& result) {
  REQUIRE_FALSE(result.ok());
  return to_text(result.faults().front());
}

TEST_SUITE("base") {
  TEST_CASE("base/json: keeps key order and round-trips numbers") {
    const std::string text = "{\n  \"z\": 0.1,\n  \"a\": [\n    1,\n    -2,\n    1e+300\n  ]\n}\n";
    const auto document = parse_json(text, "t.json");
    REQUIRE(document.ok());
    CHECK(to_text(*document) == text);
  }

  TEST_CASE("base/json: syntax faults stand at line and column") {
    CHECK(first_fault(parse_json("{\n  \"a\": tru }", "t.json")).starts_with("t.json:2:"));
    CHECK(first_fault(parse_json("", "t.json"))
              .starts_with("t.json:1:1: error: the JSON document ends too early"));
    CHECK(first_fault(parse_json("{} {}", "t.json")).starts_with("t.json:1:4"));
  }

  TEST_CASE("base/json: duplicates and depth and huge numbers are refused") {
    CHECK(first_fault(parse_json(R"({"a":1,"a":2})", "t")).find("appears twice") != std::string::npos);
    CHECK(first_fault(parse_json(std::string(100000, '['), "t")).find("nested deeper") != std::string::npos);
    CHECK_FALSE(parse_json("[1e999]", "t").ok());
    CHECK_FALSE(parse_json("[NaN]", "t").ok());
    CHECK_FALSE(parse_json("[1]", "t", {.bytes = 2}).ok());
  }

  TEST_CASE("base/json: the reader collects every fault with its pointer") {
    const Json document = Json::parse(R"({"name": 3, "count": 1.5, "inner": {"extra": 1}, "tecnique": "x"})");
    Diagnostics faults;
    JsonReader reader(document, "p.json", "", faults);
    CHECK(reader.string("name").empty());
    CHECK(reader.integer("count") == 0);
    CHECK(reader.string_or("technique", "single") == "single");
    JsonReader inner = reader.child("inner");
    CHECK(inner.number_or("seconds", 2.0) == 2.0);
    inner.finish();
    reader.finish();
    REQUIRE(faults.size() == 4);
    CHECK(faults[0].where == "p.json#/name");
    CHECK(faults[1].where == "p.json#/count");
    CHECK(faults[2].where == "p.json#/inner/extra");
    CHECK(faults[3].where == "p.json#/tecnique");
    CHECK(faults[3].fix == "did you mean \"technique\"?");
  }

  TEST_CASE("base/json: an artefact of another version is refused at its format") {
    testing::TemporaryDirectory directory;
    const std::string path = directory.file("plan.json");
    Json document = artefact_header("saturn.plan/9", {{"profile.json", "00"}});
    REQUIRE(write_artefact(path, document).ok());
    const auto read = read_artefact(path, "saturn.plan/1");
    REQUIRE_FALSE(read.ok());
    CHECK(read.faults().front().where == path + "#/format");
    CHECK(read_artefact(path, "saturn.plan/9").ok());
  }
}

}  // namespace
}  // namespace saturn

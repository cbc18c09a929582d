#include "batch/toml_document.h"

#include <doctest/doctest.h>

namespace saturn {
namespace {

using batch::parse_toml;
using batch::TomlValue;

std::string fault_of(const std::string& text) {
  const auto result = parse_toml(text, "t.toml");
  return result.ok() ? "" : to_text(result.faults().front());
}

// `count` copies of `piece`.
std::string repeated(const std::string& piece, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += piece;
  return text;
}

TEST_SUITE("batch") {
  TEST_CASE("batch/toml: values keep their place and spelling behind wide characters") {
    const auto root =
        parse_toml("# é\n[[job]]\nname = \"é\"\nx = { \"ö\" = 1e-3, b = [0x1F, +5] } # c\r\n", "t.toml");
    REQUIRE(root.ok());
    const TomlValue& job = root->find("job")->value.elements.at(0);
    CHECK(job.place == batch::Place{2, 1});
    const TomlValue& x = job.find("x")->value;
    CHECK(x.find("ö")->value.spelled == "1e-3");
    CHECK(x.find("ö")->value.number == 1e-3);
    CHECK(x.find("b")->key_place == batch::Place{4, 19});
    CHECK(x.find("b")->value.elements[0].spelled == "0x1F");
    CHECK(x.find("b")->value.elements[0].integer == 31);
    CHECK(x.find("b")->value.elements[1].spelled == "+5");
  }

  TEST_CASE("batch/toml: members keep the order of the file") {
    const auto root = parse_toml("z = 1\na = 2\n[m]\n[b]\n", "t.toml");
    REQUIRE(root.ok());
    std::string keys;
    for (const auto& member : root->members) keys += member.key;
    CHECK(keys == "zamb");
  }

  TEST_CASE("batch/toml: faults of syntax stand at line and column") {
    struct Row {
      std::string label;
      std::string text;
      std::string starts;
    };
    const std::vector<Row> rows = {
        {"duplicate key", "a = 1\na = 2\n", "t.toml:2:"},
        {"duplicate table", "[a]\n[b]\n[a]\n", "t.toml:3:"},
        {"ends early", "a = [1,\n", "t.toml:"},
        {"huge integer", "a = 99999999999999999999\n", "t.toml:1:"},
        {"huge number", "a = 1e999\n", "t.toml:1:"},
        {"NUL in a string", std::string("a = \"x\0\"\n", 10), "t.toml:1:"},
        {"not UTF-8", "a = \"\xff\"\n", "t.toml:1:"},
        {"no value", "a =\n", "t.toml:1:"},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      CAPTURE(fault_of(row.text));
      CHECK(fault_of(row.text).starts_with(row.starts));
      CHECK(fault_of(row.text).find("fix:") != std::string::npos);
    }
  }

  TEST_CASE("batch/toml: nesting is refused before it costs stack") {
    struct Row {
      std::string label;
      std::string text;
    };
    const std::vector<Row> rows = {
        {"arrays", "a = " + repeated("[", 100000)},
        {"tables", "a = " + repeated("{b=", 100000)},
        {"dots", "a" + repeated(".a", 100000) + " = 1"},
        {"a header", "[a" + repeated(".a", 100000) + "]"},
        {"dots with spaces", "a" + repeated(" . a", 100000) + " = 1"},
        {"quoted parts", "a" + repeated(".'a'", 100000) + " = 1"},
        {"arrays over lines", "a = " + repeated("[\n", 100000)},
        {"behind a string with quotes", "s = \"\\\"\"\nt = '''it''s'''\na = " + repeated("[", 100000)},
    };
    for (const Row& row : rows) {
      CAPTURE(row.label);
      CHECK(fault_of(row.text).find("nested deeper than 32 levels") != std::string::npos);
    }
  }

  TEST_CASE("batch/toml: brackets and dots within strings and comments are not nesting") {
    const std::string many = repeated("[.", 1000);
    CHECK(fault_of("a = \"" + many + "\"\nb = '" + many + "'\nc = \"\"\"\n" + many + "\n\"\"\"\nd = '''" +
                   many + "'''\n# " + many + "\n") == "");
  }

  TEST_CASE("batch/toml: half a million values on one line keep their spelling in linear time") {
    const auto root = parse_toml("a = [\"é\", " + repeated("1e-3, ", 500000) + "2e-3]\n", "t.toml");
    REQUIRE(root.ok());
    const TomlValue& list = root->find("a")->value;
    REQUIRE(list.elements.size() == 500002);
    CHECK(list.elements[250000].spelled == "1e-3");
    CHECK(list.elements.back().spelled == "2e-3");
  }

  TEST_CASE("batch/toml: a file beyond the limit is not parsed") {
    CHECK(fault_of(std::string((std::size_t{4} << 20) + 1, ' ')).find("too large") != std::string::npos);
  }
}

}  // namespace
}  // namespace saturn

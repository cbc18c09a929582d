// Columns, cuts and tables.

#include "saturn/view/text.h"

#include <doctest/doctest.h>

#include <cmath>

#include "saturn/base/random.h"
#include "saturn/view/axis.h"
#include "tests/view/lines.h"

namespace saturn::view {
namespace {

using testing::lines_of;

TEST_CASE("view/text: control characters and malformed bytes are replaced") {
  CHECK(printable("a\x1b[31mb\n\tc", true) == "a?[31mb??c");
  CHECK(printable("\xff\xc3(\xe2\x82", true) == "?\?(?\?");
  CHECK(printable("\xc0\xaf \xed\xa0\x80", true) == "?? ???");  // overlong form; surrogate
  CHECK(printable("größe", true) == "größe");
  CHECK(printable("größe", false) == "gr??e");
  CHECK(printable("right\xe2\x80\xaeleft", true) == "right?left");  // would turn the line around
}

TEST_CASE("view/text: wide characters take two columns and combining ones none") {
  CHECK(columns_of("abc") == 3);
  CHECK(columns_of("模型") == 4);
  CHECK(columns_of("e\u0301") == 1);
  CHECK(columns_of("├─┤") == 3);
}

TEST_CASE("view/text: names are cut in the middle") {
  CHECK(fitted("gpt2-1e-3-b16", 13, true) == "gpt2-1e-3-b16");
  CHECK(fitted("gpt2-1e-3-b16", 9, true) == "gpt2…-b16");
  CHECK(fitted("gpt2-1e-3-b16", 9, false) == "gpt2..b16");
  CHECK(fitted("gpt2-1e-3-b16", 2, true) == "gp");
  CHECK(fitted("gpt2", 0, true).empty());
  CHECK(columns_of(fitted("模型模型模型", 5, true)) <= 5);
}

TEST_CASE("view/text: text of any bytes is cut and wrapped to its columns") {
  Random random(7);
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (std::uint64_t i = random.below(60); i > 0; --i) {
      static const std::vector<std::string> kPieces = {"a",    " ",    "é", "模",      "\u0301",
                                                       "\xff", "\x1b", "-", "\xe2\x82"};
      text += kPieces[random.below(kPieces.size())];
    }
    const int columns = 2 + static_cast<int>(random.below(20));
    CAPTURE(text);
    CHECK(columns_of(fitted(text, columns, true)) <= columns);
    for (const std::string& line : wrapped(text, columns, true)) CHECK(columns_of(line) <= columns);
  }
}

TEST_CASE("view/text: text is wrapped at spaces and words that are too long are broken") {
  CHECK(wrapped("one two three", 7, true) == std::vector<std::string>{"one two", "three"});
  CHECK(wrapped("abcdefgh", 3, true) == std::vector<std::string>{"abc", "def", "gh"});
  CHECK(wrapped("", 5, true) == std::vector<std::string>{""});
}

TEST_CASE("view/text: a table shrinks and then drops columns until it fits") {
  Table table({{.title = "job", .shrinks = true},
               {.title = "steps", .align = Align::right, .drop_order = 1},
               {.title = "loss", .align = Align::right},
               {.title = "note"}});
  table.add({"gpt2-learning-rate-0.001-batch-16", "4000", "1.234", ""});
  table.add({"b", "20", "10.5", ""});
  CHECK(table.text({.width = 80}) ==
        "job                                steps   loss\n"
        "gpt2-learning-rate-0.001-batch-16   4000  1.234\n"
        "b                                     20   10.5\n");
  for (int width = kLeastWidth; width < 60; ++width) {
    for (const std::string& line : lines_of(table.text({.width = width}, 2)))
      CHECK(columns_of(line) <= width);
  }
  CHECK(table.text({.width = 22}).find("steps") == std::string::npos);
}

TEST_CASE("view/axis: ticks of time are round in the unit a reader would choose") {
  const auto labels = [](double end_s, int most) {
    std::string text;
    for (const Tick& tick : time_ticks(end_s, most)) text += (text.empty() ? "" : ", ") + tick.label;
    return text;
  };
  CHECK(labels(0.0, 6) == "0");
  CHECK(labels(0.9, 6) == "0, 0.2 s, 0.4 s, 0.6 s, 0.8 s");
  CHECK(labels(71.4, 7) == "0, 15 s, 30 s, 45 s, 60 s");
  CHECK(labels(600, 5) == "0, 5m, 10m");
  CHECK(labels(9000, 6) == "0, 30m, 1h, 1h 30m, 2h, 2h 30m");
  CHECK(labels(1763955, 6) == "0, 5d, 10d, 15d, 20d");
}

TEST_CASE("view/axis: there are never more ticks than asked for") {
  Random random(3);
  for (int round = 0; round < 300; ++round) {
    const double end = (0.001 + random.uniform()) * std::pow(10.0, static_cast<double>(random.below(10)));
    const int most = 2 + static_cast<int>(random.below(20));
    CAPTURE(end);
    CAPTURE(most);
    CHECK(time_ticks(end, most).size() <= static_cast<std::size_t>(most));
    CHECK(number_ticks(-end, end, most).size() <= static_cast<std::size_t>(most));
    CHECK(time_ticks(end, most).back().value <= end * 1.000001);
  }
}

}  // namespace
}  // namespace saturn::view

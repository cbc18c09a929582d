// Schedules as text: golden drawings at several widths, and what holds for any plan.

#include <doctest/doctest.h>

#include <set>

#include "saturn/view/gantt_text.h"
#include "saturn/view/text.h"
#include "tests/support/golden.h"
#include "tests/view/lines.h"
#include "tests/view/samples.h"

namespace saturn::view {
namespace {

using testing::lines_of;

TEST_CASE("view/gantt_text: a small plan is drawn at several widths") {
  const Schedule schedule = testing::small_schedule();
  for (const int width : {40, 80, 120}) {
    for (const bool unicode : {false, true}) {
      const std::string name = "view/small-" + std::to_string(width) + (unicode ? "-utf8.txt" : "-ascii.txt");
      testing::check_golden(name, schedule_text(schedule, {.width = width, .unicode = unicode}));
    }
  }
}

TEST_CASE("view/gantt_text: two nodes of eight devices are drawn") {
  Random random(5);
  const Schedule schedule =
      testing::random_schedule(random, {.num_nodes = 2, .devices_per_node = 8, .num_jobs = 12});
  testing::check_golden("view/two-nodes-100.txt", schedule_text(schedule, {.width = 100, .unicode = true}));
}

TEST_CASE("view/gantt_text: many devices become one row a node") {
  Random random(11);
  const Schedule schedule =
      testing::random_schedule(random, {.num_nodes = 8, .devices_per_node = 8, .num_jobs = 256});
  const Terminal terminal{.width = 80, .unicode = true};
  testing::check_golden("view/many-80.txt",
                        schedule_text(schedule, terminal, {.most_rows = 40, .most_legend = 10}));
  CHECK(lines_of(gantt_text(schedule, terminal, {.most_rows = 3})).size() <= 3 + 2 + 2);
}

TEST_CASE("view/gantt_text: colours change nothing but colours") {
  const Schedule schedule = testing::small_schedule();
  const std::string plain = gantt_text(schedule, {.width = 80, .unicode = true});
  std::string colored = gantt_text(schedule, {.width = 80, .unicode = true, .color = true});
  CHECK(colored != plain);
  for (std::size_t at; (at = colored.find('\x1b')) != std::string::npos;)
    colored.erase(at, colored.find('m', at) + 1 - at);
  for (std::size_t at; (at = colored.find(" \n")) != std::string::npos;) colored.erase(at, 1);
  CHECK(colored == plain);
}

TEST_CASE("view/gantt_text: no line of any plan is wider than the terminal and every job is shown") {
  Random random(1);
  for (int round = 0; round < 300; ++round) {
    const testing::Shape shape{.num_nodes = 1 + static_cast<int>(random.below(6)),
                               .devices_per_node = 1 + static_cast<int>(random.below(16)),
                               .num_jobs = 1 + static_cast<int>(random.below(round % 10 == 0 ? 300 : 30))};
    const Schedule schedule = testing::random_schedule(random, shape);
    const Terminal terminal{.width = kLeastWidth + static_cast<int>(random.below(160)),
                            .unicode = random.below(2) == 0};
    CAPTURE(round);
    CAPTURE(terminal.width);
    const GanttOptions options{.most_rows = 1 + random.below(64), .most_legend = 1000};
    const std::string text = schedule_text(schedule, terminal, options);
    for (const std::string& line : lines_of(text)) {
      CAPTURE(line);
      CHECK(columns_of(line) <= terminal.width);
    }
    std::set<std::string> shown;
    for (const std::string& line : lines_of(legend_text(schedule, terminal, options)))
      shown.insert(
          line.substr(0, line.find(' ', line.find_first_not_of(' '))).substr(line.find_first_not_of(' ')));
    for (const std::string& key : job_keys(schedule)) {
      CAPTURE(key);
      CHECK(shown.contains(key));
    }
  }
}

TEST_CASE("view/gantt_text: every bar of a row that has room for it is drawn") {
  Random random(2);
  for (int round = 0; round < 200; ++round) {
    const testing::Shape shape{.devices_per_node = 1 + static_cast<int>(random.below(4)),
                               .num_jobs = 1 + static_cast<int>(random.below(20))};
    const Schedule schedule = testing::random_schedule(random, shape);
    const std::string text = gantt_text(schedule, {.width = 60});
    CAPTURE(text);
    for (const std::string& key : job_keys(schedule)) {
      bool drawn = false;
      for (const std::string& line : lines_of(text)) {
        const std::size_t wall = line.find('|');
        if (wall == std::string::npos) continue;
        for (std::size_t at = wall + 1; at < line.size(); ++at) {
          const bool starts = line[at - 1] == '[' || line[at - 1] == '|' || line[at - 1] == ']' ||
                              line[at - 1] == ' ' ||
                              std::isalpha(static_cast<unsigned char>(line[at - 1])) != 0;
          drawn |= starts && line.substr(at, key.size()) == key;
        }
      }
      CAPTURE(key);
      CHECK(drawn);
    }
  }
}

TEST_CASE("view/gantt_text: a schedule without jobs or of no length has an axis and nothing else") {
  Schedule schedule;
  schedule.lanes = {{"local", 0}};
  CHECK(lines_of(gantt_text(schedule, {.width = 40})).size() == 3);
  schedule.jobs = {"instant"};
  schedule.bars = {{.job = 0, .technique = "single", .lanes = {0}}};
  CHECK(gantt_text(schedule, {.width = 40}).find('a') != std::string::npos);
}

TEST_CASE("view/gantt_text: names cannot leave their bar") {
  Schedule schedule = testing::small_schedule();
  schedule.jobs[0] = "evil\x1b[2J\nname";
  schedule.jobs[1] = "模型模型模型模型模型模型模型模型模型模型";
  for (int width = kLeastWidth; width < 120; ++width) {
    const std::string text = schedule_text(schedule, {.width = width, .unicode = true});
    CHECK(text.find('\x1b') == std::string::npos);
    for (const std::string& line : lines_of(text)) CHECK(columns_of(line) <= width);
  }
}

}  // namespace
}  // namespace saturn::view

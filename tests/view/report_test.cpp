// The page of a run: well-formed, self-contained, and safe against what names and files contain.

#include "saturn/view/report.h"

#include <doctest/doctest.h>

#include <cctype>
#include <cmath>

#include "saturn/base/files.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_directory.h"
#include "tests/view/samples.h"

namespace saturn::view {
namespace {

// Every element is closed in order, every attribute is quoted, every & begins an entity. HTML's void elements
// excepted.
std::string fault_of_markup(const std::string& text) {
  std::vector<std::string> open;
  for (std::size_t at = 0; at < text.size(); ++at) {
    if (text[at] == '&') {
      const std::size_t end = text.find(';', at);
      if (end == std::string::npos || end - at > 6) return "a bare & at " + text.substr(at, 20);
    }
    if (text[at] == '>') return "a bare > at " + text.substr(at, 20);
    if (text[at] != '<') continue;
    std::size_t end = at + 1;
    bool quoted = false;
    while (end < text.size() && (quoted || text[end] != '>')) {
      if (text[end] == '"') quoted = !quoted;
      if (text[end] == '<') return "a < in a tag at " + text.substr(at, 40);
      ++end;
    }
    const std::string tag = text.substr(at + 1, end - at - 1);
    at = end;
    const std::string name = tag.substr(0, tag.find_first_of(" /", 1));
    if (tag[0] == '!' || name == "meta" || tag.back() == '/') continue;
    if (tag[0] == '/') {
      if (open.empty() || "/" + open.back() != tag)
        return tag + " closes " + (open.empty() ? "nothing" : open.back());
      open.pop_back();
    } else {
      open.push_back(name);
      if (name == "style") at = text.find("</style>", at) - 1;
    }
  }
  return open.empty() ? "" : open.back() + " is not closed";
}

Report some_report() {
  Report report;
  report.summary = {.batch = "kjv-sweep",
                    .outcome = "done",
                    .makespan_s = 74.0,
                    .predicted_makespan_s = 71.4,
                    .best_job = "gpt2-1e-3-b8"};
  report.planned = testing::small_schedule();
  report.measured = testing::small_schedule();
  report.measured.certificate.reset();
  report.measured.bars[3].duration_s = 42.6;
  report.measured.bars[2].outcome = "failed";
  for (const std::string& job : report.measured.jobs) {
    report.summary.jobs.push_back({.name = job,
                                   .state = journal::JobState::done,
                                   .steps = 400,
                                   .num_steps = 400,
                                   .attempts = 1,
                                   .techniques = {"single x1"},
                                   .time_s = 31.0,
                                   .predicted_time_s = 30.0,
                                   .last_attempt_s = 31.0,
                                   .train_loss = 2.5,
                                   .validation = {{"loss", 2.6}, {"unigram_loss", 3.2}}});
    Metrics metrics;
    for (int step = 1; step <= 400; step += 10) metrics.train.push_back({step * 1.0, 2.5 + 3.0 / step});
    metrics.validation = {{200, 2.8}, {400, 2.6}};
    report.metrics.push_back(metrics);
  }
  return report;
}

TEST_CASE("view/report: the page is well-formed and holds what it should") {
  const std::string page = report_html(some_report());
  CHECK(fault_of_markup(page) == "");
  for (const char* part : {"kjv-sweep", "Schedule as planned", "Schedule as measured", "Train loss",
                           "Validation loss", "unigram", "-3.5 %", "gpt2-3e-4-b16", "bar failed"}) {
    CAPTURE(part);
    CHECK(page.find(part) != std::string::npos);
  }
}

TEST_CASE("view/report: the style of pictures does not reach the bars inside them") {
  const std::string page = report_html(some_report());
  CHECK(page.find("body > svg {") != std::string::npos);
  CHECK(page.find("\nsvg {") == std::string::npos);
}

TEST_CASE("view/report: the page loads nothing and runs nothing") {
  const std::string page = report_html(some_report());
  for (const char* part : {"<script", "<link", "<img", "http:", "https:", "src=", "href=", "@import", "url(",
                           " onclick=", " onload="}) {
    CAPTURE(part);
    CHECK(page.find(part) == std::string::npos);
  }
}

TEST_CASE("view/report: names and reasons cannot leave their place") {
  const std::string evil = "</title><script>alert(\"1\")</script>&'\x01\xff";
  Report report = some_report();
  report.summary.batch = evil;
  report.summary.best_job = evil;
  report.summary.jobs[0].name = evil;
  report.summary.jobs[1].reason = evil;
  report.summary.jobs[2].techniques = {evil};
  report.planned->jobs[0] = evil;
  report.measured.jobs[0] = evil;
  report.measured.bars[1].technique = evil;
  report.measured.lanes[0].node = evil;
  report.planned->certificate->baselines.emplace_back(evil, 100.0);
  report.plans = {{.file = evil, .reason = evil}, {.file = "plan.001.json"}};
  const std::string page = report_html(report);
  CHECK(fault_of_markup(page) == "");
  CHECK(page.find("<script") == std::string::npos);
  CHECK(page.find('\x01') == std::string::npos);
  CHECK(page.find('\xff') == std::string::npos);
}

TEST_CASE("view/report: a run that has not begun has a page") {
  CHECK(fault_of_markup(report_html({})) == "");
}

TEST_CASE("view/svg: random schedules are well-formed pictures with every job in them") {
  Random random(4);
  for (int round = 0; round < 50; ++round) {
    const Schedule schedule =
        testing::random_schedule(random, {.num_nodes = 1 + static_cast<int>(random.below(4)),
                                          .devices_per_node = 1 + static_cast<int>(random.below(12)),
                                          .num_jobs = static_cast<int>(random.below(40))});
    const std::string picture = gantt_svg(schedule);
    CHECK(fault_of_markup(picture) == "");
    for (const std::string& job : schedule.jobs)
      CHECK(picture.find("<title>" + job + "\n") != std::string::npos);
  }
}

TEST_CASE("view/svg: the picture of a small plan is exactly this") {
  testing::check_golden("view/small.svg", gantt_svg(testing::small_schedule()));
}

TEST_CASE("view/svg: curves leave out what is not finite") {
  const std::vector<Curve> curves = {
      {.name = "a", .points = {{0, 1}, {1, std::nan("")}, {2, 3}, {3, INFINITY}}}};
  const std::string picture = curves_svg(curves, {.x_title = "step", .y_title = "loss"});
  CHECK(fault_of_markup(picture) == "");
  CHECK(picture.find("nan") == std::string::npos);
  CHECK(picture.find("inf") == std::string::npos);
  CHECK(curves_svg({{.name = "none"}}, {}).empty());
  CHECK(fault_of_markup(curves_svg({{.name = "one", .points = {{5, 5}}}}, {.markers = true})) == "");
}

TEST_CASE("view/report: metrics are read as far as they are whole") {
  const testing::TemporaryDirectory directory;
  const std::string path = directory.file("metrics.jsonl");
  REQUIRE(write_whole(path,
                      "{\"step\": 1, \"loss\": 3.5}\n"
                      "not json\n"
                      "{\"step\": 2, \"validation_loss\": 3.25}\n"
                      "{\"step\": 3, \"loss\": null}\n"
                      "{\"step\": 4, \"loss\": 3.0}\n"
                      "{\"step\": 5, \"loss\": 1")
              .ok());
  const Result<Metrics> metrics = read_metrics(path);
  REQUIRE(metrics.ok());
  REQUIRE(metrics->train.size() == 2);
  CHECK(metrics->train[1].x == 4.0);
  CHECK(metrics->train[1].y == 3.0);
  REQUIRE(metrics->validation.size() == 1);
  CHECK(metrics->validation[0].y == 3.25);
  CHECK(read_metrics(directory.file("absent.jsonl"))->train.empty());
  CHECK_FALSE(read_metrics(directory.path()).ok());
}

TEST_CASE("view/report: many metrics are averaged to at most a thousand points") {
  const testing::TemporaryDirectory directory;
  const std::string path = directory.file("metrics.jsonl");
  std::string text;
  double sum = 0.0;
  for (int step = 1; step <= 12345; ++step) {
    text += "{\"step\":" + std::to_string(step) + ",\"loss\":" + std::to_string(step % 7) + "}\n";
    sum += step % 7;
  }
  REQUIRE(write_whole(path, text).ok());
  const Result<Metrics> metrics = read_metrics(path);
  REQUIRE(metrics.ok());
  const std::vector<Point>& points = metrics->train;
  CHECK(points.size() <= 1000);
  CHECK(points.size() >= 400);
  double mean = 0.0;
  for (std::size_t i = 0; i < points.size(); ++i) {
    if (i > 0) CHECK(points[i].x > points[i - 1].x);
    mean += points[i].y / static_cast<double>(points.size());
  }
  CHECK(mean == doctest::Approx(sum / 12345).epsilon(0.01));
  CHECK(points.front().x < 20);
  CHECK(points.back().x > 12300);
}

}  // namespace
}  // namespace saturn::view

// What counts as a change of plan.

#include "saturn/view/plan_diff.h"

#include <doctest/doctest.h>

#include "saturn/view/text.h"

namespace saturn::view {
namespace {

plan::Assignment on(const std::string& job, std::vector<int> devices, double start_s, double duration_s) {
  plan::Assignment assignment{.job = job,
                              .technique = devices.size() > 1 ? "ddp" : "single",
                              .node = "n0",
                              .num_ranks = static_cast<int>(devices.size()),
                              .start_s = start_s,
                              .duration_s = duration_s};
  for (const int device : devices) assignment.devices.push_back({"n0", device});
  return assignment;
}

plan::Plan of(std::vector<plan::Assignment> assignments) {
  plan::Plan plan;
  for (const plan::Assignment& assignment : assignments)
    plan.makespan_s = std::max(plan.makespan_s, assignment.end_s());
  plan.assignments = std::move(assignments);
  return plan;
}

TEST_CASE("view/plan_diff: each kind of change is told apart") {
  const plan::Plan before = of({on("same", {0}, 0, 10), on("wider", {1}, 0, 10), on("moved", {0}, 10, 5),
                                on("later", {1}, 10, 5), on("gone", {0}, 15, 1)});
  const plan::Plan after = of({on("same", {0}, 0, 10.0000001), on("new", {2}, 0, 1),
                               on("wider", {1, 2}, 1, 6), on("moved", {1}, 10, 5), on("later", {1}, 15, 5)});
  const std::vector<JobChange> all = changes(before, after);
  REQUIRE(all.size() == 5);
  CHECK(all[0].job == "wider");
  CHECK(all[0].change == Change::configuration);
  CHECK(all[1].job == "moved");
  CHECK(all[1].change == Change::devices);
  CHECK(all[2].job == "later");
  CHECK(all[2].change == Change::times);
  CHECK(all[3].job == "gone");
  CHECK(all[3].change == Change::removed);
  CHECK(all[4].job == "new");
  CHECK(all[4].change == Change::added);
  CHECK(changes(before, before).empty());

  const std::string text = changes_text(before, after, {.width = 120});
  CHECK(text.find("single x1 on n0:1 at 0.00 s for 10.0 s") != std::string::npos);
  CHECK(text.find("ddp x2 on n0:1-2 at 1.00 s for 6.00 s") != std::string::npos);
  CHECK(text.find("makespan 16.0 s, then 20.0 s (+25.0 %)") != std::string::npos);
  CHECK(changes_json(before, after)["changes"].size() == 5);
}

TEST_CASE("view/plan_diff: cutting a job into segments is a change of configuration") {
  plan::Assignment first = on("job", {0}, 0, 5);
  first.to_step = 50;
  plan::Assignment second = on("job", {0}, 5, 5);
  second.segment = 1;
  second.from_step = 50;
  second.to_step = 100;
  plan::Assignment whole = on("job", {0}, 0, 10);
  whole.to_step = 100;
  const std::vector<JobChange> all = changes(of({whole}), of({first, second}));
  REQUIRE(all.size() == 1);
  CHECK(all[0].change == Change::configuration);
  CHECK(all[0].right.size() == 2);
}

TEST_CASE("view/plan_diff: the order in which devices are listed is no change") {
  CHECK(changes(of({on("job", {0, 1}, 0, 5)}), of({on("job", {1, 0}, 0, 5)})).empty());
}

TEST_CASE("view/plan_diff: no line is wider than the terminal") {
  const plan::Plan before = of({on("a-job-with-a-rather-long-name-of-its-own", {0}, 0, 10)});
  const plan::Plan after = of({on("a-job-with-a-rather-long-name-of-its-own", {0, 1, 3, 5, 7}, 0, 10)});
  for (int width = kLeastWidth; width < 160; ++width) {
    const std::string text = changes_text(before, after, {.width = width});
    for (std::size_t from = 0; from < text.size(); from = text.find('\n', from) + 1)
      CHECK(columns_of(text.substr(from, text.find('\n', from) - from)) <= width);
  }
}

}  // namespace
}  // namespace saturn::view

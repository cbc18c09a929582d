// From plans and runs to schedules.

#include "saturn/view/schedule.h"

#include <doctest/doctest.h>

namespace saturn::view {
namespace {

TEST_CASE("view/schedule: a plan that spans nodes keeps its devices apart") {
  plan::Plan plan{.origin_s = 30.0, .makespan_s = 10.0};
  plan.assignments = {{.job = "wide",
                       .technique = "ddp",
                       .node = "n0",
                       .devices = {{"n0", 1}, {"n1", 0}},
                       .num_ranks = 2,
                       .duration_s = 10.0,
                       .to_step = 50}};
  const Schedule schedule = schedule_of(plan);
  REQUIRE(schedule.lanes.size() == 3);  // n0:0, n0:1, n1:0
  CHECK(schedule.bars[0].lanes == std::vector<std::size_t>{1, 2});
  CHECK(lanes_text(schedule, schedule.bars[0].lanes, false) == "n0:1 n1:0");
  CHECK(schedule.zero.find("30.0 s into the run") != std::string::npos);
  CHECK(schedule.bars[0].to_step == 50);
  CHECK_FALSE(single_node(schedule));
}

TEST_CASE("view/schedule: idle devices are known from the nodes") {
  plan::Plan plan;
  plan.assignments = {
      {.job = "a", .technique = "single", .node = "n0", .devices = {{"n0", 0}}, .duration_s = 1.0}};
  CHECK(schedule_of(plan).lanes.size() == 1);
  CHECK(
      schedule_of(plan, {{.name = "n0", .num_devices = 4}, {.name = "n1", .num_devices = 2}}).lanes.size() ==
      6);
}

TEST_CASE("view/schedule: an index from a file makes one lane and not millions") {
  plan::Plan plan;
  plan.assignments = {
      {.job = "a", .technique = "single", .node = "n0", .devices = {{"n0", 2000000000}}, .duration_s = 1.0}};
  const Schedule schedule = schedule_of(plan);
  REQUIRE(schedule.lanes.size() == 1);
  CHECK(lanes_text(schedule, schedule.bars[0].lanes, true) == "n0:2000000000");
}

TEST_CASE("view/schedule: attempts become bars and an open one reaches to now") {
  journal::RunState state;
  journal::JobRecord job{.name = "a"};
  job.attempts = {{.number = 1,
                   .technique = "ddp",
                   .num_ranks = 2,
                   .devices = {{"local", 0}, {"local", 1}},
                   .start_s = 1.0,
                   .end_s = 4.0,
                   .error_class = "out_of_memory"},
                  {.number = 2,
                   .technique = "single",
                   .num_ranks = 1,
                   .devices = {{"local", 1}},
                   .from_step = 10,
                   .start_s = 5.0,
                   .last_step = 20}};
  state.jobs = {job};
  const Schedule schedule = schedule_of(state, 9.0);
  REQUIRE(schedule.bars.size() == 2);
  CHECK(schedule.bars[0].outcome == "failed");
  CHECK(schedule.bars[0].duration_s == doctest::Approx(3.0));
  CHECK(schedule.bars[1].outcome == "running");
  CHECK(schedule.bars[1].duration_s == doctest::Approx(4.0));
  CHECK(schedule.bars[1].from_step == 10);
  CHECK(end_s(schedule) == doctest::Approx(9.0));
}

TEST_CASE("view/schedule: two schedules can be drawn under each other") {
  Schedule left;
  left.lanes = {{"n0", 0}};
  left.jobs = {"a", "b"};
  left.bars = {{.job = 1, .technique = "single", .lanes = {0}, .duration_s = 1.0}};
  Schedule right;
  right.lanes = {{"n1", 0}, {"n0", 0}, {"n0", 1}};
  right.jobs = {"b", "c"};
  right.bars = {{.job = 0, .technique = "single", .lanes = {2}, .duration_s = 1.0},
                {.job = 1, .technique = "single", .lanes = {0}, .duration_s = 1.0}};
  align(left, right);
  REQUIRE(left.lanes.size() == 3);
  REQUIRE(right.lanes.size() == 3);
  CHECK(left.jobs == std::vector<std::string>{"a", "b", "c"});
  CHECK(right.jobs == left.jobs);
  CHECK(left.jobs[left.bars[0].job] == "b");
  CHECK(lanes_text(left, left.bars[0].lanes, true) == "n0:0");
  CHECK(right.jobs[right.bars[1].job] == "c");
  CHECK(lanes_text(right, right.bars[0].lanes, true) == "n0:1");
  CHECK(lanes_text(right, right.bars[1].lanes, true) == "n1:0");
}

TEST_CASE("view/schedule: keys are letters for up to 52 jobs and numbers beyond") {
  Schedule schedule;
  for (int j = 0; j < 52; ++j) schedule.jobs.push_back("job" + std::to_string(j));
  CHECK(job_keys(schedule).front() == "a");
  CHECK(job_keys(schedule).back() == "Z");
  schedule.jobs.push_back("one more");
  CHECK(job_keys(schedule).front() == "1");
  CHECK(job_keys(schedule).back() == "53");
}

TEST_CASE("view/schedule: fewer ranks than devices are said") {
  CHECK(configuration_text({.technique = "single", .num_ranks = 1, .lanes = {0, 1}}) == "single x2 (1 rank)");
  CHECK(configuration_text({.technique = "ddp", .num_ranks = 2, .lanes = {0, 1, 2, 3}}) ==
        "ddp x4 (2 ranks)");
  CHECK(configuration_text({.technique = "ddp", .num_ranks = 2, .lanes = {0, 1}}) == "ddp x2");
  CHECK(configuration_text({.technique = "ddp", .lanes = {0, 1}}) == "ddp x2");
}

}  // namespace
}  // namespace saturn::view

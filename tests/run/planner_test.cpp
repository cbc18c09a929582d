// Planning in a child: the same plan as in place, and no trace of a child that died or was cancelled.

#include "saturn/run/planner.h"

#include <doctest/doctest.h>
#include <poll.h>
#include <sys/wait.h>

#include <cerrno>

namespace saturn::run {
namespace {

plan::PlanProblem two_jobs() {
  plan::PlanProblem problem{.name = "paper",
                            .nodes = {{.name = "n", .device_class = "cpu", .num_devices = 2}}};
  for (const char* const name : {"a", "b"}) {
    problem.jobs.push_back(
        {.name = name,
         .configurations = {{.technique = "single", .device_class = "cpu", .time_s = 10.0, .trial = "t1"},
                            {.technique = "ddp",
                             .num_devices = 2,
                             .num_ranks = 2,
                             .device_class = "cpu",
                             .time_s = 7.0,
                             .trial = "t2"}}});
  }
  return problem;
}

Result<plan::Plan> wait_for(Planner& planner) {
  for (int i = 0; i < 1000; ++i) {
    if (auto taken = planner.take()) return *std::move(taken);
    pollfd entry{.fd = planner.fd(), .events = POLLIN, .revents = 0};
    ::poll(&entry, 1, 50);
  }
  return Diagnostic{.what = "no plan came"};
}

TEST_SUITE("run") {
  TEST_CASE("run/planner: a plan from the child is the plan made in place") {
    const std::unique_ptr<Planner> child = make_child_planner();
    const std::unique_ptr<Planner> in_place = make_inline_planner();
    const plan::SolveOptions options{.time_limit_s = 20.0, .iterations = 1000, .num_threads = 1};
    REQUIRE(child->start(two_jobs(), options).ok());
    CHECK(child->busy());
    REQUIRE(in_place->start(two_jobs(), options).ok());
    Result<plan::Plan> from_child = wait_for(*child);
    std::optional<Result<plan::Plan>> direct = in_place->take();
    REQUIRE(from_child.ok());
    REQUIRE(direct.has_value());
    REQUIRE(direct->ok());
    CHECK(from_child->makespan_s == doctest::Approx(10.0));
    from_child->solver = (*direct)->solver;  // wall time differs
    CHECK(to_text(plan::to_json(*from_child, {})) == to_text(plan::to_json(**direct, {})));
    CHECK_FALSE(child->busy());
    CHECK_FALSE(in_place->busy());
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
    CHECK(errno == ECHILD);
  }

  TEST_CASE("run/planner: the faults of a problem without a plan come back as they are") {
    plan::PlanProblem problem = two_jobs();
    for (plan::Configuration& configuration : problem.jobs[1].configurations)
      configuration.num_devices = configuration.num_ranks = 3;
    const std::unique_ptr<Planner> child = make_child_planner();
    REQUIRE(child->start(problem, {.time_limit_s = 5.0}).ok());
    const Result<plan::Plan> plan = wait_for(*child);
    REQUIRE_FALSE(plan.ok());
    CHECK(plan.faults().front().kind == Kind::infeasible);
    CHECK(plan.faults().front().what.find("\"b\"") != std::string::npos);
  }

  TEST_CASE("run/planner: a cancelled child is gone and the next problem is planned") {
    const std::unique_ptr<Planner> child = make_child_planner();
    REQUIRE(child->start(two_jobs(), {.time_limit_s = 60.0}).ok());
    child->cancel();
    CHECK_FALSE(child->busy());
    CHECK_FALSE(child->take().has_value());
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
    REQUIRE(child->start(two_jobs(), {.time_limit_s = 20.0, .iterations = 100, .num_threads = 1}).ok());
    CHECK(wait_for(*child).ok());
  }
}

}  // namespace
}  // namespace saturn::run

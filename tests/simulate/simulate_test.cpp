// Simulation: repeatable, right where estimates are, and a witness that introspection pays without doing
// harm.

#include "saturn/simulate/simulate.h"

#include <doctest/doctest.h>

#include <cmath>

#include "saturn/plan/solve.h"

namespace saturn::simulate {
namespace {

// Jobs of one to two hours on one device, near linear up to the whole node.
plan::PlanProblem hours(int num_jobs, int num_devices) {
  plan::PlanProblem problem{.name = "paper",
                            .nodes = {{.name = "n0", .device_class = "a", .num_devices = num_devices}}};
  for (int j = 0; j < num_jobs; ++j) {
    plan::Job job{.name = "job-" + std::to_string(j)};
    for (int width = 1; width <= num_devices; width *= 2) {
      job.configurations.push_back({.technique = width == 1 ? "single" : "ddp",
                                    .num_devices = width,
                                    .num_ranks = width,
                                    .device_class = "a",
                                    .time_s = 3600.0 * (1.0 + 0.1 * j) / std::pow(width, 0.85)});
    }
    problem.jobs.push_back(std::move(job));
  }
  return problem;
}

constexpr bool kOnce = false;
constexpr bool kIntrospects = true;

Settings quick(const Truth& truth = {}) {
  return {.introspect_every_s = 300.0, .truth = truth, .first_iterations = 2000, .iterations = 500};
}

Simulation prepared(const plan::PlanProblem& problem, const Settings& settings) {
  Result<Simulation> simulation = Simulation::prepare(problem, settings);
  REQUIRE(simulation.ok());
  return *std::move(simulation);
}

Outcome played(const Simulation& simulation, bool introspects, std::uint64_t seed = 1) {
  const Result<Outcome> outcome = simulation.run(introspects, seed);
  REQUIRE(outcome.ok());
  return *outcome;
}

TEST_SUITE("simulate") {
  TEST_CASE("simulate/simulate: estimates that are right come true and a look can only better the plan") {
    const Simulation simulation = prepared(hours(5, 4), quick());
    const Outcome once = played(simulation, kOnce);
    CHECK(once.planned_s == simulation.first_plan().makespan_s);
    CHECK(once.makespan_s == doctest::Approx(once.planned_s).epsilon(0.001));
    CHECK(once.num_moves == 0);
    CHECK(once.num_looks == 0);
    CHECK(once.num_failures == 0);
    const Outcome dynamic = played(simulation, kIntrospects);
    CHECK(dynamic.planned_s == once.planned_s);
    CHECK(dynamic.makespan_s <= 1.001 * once.makespan_s);
  }

  TEST_CASE("simulate/simulate: one seed is one outcome and another seed another truth") {
    const Settings settings =
        quick({.job_error = 0.3, .configuration_error = 0.05, .step_noise = 0.05, .drift = 0.1});
    const plan::PlanProblem problem = hours(4, 2);
    const Simulation first = prepared(problem, settings);
    const Outcome once = played(first, kIntrospects, 7);
    const Outcome twice = played(prepared(problem, settings), kIntrospects, 7);
    CHECK(once.makespan_s == twice.makespan_s);
    CHECK(once.planned_s == twice.planned_s);
    CHECK(played(first, kIntrospects, 8).makespan_s != once.makespan_s);
  }

  TEST_CASE("simulate/runs: several processes play what one does and progress reaches the number of runs") {
    const Simulation simulation = prepared(hours(4, 2), quick({.job_error = 0.3, .step_noise = 0.05}));
    constexpr int kRuns = 7;
    const Result<std::vector<Outcome>> alone = simulation.runs(kIntrospects, kRuns);
    int told = 0;
    const Result<std::vector<Outcome>> shared =
        simulation.runs(kIntrospects, kRuns, /*num_processes=*/3, [&](int done) { told = done; });
    REQUIRE(alone.ok());
    REQUIRE(shared.ok());
    REQUIRE(shared->size() == kRuns);
    CHECK(told == kRuns);
    for (std::size_t i = 0; i < kRuns; ++i) {
      CHECK((*shared)[i].makespan_s == (*alone)[i].makespan_s);
      CHECK((*shared)[i].planned_s == (*alone)[i].planned_s);
      CHECK((*shared)[i].num_moves == (*alone)[i].num_moves);
      CHECK((*shared)[i].num_looks == (*alone)[i].num_looks);
    }
    CHECK((*alone)[2].makespan_s == played(simulation, kIntrospects, 3).makespan_s);
  }

  TEST_CASE(
      "simulate/simulate: introspection gains where estimates are off and harms little where it cannot") {
    const Simulation simulation =
        prepared(hours(6, 4), quick({.job_error = 0.3, .configuration_error = 0.05, .step_noise = 0.03}));
    constexpr int kRuns = 24;
    const Result<std::vector<Outcome>> with = simulation.runs(kIntrospects, kRuns);
    const Result<std::vector<Outcome>> without = simulation.runs(kOnce, kRuns);
    REQUIRE(with.ok());
    REQUIRE(without.ok());
    double gain = 0.0;
    double worst = 0.0;
    for (std::size_t i = 0; i < kRuns; ++i) {
      const double ratio = (*with)[i].makespan_s / (*without)[i].makespan_s;
      gain += (1.0 - ratio) / kRuns;
      worst = std::max(worst, ratio - 1.0);
    }
    CHECK(gain >= 0.05);
    CHECK(worst <= 0.05);
  }

  TEST_CASE("simulate/simulate: failures cost time and end no job") {
    const plan::PlanProblem problem = hours(3, 2);
    const Outcome whole = played(prepared(problem, quick()), kOnce);
    const Outcome failing = played(prepared(problem, quick({.failures_per_day = 20.0})), kOnce);
    CHECK(failing.num_failures > 0);
    CHECK(failing.makespan_s > whole.makespan_s);
  }

  TEST_CASE("simulate/devices: nodes and classes are named and what does not fit is refused") {
    const plan::PlanProblem problem = hours(2, 4);
    const Result<plan::PlanProblem> more = on_devices(problem, "2x4");
    REQUIRE(more.ok());
    CHECK(more->nodes.size() == 2);
    CHECK(plan::validate(*more).empty());
    const Result<plan::PlanProblem> faster = with_class(problem, "b:2");
    REQUIRE(faster.ok());
    const Result<plan::PlanProblem> mixed = on_devices(*faster, "1x2:b+1x4");
    REQUIRE(mixed.ok());
    CHECK(mixed->nodes[0].device_class == "b");
    CHECK(mixed->nodes[1].device_class == "a");
    CHECK(plan::validate(*mixed).empty());
    double fastest_s = 1e9;
    for (const plan::Configuration& one : mixed->jobs[0].configurations) {
      if (one.device_class == "b" && one.num_devices == 1) fastest_s = one.time_s;
    }
    CHECK(fastest_s == doctest::Approx(1800.0));
    for (const char* const text :
         {"", "x", "2x", "0x4", "4", "1x99999999", "2x4+", "1x1:nowhere", "-1x4", "1.5x2"}) {
      CAPTURE(text);
      CHECK_FALSE(on_devices(problem, text).ok());
    }
    for (const char* const text :
         {"", "h100", ":2", "b:", "b:0", "b:-1", "b:nan", "b:inf", "b:2x", "b:2:3", "b+c:2", "a:2"}) {
      CAPTURE(text);
      CHECK_FALSE(with_class(problem, text).ok());
    }
  }

  TEST_CASE("simulate/distribution: has a mean and quantiles") {
    const Distribution sample({3.0, 1.0, 2.0});
    CHECK(sample.mean() == doctest::Approx(2.0));
    CHECK(sample.at(0.0) == 1.0);
    CHECK(sample.at(0.5) == 2.0);
    CHECK(sample.at(1.0) == 3.0);
  }
}

}  // namespace
}  // namespace saturn::simulate

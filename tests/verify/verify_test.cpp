// Verifications of paper jobs: what is compared with what, each outcome, and when the whole fails.

#include "saturn/verify/verify.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>

#include "tests/support/scripted_run.h"
#include "tests/verify/checkpoints.h"

namespace saturn::verify {
namespace {

using profile::Outcome;
using worker::ErrorClass;
using worker::Mode;
using worker::ScriptedFault;
using worker::ScriptRow;

// Leaves the checkpoints that ranks would, with weights that a test may spoil.
struct Writer final : Observer {
  void on_begin(int count) override { num_configurations = count; }
  void on_started(const std::string& job, const batch::Configuration& configuration,
                  const std::string& directory) override {
    trained.push_back(job + " " + batch::to_text(configuration));
    directories.push_back(directory);
    const auto write = [&](int step, float value) {
      testing::write_checkpoint(directory + "/checkpoints/" + checkpoint::name_of_step(step),
                                {{"w", "weight", 2, {value, value, value, value}}});
    };
    write(0, 0.0F);
    write(3, configuration.technique == spoilt ? 1.0F + by : 1.0F);
  }
  void on_step(int, int) override {}
  void on_ended(const std::string&, const Compared&, const Tolerance&) override {}
  void on_tick(double) override {}

  std::string spoilt;
  float by = 0.0F;
  int num_configurations = 0;
  std::vector<std::string> trained;
  std::vector<std::string> directories;
};

struct Bench {
  Result<Report> verify(std::vector<ScriptRow> table) {
    table.push_back(
        {.script = {.loss_of = [](std::int64_t step) { return 4.0 - 0.5 * static_cast<double>(step); }}});
    Result<batch::Batch> read = batch::read_batch(paper.batch_path());
    REQUIRE(read.ok());
    batch = *std::move(read);
    launcher = std::make_unique<worker::ScriptedLauncher>(paper.clock(), std::move(table));
    return verify::verify({.batch = &batch,
                           .machine = &paper.machine,
                           .num_steps = 3,
                           .directory = paper.root() + "/verify",
                           .stop = stop},
                          *launcher, paper.clock(), writer);
  }

  testing::ScriptedRun paper;
  batch::Batch batch;
  Writer writer;
  std::function<bool()> stop;
  std::unique_ptr<worker::ScriptedLauncher> launcher;
};

ScriptRow failing(ErrorClass error_class, const std::string& message) {
  ScriptedFault fault;
  fault.error_class = error_class;
  fault.message = message;
  return {.technique = "ddp", .script = {.fault = fault}};
}

TEST_SUITE("verify") {
  TEST_CASE("verify/verify: jobs of one kind are trained once under every configuration and agree") {
    Bench bench;
    const Result<Report> report = bench.verify({});
    REQUIRE(report.ok());
    CHECK(report->passed());
    REQUIRE(report->jobs.size() == 1);
    CHECK(report->jobs[0].jobs == std::vector<std::string>{"a", "b", "c"});
    CHECK(report->jobs[0].reference == "single x1");
    CHECK(report->jobs[0].warnings.empty());
    // Of one width three settings of single; of two these and six of ddp.
    CHECK(bench.writer.trained.size() == 12);
    CHECK(bench.writer.num_configurations == 12);
    CHECK(bench.writer.trained.front() == "a single x1");
    for (const char* way :
         {"a single x2", "a ddp x2", "a ddp x2 (shard_optimizer true)", "a ddp x2 (checkpointing full)"})
      CHECK(std::count(bench.writer.trained.begin(), bench.writer.trained.end(), way) == 1);
    for (const worker::LaunchRequest& launch : bench.launcher->launched()) {
      CHECK(launch.ranks.front().mode == Mode::verify);
      CHECK(launch.ranks.front().trial_steps == 3);
    }
    CHECK_FALSE(std::filesystem::exists(bench.paper.root() + "/verify"));
    const Json json = to_json(*report);
    CHECK(json["jobs"][0]["configurations"].back()["technique"] == "ddp");
    CHECK(json["jobs"][0]["configurations"].back()["outcome"] == "ok");
    CHECK(json["jobs"][0]["configurations"].back()["loss_difference"] == 0.0);
    CHECK(json["jobs"][0]["configurations"].back()["update_difference"] == 0.0);
  }

  TEST_CASE("verify/verify: an update or a loss over its tolerance fails the whole") {
    Bench bench;
    bench.writer.spoilt = "ddp";
    bench.writer.by = 0.5e-3F;
    CHECK(bench.verify({})->passed());
    bench.writer.by = 2e-3F;
    const Result<Report> report = bench.verify({});
    REQUIRE(report.ok());
    CHECK_FALSE(report->passed());
    const Compared& ddp = report->jobs[0].configurations.back();
    CHECK(ddp.outcome == Outcome::ok);
    CHECK(ddp.differences.update == doctest::Approx(2e-3));
    CHECK(report->jobs[0].configurations[1].within);

    Bench drifting;
    const auto off = [](double by) {
      return ScriptRow{.technique = "ddp", .script = {.loss_of = [by](std::int64_t step) {
                                             return (4.0 - 0.5 * static_cast<double>(step)) * (1.0 + by);
                                           }}};
    };
    CHECK(drifting.verify({off(0.5e-5)})->passed());
    CHECK_FALSE(drifting.verify({off(2e-5)})->passed());
    CHECK_FALSE(drifting.verify({off(std::numeric_limits<double>::quiet_NaN())})->passed());
  }

  TEST_CASE("verify/verify: what does not fit is shown and what fails is a failure") {
    struct Row {
      ScriptRow row;
      Outcome want;
      bool passes;
    };
    ScriptRow death{.technique = "ddp"};
    death.script.fault = ScriptedFault{.kind = ScriptedFault::Kind::death, .rank = 1, .signal = 11};
    ScriptRow hang{.technique = "ddp"};
    hang.script.fault = ScriptedFault{.kind = ScriptedFault::Kind::hang};
    const std::vector<Row> rows = {
        {failing(ErrorClass::out_of_memory, "needs 9 GiB"), Outcome::out_of_memory, true},
        {failing(ErrorClass::unsupported, "needs heads"), Outcome::unsupported, true},
        {failing(ErrorClass::internal, "a fault"), Outcome::failed, false},
        {death, Outcome::failed, false},
        {hang, Outcome::failed, false},
    };
    for (const Row& row : rows) {
      Bench bench;
      const Result<Report> report = bench.verify({row.row});
      REQUIRE(report.ok());
      const Compared& ddp = report->jobs[0].configurations.back();
      CAPTURE(ddp.reason);
      CHECK(ddp.outcome == row.want);
      CHECK_FALSE(ddp.reason.empty());
      CHECK(report->passed() == row.passes);
      CHECK(bench.launcher->num_living() == 0);
      CHECK(to_json(*report)["jobs"][0]["configurations"].back()["update_difference"].is_null());
      CHECK(std::filesystem::exists(bench.writer.directories.back()) == !row.passes);  // the log of a failure
    }
  }

  TEST_CASE("verify/verify: a loss that hardly moves and a reference that is not single are warned of") {
    Bench still;
    const Result<Report> report = still.verify({{.script = {.loss_of = [](std::int64_t) { return 4.0; }}}});
    REQUIRE(report.ok());
    CHECK(report->passed());
    REQUIRE(report->jobs[0].warnings.size() == 1);
    CHECK(report->jobs[0].warnings[0] ==
          "the loss moved by 0 in 3 steps, which proves little: try --steps 12");

    Bench other;
    ScriptRow no_single = failing(ErrorClass::out_of_memory, "needs 9 GiB");
    no_single.technique = "single";
    const Result<Report> without = other.verify({no_single});
    REQUIRE(without.ok());
    CHECK(without->jobs[0].reference == "ddp x2");
    CHECK(without->jobs[0].warnings.size() == 1);
  }

  TEST_CASE("verify/verify: an interruption ends what runs and leaves nothing") {
    Bench bench;
    bench.stop = [&] { return bench.writer.trained.size() == 2; };
    const Result<Report> report = bench.verify({});
    REQUIRE_FALSE(report.ok());
    CHECK(report.faults().front().kind == Kind::interrupted);
    CHECK(bench.launcher->num_living() == 0);
    CHECK_FALSE(std::filesystem::exists(bench.paper.root() + "/verify"));
  }
}

}  // namespace
}  // namespace saturn::verify

#include <doctest/doctest.h>

#include "saturn/base/random.h"
#include "saturn/plan/check.h"
#include "saturn/plan/solve.h"
#include "tests/plan/problems.h"

namespace saturn::plan {
namespace {

Result<PlanProblem> read(const std::string& text) {
  SATURN_TRY(const Json document, parse_json(text, "t.json"));
  return table_from_json(document, "t.json");
}

constexpr const char* kGood =
    R"({"nodes":[{"name":"n0","devices":2,"class":"a"}],)"
    R"("jobs":[{"name":"j","configs":[{"technique":"ddp","devices":2,"class":"a","seconds":5}]}]})";

TEST_SUITE("plan") {
  TEST_CASE("plan/table: a bare table becomes a problem") {
    const auto problem = read(kGood);
    REQUIRE(problem.ok());
    CHECK(problem->nodes.front().num_devices == 2);
    CHECK(problem->jobs.front().configurations.front().time_s == 5.0);
    CHECK(problem->jobs.front().configurations.front().num_ranks == 2);
  }

  TEST_CASE("plan/table: thousands of damaged tables are refused or planned") {
    const std::string good =
        R"({"nodes":[{"name":"n0","devices":2,"class":"a","shares_per_gpu":1,"host_memory_bytes":9},)"
        R"({"name":"n1","devices":4,"class":"b","outages":[{"devices":[0],"from_s":1,"to_s":3}]}],)"
        R"("jobs":[{"name":"j","configs":[{"technique":"ddp","devices":2,"class":"a","seconds":5}]},)"
        R"({"name":"k","after":["j"],"release_s":2,"priority":3,"deadline_s":90,"configs":)"
        R"([{"technique":"fsdp","devices":1,"class":"b","seconds":7,"start_cost_s":1}]}]})";
    REQUIRE(read(good).ok());
    const std::string pieces = "{}[],:\"0123456789-+.eE \\ntfjkab";
    int planned = 0;
    for (std::uint64_t seed = 0; seed < 6000; ++seed) {
      CAPTURE(seed);
      Random random(seed);
      std::string text = good;
      for (std::uint64_t change = 0; change <= random.below(3); ++change) {
        const std::size_t at = random.below(text.size());
        switch (random.below(3)) {
          case 0:
            text[at] = pieces[random.below(pieces.size())];
            break;
          case 1:
            text.erase(at, 1 + random.below(4));
            break;
          default:
            text.insert(at, 1, pieces[random.below(pieces.size())]);
        }
      }
      const auto problem = read(text);
      if (!problem.ok()) {
        REQUIRE(problem.faults().front().where.rfind("t.json", 0) == 0);
        continue;
      }
      SolveOptions options;
      options.iterations = 50;
      options.num_threads = 1;
      const auto plan = solve(*problem, options);
      if (plan.ok()) {
        REQUIRE(check(*problem, *plan).empty());
        ++planned;
      } else {
        REQUIRE(plan.faults().front().kind == Kind::infeasible);
      }
    }
    CHECK(planned > 100);
  }

  TEST_CASE("plan/table: every fault is at its pointer") {
    struct Row {
      std::string from;
      std::string to;
      std::string where;
      Kind kind = Kind::input;
    };
    const std::vector<Row> rows = {
        {"\"seconds\":5", "\"seconds\":-5", "t.json#/jobs/0/configs/0/seconds"},
        {"\"seconds\":5", "\"seconds\":\"5\"", "t.json#/jobs/0/configs/0/seconds"},
        {"\"seconds\":5", "\"seconds\":1e300", "t.json#/jobs/0/configs/0/seconds"},
        {"\"seconds\":5", "\"seconds\":5,\"colour\":1", "t.json#/jobs/0/configs/0/colour"},
        {"\"devices\":2,\"class\":\"a\"}", "\"devices\":0,\"class\":\"a\"}", "t.json#/nodes/0/devices"},
        {"\"devices\":2,\"class\":\"a\",\"s", "\"devices\":0,\"class\":\"a\",\"s",
         "t.json#/jobs/0/configs/0/devices"},
        {"\"devices\":2,\"class\":\"a\",\"s", "\"devices\":3,\"class\":\"a\",\"s", "t.json#/jobs/0",
         Kind::infeasible},
        {"\"class\":\"a\",\"s", "\"class\":\"b\",\"s", "t.json#/jobs/0", Kind::infeasible},
        {"\"name\":\"j\"", "\"name\":\"\"", "t.json#/jobs/0/name"},
        {"\"name\":\"j\"", "\"name\":\"j\",\"after\":[\"k\"]", "t.json#/jobs/0/after/0"},
        {"\"name\":\"j\"", "\"name\":\"j\",\"after\":[\"j\"]", "t.json#/jobs/0/after"},
        {"[{\"technique\":\"ddp\",\"devices\":2,\"class\":\"a\",\"seconds\":5}]", "[]",
         "t.json#/jobs/0/configs", Kind::infeasible},
        {"\"nodes\":[{", "\"nodes\":[{\"name\":\"n0\",\"devices\":1,\"class\":\"a\"},{",
         "t.json#/nodes/1/name"},
    };
    for (const Row& row : rows) {
      CAPTURE(row.to);
      std::string text = kGood;
      const std::size_t at = text.find(row.from);
      REQUIRE(at != std::string::npos);
      text.replace(at, row.from.size(), row.to);
      const auto problem = read(text);
      REQUIRE_FALSE(problem.ok());
      CHECK(problem.faults().front().where == row.where);
      CHECK(problem.faults().front().kind == row.kind);
    }
  }

  TEST_CASE("plan/table: several faults are reported together") {
    const auto problem = read(R"({"nodes":[{"name":1,"devices":"x","class":"a"}],"jobs":{}})");
    REQUIRE_FALSE(problem.ok());
    CHECK(problem.faults().size() == 3);
  }

  TEST_CASE("plan/table: mutated tables never crash and never pass as something else") {
    Random random(5);
    const std::string alphabet = "{}[]\",:0123456789-.eanull";
    for (int round = 0; round < 4000; ++round) {
      std::string text = kGood;
      const int edits = 1 + static_cast<int>(random.below(3));
      for (int e = 0; e < edits; ++e) {
        const std::size_t at = random.below(text.size());
        switch (random.below(3)) {
          case 0:
            text[at] = alphabet[random.below(alphabet.size())];
            break;
          case 1:
            text.erase(at, 1 + random.below(4));
            break;
          default:
            text.insert(at, 1, alphabet[random.below(alphabet.size())]);
        }
        if (text.empty()) text = "{";
      }
      const auto problem = read(text);
      if (problem.ok()) {
        CAPTURE(text);
        CHECK(validate(*problem).empty());
      } else {
        CHECK_FALSE(problem.faults().front().where.empty());
      }
    }
  }
}

}  // namespace
}  // namespace saturn::plan

#include <doctest/doctest.h>

#include <map>

#include "saturn/base/diagnostic.h"
#include "saturn/base/digest.h"
#include "saturn/base/log.h"
#include "saturn/base/nearest.h"
#include "saturn/base/random.h"
#include "saturn/base/result.h"
#include "saturn/base/units.h"

namespace saturn {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return Diagnostic{.what = "odd"};
  return n / 2;
}

Result<int> quarter(int n) {
  SATURN_TRY(const int h, half(n));
  return half(h);
}

TEST_SUITE("base") {
  TEST_CASE("base/result: SATURN_TRY hands the first faults to the caller") {
    REQUIRE(quarter(8).ok());
    CHECK(*quarter(8) == 2);
    REQUIRE_FALSE(quarter(6).ok());
    CHECK(quarter(6).faults().front().what == "odd");
  }

  TEST_CASE("base/diagnostic: has three parts and never a control character") {
    const Diagnostic fault{
        .where = "a.toml:1:2", .what = "bad \x1b[31m", .expected = "good", .fix = "type it"};
    CHECK(to_text(fault) == "a.toml:1:2: error: bad \\x1b[31m\n  expected: good\n  fix: type it\n");
  }

  TEST_CASE("base/diagnostic: exit codes follow the kind and warnings do not count") {
    CHECK(exit_code(Diagnostics{{.kind = Kind::stale, .what = "x"}}) == 4);
    CHECK(exit_code(Diagnostics{{.kind = Kind::infeasible, .what = "x"}}) == 3);
    CHECK(exit_code(Diagnostics{{.what = "x", .severity = Severity::warning}}) == 0);
  }

  TEST_CASE("base/nearest: finds slips of the finger and nothing far away") {
    const std::vector<std::string> known = {"single", "ddp", "fsdp", "pipeline"};
    CHECK(nearest("fdsp", known) == "fsdp");
    CHECK(nearest("pipelin", known) == "pipeline");
    CHECK(nearest("quantum", known).empty());
    CHECK(nearest(std::string(100000, 'x'), known).empty());
  }

  TEST_CASE("base/units: durations and sizes are read and refused") {
    CHECK(*parse_duration_s("1.5m") == 90.0);
    CHECK(*parse_duration_s("2h") == 7200.0);
    CHECK_FALSE(parse_duration_s("-1").has_value());
    CHECK_FALSE(parse_duration_s("1e999").has_value());
    CHECK_FALSE(parse_duration_s("3 parsecs").has_value());
    CHECK(*parse_bytes("4GiB") == std::int64_t{4} << 30);
    CHECK_FALSE(parse_bytes("1e30").has_value());
    CHECK(format_duration(3723) == "1h 02m");
    CHECK(format_bytes(1536) == "1.5 KiB");
  }

  TEST_CASE("base/digest: does not depend on the pieces that content comes in") {
    std::string content;
    for (int i = 0; i < 5000; ++i) content += std::to_string(i * i);
    StreamedDigest digest;
    for (const std::size_t size : {1, 63, 1024, 100000}) {  // each after the one before was taken
      CAPTURE(size);
      for (std::size_t at = 0; at < content.size(); at += size)
        digest.add(std::string_view(content).substr(at, size));
      CHECK(digest.take() == digest_of(content));
    }
    CHECK(digest.take() == digest_of(""));
  }

  TEST_CASE("base/digest: agrees with the published check values") {
    CHECK(crc32c("123456789") == 0xe3069283U);
    CHECK(crc32c("6789", crc32c("12345")) == 0xe3069283U);
    CHECK(digest_of("") == "99aa06d3014798d86001c324468d497f");
  }

  TEST_CASE("base/random: is the same on every machine and covers its range") {
    Random random(7);
    std::map<std::uint64_t, int> counts;
    for (int i = 0; i < 6000; ++i) ++counts[random.below(6)];
    CHECK(counts.size() == 6);
    for (const auto& [value, count] : counts) {
      CAPTURE(value);
      CHECK(count > 800);
      CHECK(count < 1200);
    }
    CHECK(mix64(0) == 0xe220a8397b1dcdafULL);
    CHECK(mix_key(1, 2, 3) != mix_key(1, 3, 2));
  }

  TEST_CASE("base/log: an unknown level names the nearest") {
    const auto result = set_log_level("inof");
    REQUIRE_FALSE(result.ok());
    CHECK(result.faults().front().fix == "did you mean \"info\"?");
    CHECK(set_log_level("warn").ok());
  }
}

}  // namespace
}  // namespace saturn

// Feeds bytes to the reader of bare tables, and what it accepts to the planner: it must end, in bounded
// memory, with a plan that the check accepts or with faults that have a place.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "saturn/base/check.h"
#include "saturn/base/json.h"
#include "saturn/plan/check.h"
#include "saturn/plan/problem.h"
#include "saturn/plan/solve.h"

namespace {

void check_faults(const saturn::Diagnostics& faults) {
  for (const saturn::Diagnostic& fault : faults) {
    SATURN_CHECK(!fault.where.empty() && !fault.what.empty(), "a fault says what is wrong and where");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace saturn;
  const auto document = parse_json({reinterpret_cast<const char*>(data), size}, "table.json");
  if (!document.ok()) return 0;
  const auto problem = plan::table_from_json(*document, "table.json");
  if (!problem.ok()) {
    check_faults(problem.faults());
    return 0;
  }
  plan::SolveOptions options;
  options.iterations = 500;
  options.num_threads = 1;
  options.time_limit_s = 5.0;
  const auto plan = plan::solve(*problem, options);
  if (!plan.ok()) {
    check_faults(plan.faults());
    return 0;
  }
  SATURN_CHECK(plan::check(*problem, *plan).empty(), "a plan of a table that was read is feasible");
  return 0;
}

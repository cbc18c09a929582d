// Exact search for small problems with side constraints.

#pragma once

#include <cstdint>
#include <functional>

#include "plan/reduced.h"

namespace saturn::plan {

/// Whether `search_exactly` covers the problem: the makespan of few tasks under releases, order, deadlines,
/// memory and disk. Not where devices of a node differ (outages, shared GPUs) or jobs run already.
bool exactly_searchable(const Reduced& reduced);

struct ExactOutcome {
  Solution solution;      ///< a plan that ends before the one to beat; empty where none was found
  double ends_s = 0.0;    ///< the end of `solution`, else the one to beat
  bool complete = false;  ///< every plan was looked at: none ends before `ends_s`
  std::int64_t nodes = 0;
};

/// Looks for the plan that ends first, before `upper_s`, in at most `node_limit` steps. `stop` is asked every
/// few thousand of them.
ExactOutcome search_exactly(const Reduced& reduced, double upper_s, std::int64_t node_limit,
                            const std::function<bool()>& stop);

}  // namespace saturn::plan

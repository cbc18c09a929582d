// Rungs: the steps of a job at which a search looks at what it has reached.

#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "saturn/batch/batch.h"
#include "saturn/journal/run_state.h"

namespace saturn::search {

/// No job has more rungs than this: where there would be more, each is so many times as far from the next.
inline constexpr std::int64_t kMostRungs = 100;

/// Steps of the rungs of a job of `num_steps`, ascending and all before its end. asha: the first, and each
/// `reduction_factor` times the one before; otherwise the first, and one every `rung_every`. Empty without a
/// search.
std::vector<std::int64_t> rungs_of(const batch::SearchSettings& settings, std::int64_t num_steps);

/// The rung that a validation after `step` steps answers: the last one at or before it, unless the job has
/// been judged there. (It is later than its rung only where a crash lost what was said at the rung itself.)
std::optional<std::int64_t> rung_reached(const batch::SearchSettings& settings,
                                         const journal::JobRecord& record, std::int64_t step);

/// Steps after which an attempt that begins at `from_step` validates for the search: the rungs ahead, and
/// `from_step` itself where the rung at or before it has not been judged.
std::vector<std::int64_t> validations(const batch::SearchSettings& settings, const journal::JobRecord& record,
                                      std::int64_t from_step);

}  // namespace saturn::search

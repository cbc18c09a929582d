// What can be wrong with [search] where each of its keys is right.

#pragma once

#include "batch/faults.h"
#include "batch/read_data.h"
#include "saturn/batch/batch.h"

namespace saturn::batch {

/// Keys that the method needs, or that are another method's; the goal follows from the metric where it is not
/// written.
void settle_search(SearchSettings& search, const Positions& positions, Faults& faults);

/// A job that the search cannot compare: by a metric that its data do not have, or at no rung at all. `data`
/// is null where its source was faulty.
void check_searched(const Job& job, const ReadData* data, const SearchSettings& search,
                    const Positions& positions, Faults& faults);

}  // namespace saturn::batch

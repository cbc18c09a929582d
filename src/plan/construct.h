// Plans made in one pass: the baselines, and the starting points of the search.

#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "plan/decode.h"
#include "plan/reduced.h"

namespace saturn::plan {

/// One mode per task (positions in Task::modes).
using Allotment = std::vector<int>;

/// Takes the tasks in `order`, each in its allotted mode to the node where it ends first.
Solution list_schedule(const Reduced& reduced, const Allotment& allotment, const std::vector<int>& order);

/// All devices of a node, one job after another, as the jobs are listed.
Solution current_practice(const Reduced& reduced);

/// As few devices as each job runs on, as the jobs are listed.
Solution minimal_devices(const Reduced& reduced);

/// A mode and an order by chance.
Solution random_plan(const Reduced& reduced, std::uint64_t seed);

/// Starts from the fewest devices and gives one device more, while there are any, to the job that gains most
/// per device (Optimus); longest first.
Solution optimus_greedy(const Reduced& reduced);

/// The allotments worth list scheduling: for a sweep of caps on the time of a job, the mode with the least
/// area within the cap.
std::vector<Allotment> capped_allotments(const Reduced& reduced);

/// The best over `allotments` and three orders (longest, largest area, widest first); of those looked at
/// before `stop`, which is asked between schedules.
Solution best_list(const Reduced& reduced, const std::vector<Allotment>& allotments,
                   const std::function<bool()>& stop = nullptr);

}  // namespace saturn::plan

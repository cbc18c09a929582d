// Takes a batch into a run directory: what is finished stays finished, what changed begins again and says
// why.

#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "saturn/batch/batch.h"
#include "saturn/journal/observer.h"
#include "saturn/journal/run_directory.h"

namespace saturn::run {

/// Closes the attempts of a controller that died, ending ranks that survived it.
Result<void> recover(journal::RunDirectory& directory, journal::RunObserver& observer);

/// Writes the next batch copy and a batch_accepted event where anything differs from the batch in force.
Result<void> accept_batch(const batch::Batch& batch, const std::map<std::string, std::int64_t>& num_steps,
                          journal::RunDirectory& directory, journal::RunObserver& observer);

/// What the job is, kept beside its results: jobs/<job>/job.json.
Result<void> write_job_description(const batch::Job& job, const batch::DataSource& data,
                                   const std::string& result_digest, const std::string& path);

}  // namespace saturn::run

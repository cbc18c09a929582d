// Early stopping where no process is concerned: what the search decides is journaled, and jobs that do not
// run follow it. The same for a run loop and for a controller that takes over.

#pragma once

#include "saturn/batch/batch.h"
#include "saturn/journal/observer.h"
#include "saturn/journal/run_directory.h"
#include "saturn/search/decide.h"

namespace saturn::run {

/// The event that journals `decision`.
journal::Event event_of(const search::Decision& decision);

/// Journals what follows for the search from the state, until nothing does.
Result<void> follow_search(const batch::SearchSettings& settings, journal::RunDirectory& directory,
                           journal::RunObserver& observer);

/// Does to a job without processes what the search decided of it last, and says whether that changed it. What
/// a person has paused is left to that person.
Result<bool> obey_at_rest(const journal::JobRecord& record, journal::RunDirectory& directory,
                          journal::RunObserver& observer);

}  // namespace saturn::run

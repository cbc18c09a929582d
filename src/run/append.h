// The way into the journal of a run that somebody watches.

#pragma once

#include "saturn/journal/observer.h"
#include "saturn/journal/run_directory.h"

namespace saturn::run {

/// Appends `event` and shows it, with the state that includes it.
Result<void> append(journal::Event event, journal::RunDirectory& directory, journal::RunObserver& observer);

}  // namespace saturn::run

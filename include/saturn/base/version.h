// The version of this build, and of how it trains.

#pragma once

namespace saturn {

/// "0.1.0"; in every artefact's header.
const char* version();

/// Raised whenever the same job would train differently; part of a job's result digest.
inline constexpr int kTrainingVersion = 1;

}  // namespace saturn

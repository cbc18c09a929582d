// Names of what lies beside a job's checkpoints.

#pragma once

namespace saturn::checkpoint {

inline constexpr const char* kLatest = "LATEST";      ///< holds the name of the newest
inline constexpr const char* kUnfinished = ".tmp";    ///< ending of one that is being written
inline constexpr const char* kUnwanted = ".removed";  ///< ending of one that is being removed

}  // namespace saturn::checkpoint

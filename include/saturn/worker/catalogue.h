// Techniques from outside, as far as the controller asks about them: a short child opens the library, never
// this process.

#pragma once

#include <string>
#include <vector>

#include "saturn/base/result.h"
#include "saturn/batch/batch.h"
#include "saturn/batch/technique_spec.h"

namespace saturn::worker {

/// How the child is started.
struct CatalogueChild {
  std::string executable = "/proc/self/exe";  ///< saturn
  double deadline_s = 30.0;
};

/// Asks each library of the batch what it can do with the batch's jobs on these devices, and makes it known
/// (batch::add_technique): one child a library.
///
/// Errors: Kind::input where the batch names the library: it cannot be loaded, holds no technique or one of
/// another name, is of another build, or its answers throw, crash or take longer than the deadline.
Result<void> learn_techniques(const batch::Batch& batch, const std::vector<batch::DeviceGroup>& groups,
                              const CatalogueChild& child = {});

}  // namespace saturn::worker
